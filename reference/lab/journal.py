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
        self._seen: set[int] = set()

    def read(self, *, at: float = 0.0) -> None:
        """Record what was committed since the last call, late commits included.

        ``at``, on the history's clock, is when that began, where it is known: a relay may be quicker than this look.
        """
        rows = self._conn().execute(
            "SELECT entry, event_id, order_id, version FROM order_changes WHERE entry <> ALL(%s) ORDER BY entry",
            (list(self._seen),),
        )
        for entry, event_id, order_id, version in rows:
            self._seen.add(entry)
            self._history.add(Record(op="commit", event=event_id, key=order_id, seq=version, process="shop", at=at))
