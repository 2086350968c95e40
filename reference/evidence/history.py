"""An append-only history of what was done to events, and by whom.

Recorders write :class:`Record` s; the checker and the board only read them. In memory a history is a list that threads
may append to and read at once; on disk it is JSON lines, so a process killed at any line leaves whole records and at
most one torn last line, which :func:`read` skips.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

__all__ = ["History", "Operation", "Record", "read"]

Operation = Literal["commit", "publish", "deliver", "apply", "ack", "lag", "fault"]
Phase = Literal["invoke", "ok", "fail", "info"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One thing observed, in the vocabulary of Jepsen's histories.

    ``phase`` is ``invoke`` before an attempt and then ``ok`` (it happened), ``fail`` (it did not) or ``info`` (nobody
    knows). ``at`` is in seconds of the machine's monotonic clock, which its processes share. ``seq`` numbers the events
    of ``key`` in commit order from 1. ``value`` is the depth of a ``lag`` sample, ``note`` the name of a ``fault``.
    """

    op: Operation
    phase: Phase = "ok"
    event: str = ""
    key: str = ""
    seq: int | None = None
    partition: int | None = None
    offset: int | None = None
    group: str = ""
    process: str = ""
    value: float | None = None
    note: str = ""
    at: float = 0.0


class History:
    """A growing list of records, optionally also a JSON-lines file that other processes append to as well."""

    def __init__(self, records: Iterable[Record] = (), *, path: Path | None = None) -> None:
        self._records = list(records)
        self._file = path.open("a", buffering=1) if path else None

    def add(self, record: Record) -> Record:
        """Stamp the record with the time and this process, where it has none, and append it. Safe from any thread."""
        stamped = record if record.at else _stamp(record)
        self._records.append(stamped)
        if self._file:
            self._file.write(json.dumps({k: v for k, v in asdict(stamped).items() if v not in (None, "")}) + "\n")
        return stamped

    def extend(self, records: Iterable[Record]) -> None:
        """Merge another history in; order between processes is by ``at``."""
        self._records = sorted([*self._records, *records], key=lambda r: r.at)

    def since(self, position: int) -> list[Record]:
        """The records from ``position`` on, as they stood at this moment."""
        return self._records[position:]

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records[:])

    def __len__(self) -> int:
        return len(self._records)

    def close(self) -> None:
        if self._file:
            self._file.close()


def read(path: Path) -> list[Record]:
    """The whole records of a JSON-lines history, in time order; a torn last line, left by a kill, is skipped.

    Raises :class:`ValueError` that names the line when any other line is not a record.
    """
    lines = path.read_text().split("\n")
    records = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            records.append(Record(**json.loads(line)))
        except (TypeError, ValueError) as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}:{number} is not a history record: {error}") from error
    return sorted(records, key=lambda r: r.at)


def _stamp(record: Record) -> Record:
    return replace(record, at=time.monotonic(), process=record.process or str(os.getpid()))
