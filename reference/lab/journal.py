"""What the shop itself knows to have been committed, read from its own table into the history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from reference.evidence.history import History, Record

__all__ = ["CommitJournal"]


class CommitJournal:
    """Reads ``order_changes`` on: a change is in it exactly when its transaction was committed, whoever crashed after.

    ``conn`` is asked for each time: Postgres may have been restarted, and every connection with it.
    """

    def __init__(self, conn: Callable[[], psycopg.Connection[Any]], history: History) -> None:
        self._conn, self._history = conn, history
        self._last = 0
        self._missing = set[int]()  # entries before the last that were rolled back, or that are not committed yet

    def read(self, *, at: float = 0.0) -> None:
        """Record what was committed since the last call, late commits included.

        ``at``, on the history's clock, is when that began, where it is known: a relay may be quicker than this look.
        """
        rows = self._conn().execute(
            "SELECT entry, event_id, order_id, version FROM order_changes WHERE entry > %s OR entry = ANY(%s) ORDER BY entry",
            (self._last, list(self._missing)),
        ).fetchall()
        for entry, event_id, order_id, version in rows:
            self._history.add(Record(op="commit", event=event_id, key=order_id, seq=version, process="shop", at=at))
            # Only now: an interrupt in between has it told twice, which nobody minds, and not left out.
            self._missing.discard(entry)
            self._missing.update(range(self._last + 1, entry))
            self._last = max(self._last, entry)
