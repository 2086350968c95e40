"""Rows that change data capture cannot carry yet: put aside in the database, so that the slot may move on without them.

A slot's position is one number for all keys: it cannot stand still for one key and move for the others, and held still it
would keep the log for ever. So a row that cannot go, and whatever its key writes behind it, is copied to ``outbox_held``
and committed before the slot moves; the outbox itself will not do as its keeper, for a writer may delete the row there in
the very transaction that inserted it. Killed at any line: the rows are in the log, or here, or in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import psycopg

__all__ = ["Aside"]

_TEXTS: Final = "position, id, aggregatetype, aggregateid, type, payload, headers, created_at"
_NEXT: Final = (
    f"SELECT n, {_TEXTS} FROM outbox_held WHERE n > %s AND NOT EXISTS (SELECT FROM unnest(%s::text[], %s::text[])"
    " AS standing (type, id) WHERE standing.type = aggregatetype AND standing.id = aggregateid)"
    " ORDER BY n LIMIT %s FOR UPDATE"
)
_PUT: Final = (
    f"INSERT INTO outbox_held ({_TEXTS}, reason) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (position) DO NOTHING"
)

_Row = tuple[Any, ...]


class Aside:
    """What is put aside in ``conn``'s database, in commit order. Every call belongs into a transaction of the caller's."""

    def __init__(self, conn: psycopg.Connection[Any], *, page: int) -> None:
        self._conn, self._page = conn, page

    def keys(self) -> set[tuple[str, str]]:
        """(aggregate type, aggregate id) of everything put aside: what else these write must stand behind it."""
        return set(self._conn.execute("SELECT DISTINCT aggregatetype, aggregateid FROM outbox_held"))

    def put(self, rows: Sequence[tuple[_Row, str]]) -> None:
        """Add rows, each with its reason. A row that is here already, because the log showed it twice, keeps its place."""
        if rows:
            # The slot's position is flushed by checkpoints, whatever this session's commits wait for: be there first.
            self._conn.execute("SET LOCAL synchronous_commit = on")
            with self._conn.cursor() as cursor:
                cursor.executemany(_PUT, [(*row, reason) for row, reason in rows])

    def pages(self, standing: set[tuple[str, str]]) -> Iterator[list[_Row]]:
        """All rows, a page at a time, locked against whoever mends them; a key is left out once it is in ``standing``."""
        last = 0
        while True:
            types, ids = [t for t, _ in standing], [i for _, i in standing]
            found = self._conn.execute(_NEXT, (last, types, ids, self._page)).fetchall()
            if not found:
                return
            last = found[-1][0]
            yield [row[1:] for row in found]

    def remove(self, rows: Sequence[_Row]) -> None:
        """Forget rows that have been published."""
        self._conn.execute("DELETE FROM outbox_held WHERE position = ANY(%s)", ([row[0] for row in rows],))
