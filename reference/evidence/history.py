"""An append-only history of what was done to events, and by whom.

Recorders write :class:`Record` s; the checker and the board only read them. In memory a history is a list that threads
may append to and read at once; on disk it is JSON lines, a file for each process, so a process killed at any line leaves
whole records and at most one torn last line, which :func:`read` skips. ``docs/history.md`` describes the format for
those who write histories elsewhere. Source: Jepsen's histories (invoke, ok, fail, info).
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from reference.evidence.reason import reason

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FIELDS", "OF_NO_EVENT", "History", "Operation", "Phase", "Record", "line", "present", "read"]

Operation = Literal[
    "commit", "publish", "join", "assign", "deliver", "apply", "skip", "ack", "nack", "read", "lag", "fault",
]  # fmt: skip
Phase = Literal["invoke", "ok", "fail", "info"]
OF_NO_EVENT: Final[frozenset[Operation]] = frozenset({"join", "assign", "lag", "fault"})  # every other says whose it is


@with_config(ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One thing observed, in the vocabulary of Jepsen's histories.

    ``phase`` is ``invoke`` before an attempt and then ``ok`` (it happened), ``fail`` (it did not) or ``info`` (nobody
    knows). ``at`` is in seconds of the machine's monotonic clock, which its processes share. ``seq`` numbers the events
    of ``key`` in commit order from 1. ``offset`` is a place in the log of ``topic`` and ``partition``, and absent where a
    broker numbers nothing. ``process`` is who did it: an operating system's process, a thread, or one member of a group,
    but always one that does one thing after another. ``attempt`` above 1 is the broker's word that a delivery is not the
    first. ``value`` is the depth of a ``lag`` sample, ``note`` the name of a ``fault``, or of where a group joins.
    """

    op: Operation
    phase: Phase = "ok"
    event: str = ""
    key: str = ""
    seq: int | None = None
    topic: str = ""
    partition: int | None = None
    offset: int | None = None
    group: str = ""
    process: str = ""
    attempt: int | None = None
    value: float | None = None
    note: str = ""
    at: float = 0.0


FIELDS: Final = tuple(field.name for field in fields(Record))
_RECORD: Final = TypeAdapter(Record)


class History:
    """A growing list of records; with a ``path``, written to a file as well.

    ``path`` is a file of this process's own, or a directory, in which such a file is made. Several processes that append
    to one file would tear each other's lines when one of them is killed. ``clock`` is what records are stamped with.
    """

    def __init__(
        self, records: Iterable[Record] = (), *, path: Path | str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._records, self._clock, self._merging = list(records), clock, threading.Lock()
        self._file = _own_file(Path(path)) if path else None
        self._descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if self._file else None

    def add(self, record: Record) -> Record:
        """Stamp the record with the time and this process, where it has none, and append it. Safe from any thread.

        Once it returns, the record survives this process; what the file system refuses raises :class:`OSError`.
        """
        stamped = record if record.at else replace(record, at=self._clock(), process=record.process or _process())
        if self._descriptor is not None:
            _write_whole(self._descriptor, line(stamped))
        with self._merging:
            self._records.append(stamped)
        return stamped

    def extend(self, records: Iterable[Record]) -> None:
        """Merge another history in; order between processes is by ``at``."""
        more = list(records)
        with self._merging:
            self._records = sorted([*self._records, *more], key=_at)

    def since(self, position: int) -> list[Record]:
        """The records from ``position`` on, as they stood at this moment."""
        return self._records[position:]

    def done(self, op: Operation) -> list[Record]:
        """The records of what happened: those that ended ``ok``."""
        return [record for record in self if record.op == op and record.phase == "ok"]

    def frame(self) -> pd.DataFrame:
        """The history as a table, a row a record and a column a field, for looking at it in a notebook."""
        import pandas as pd

        return pd.DataFrame([[getattr(record, name) for name in FIELDS] for record in self], columns=list(FIELDS))

    def save(self, path: Path | str) -> None:
        """Write all of it to one file, which :func:`read` reads back and ``eda check`` judges."""
        with Path(path).open("wb") as file:
            file.writelines(map(line, self))

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records[:])

    def __len__(self) -> int:
        return len(self._records)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def read(*paths: Path) -> list[Record]:
    """The whole records of these JSON-lines files, and of those in these directories, in time order.

    A torn last line, left by a kill, is skipped. Raises :class:`ValueError` that names the file and the line when any other
    line is not a record, or lacks the event that its operation is about, or when a directory holds no history, and
    :class:`OSError` for what cannot be read.
    """
    files = {file.resolve(): file for path in paths for file in _files(path)}  # a pipe cannot be opened by what it resolves to
    records = [record for file in files.values() for record in _read(file)]
    records.sort(key=_at)
    return records


def _read(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = _RECORD.validate_json(line)
            except ValidationError as error:
                if not line.endswith(b"\n") and _is_torn(line):
                    return
                if line.strip():
                    raise ValueError(f"{path}:{number} is not a history record: {reason(error, FIELDS)}") from None
                continue
            if not record.event and record.op not in OF_NO_EVENT:
                # Judged, it would be no event's, and a history of nothing else would be called clean.
                raise ValueError(f"{path}:{number} is not a history record: event: missing, and {record.op} needs it")
            yield record


def _is_torn(line: bytes) -> bool:
    """A last line that stops in the middle of a record: it begins like one, and is no whole JSON."""
    try:
        json.loads(line)
    except ValueError:
        return line.startswith(b"{")
    except RecursionError:  # no record is that deep
        return False
    return False


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.jsonl"))
    if not found:
        raise ValueError(f"{path} holds no history: no file in it ends in .jsonl")
    return found


def _process() -> str:
    """This thread: within a process several do things at once."""
    thread = threading.current_thread()
    return str(os.getpid()) if thread is threading.main_thread() else f"{os.getpid()}-{thread.native_id}"


def _own_file(path: Path) -> Path:
    return path / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl" if path.is_dir() else path


def present(record: Record) -> dict[str, Any]:
    """The fields that say something, as they are written."""
    return {name: value for name in FIELDS if (value := getattr(record, name)) not in (None, "")}


def line(record: Record) -> bytes:
    """The record as it stands on disk."""
    return json.dumps(present(record)).encode() + b"\n"


def _write_whole(descriptor: int, line: bytes) -> None:
    written = os.write(descriptor, line)
    while written < len(line):  # a disk that was full and is not any more
        written += os.write(descriptor, line[written:])


def _at(record: Record) -> float:
    return record.at
