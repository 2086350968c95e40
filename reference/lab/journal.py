"""What the shop itself knows to have been committed, read from its own table into the history."""

from __future__ import annotations

from typing import Any

import psycopg

from reference.evidence.history import History, Record

__all__ = ["CommitJournal"]


class CommitJournal:
    """Reads ``order_changes`` on: a change is in it exactly when its transaction was committed, whoever crashed after."""

    def __init__(self, conn: psycopg.Connection[Any], history: History) -> None:
        self._conn, self._history = conn, history
        self._seen: set[int] = set()

    def read(self) -> None:
        """Record what was committed since the last call, late commits included."""
        rows = self._conn.execute(
            "SELECT entry, event_id, order_id, version FROM order_changes WHERE entry <> ALL(%s) ORDER BY entry",
            (list(self._seen),),
        )
        for entry, event_id, order_id, version in rows:
            self._seen.add(entry)
            self._history.add(Record(op="commit", event=event_id, key=order_id, seq=version))
