"""Four relays that look right, and lose or reorder events when commits overlap or a process dies.

Each has ``run_once``, which returns how many events it published, and nothing else in common.
The one to use is :class:`~reference.delivery.relay.Relay`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from reference.brokers import Broker
from reference.delivery.rows import COLUMNS, Envelope, Page

__all__ = ["LastIdRelay", "MarkFirstRelay", "SkipLockedRelay", "TransactionIdRelay"]


class _Publishing:
    def __init__(self, conn: psycopg.Connection[Any], broker: Broker, route: str) -> None:
        self._conn, self._broker, self._envelope = conn, broker, Envelope(route)
        conn.execute("SET timezone = 'UTC'")

    def _publish(self, rows: list[tuple[Any, ...]]) -> None:
        for row in rows:
            self._envelope.check(row)
        self._broker.publish(Page(self._envelope, rows))


class LastIdRelay(_Publishing):
    """Remembers the last position it published and asks for later ones.

    **Loses** a row whose transaction drew its position early and committed late: a sequence's order is not commit order.
    """

    def __init__(self, conn: psycopg.Connection[Any], broker: Broker, *, route: str = "outbox.event.{aggregatetype}") -> None:
        super().__init__(conn, broker, route)
        self._last = 0

    def run_once(self) -> int:
        rows = self._conn.execute(f"SELECT {COLUMNS} FROM outbox WHERE position > %s ORDER BY position", (self._last,)).fetchall()
        self._publish(rows)
        self._last = rows[-1][0] if rows else self._last
        return len(rows)


class TransactionIdRelay(_Publishing):
    """Waits until every older transaction has ended, then goes by (transaction id, position).

    Loses nothing, and **reorders a key**: a transaction may draw its id long before it takes the aggregate's lock.
    """

    def __init__(self, conn: psycopg.Connection[Any], broker: Broker, *, route: str = "outbox.event.{aggregatetype}") -> None:
        super().__init__(conn, broker, route)
        self._last = (0, 0)

    def run_once(self) -> int:
        rows = self._conn.execute(
            f"SELECT {COLUMNS}, xmin::text::bigint FROM outbox"
            " WHERE xmin::text::bigint < pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
            " AND (xmin::text::bigint, position) > (%s, %s) ORDER BY xmin::text::bigint, position",
            self._last,
        ).fetchall()
        self._publish([row[:-1] for row in rows])
        self._last = (rows[-1][-1], rows[-1][0]) if rows else self._last
        return len(rows)


class SkipLockedRelay(_Publishing):
    """Locks a page of rows, skipping those another relay has locked, publishes and deletes them.

    Loses nothing, and **reorders a key** as soon as there are two: the second relay's page may be published first.
    """

    def __init__(
        self, conn: psycopg.Connection[Any], broker: Broker, *, page: int = 10, route: str = "outbox.event.{aggregatetype}",
        at: Callable[[str], None] = lambda point: None,
    ) -> None:  # fmt: skip
        super().__init__(conn, broker, route)
        self._page, self._at = page, at

    def run_once(self) -> int:
        with self._conn.transaction():
            rows = self._conn.execute(
                f"SELECT {COLUMNS} FROM outbox ORDER BY position LIMIT %s FOR UPDATE SKIP LOCKED", (self._page,)
            ).fetchall()
            self._at("read")
            self._publish(rows)
            self._conn.execute("DELETE FROM outbox WHERE position = ANY(%s)", ([row[0] for row in rows],))
        return len(rows)


class MarkFirstRelay(_Publishing):
    """Deletes a page and then publishes it, so that nothing goes twice.

    **Loses** the page when it dies in between, or when the broker does not take it.
    """

    def __init__(
        self, conn: psycopg.Connection[Any], broker: Broker, *, page: int = 10, route: str = "outbox.event.{aggregatetype}"
    ) -> None:
        super().__init__(conn, broker, route)
        self._page = page

    def run_once(self) -> int:
        with self._conn.transaction():
            rows = self._conn.execute(f"SELECT {COLUMNS} FROM outbox ORDER BY position LIMIT %s", (self._page,)).fetchall()
            self._conn.execute("DELETE FROM outbox WHERE position = ANY(%s)", ([row[0] for row in rows],))
        self._publish(rows)
        return len(rows)
