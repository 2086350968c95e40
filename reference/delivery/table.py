"""The outbox in Postgres as a round needs it, through two sessions: one reads, the other deletes behind it.

What enters is a database's address, what leaves is pages of rows and, once they have gone, their absence. Killed at any
line: Postgres ends both sessions, frees the lanes, and rolls back whatever was not committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from reference.delivery import session
from reference.delivery.held import NOT_HELD
from reference.delivery.lanes import Lanes
from reference.delivery.machine import HERE, Machine
from reference.delivery.round import Carried, Keys, Overtaken, Rows
from reference.delivery.rows import COLUMNS

__all__ = ["Table"]


class Table:
    """See :class:`reference.delivery.round.Table`. Raises :class:`psycopg.OperationalError`, naming the address, when away."""

    def __init__(self, dsn: str, *, lanes: int, lease_s: float = session.LEASE_S, machine: Machine = HERE) -> None:
        self._dsn, self._lane_count, self._lease_s, self._machine = dsn, lanes, lease_s, machine
        self._reader: tuple[psycopg.Connection[Any], Lanes] | None = None
        self._marker: psycopg.Connection[Any] | None = None

    def connect(self) -> tuple[psycopg.Connection[Any], Lanes]:
        """The reading session and its lanes, opened on first use, and anew once it was cut off."""
        if self._reader is not None and self._reader[0].closed:  # the lanes are gone with it
            self.close()
        if self._reader is None:
            reader = session.reader(self._dsn, lease_s=self._lease_s, connect=self._machine.connect)
            self._reader = reader, Lanes(reader, self._lane_count, clock=self._machine.clock)
        return self._reader

    def buckets(self) -> list[int]:
        """Those that are ours now, until this is asked again. To be called between rounds."""
        return self.connect()[1].tend()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        try:
            with self._reading.transaction():
                yield
        except psycopg.errors.SerializationFailure as error:
            raise Overtaken from error

    def read(self, buckets: list[int], *, after: int, held: Keys, rows: int, size: int) -> Rows:
        return self._reading.execute(
            f"SELECT {COLUMNS} FROM (SELECT *, sum(pg_column_size(payload)) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING)"
            f" - pg_column_size(payload) AS before FROM outbox WHERE lane = ANY(%s) AND position > %s AND {NOT_HELD}"
            " ORDER BY position LIMIT %s) AS page WHERE before < %s ORDER BY position",
            (buckets, after, *held, rows, size),
        ).fetchall()

    def export(self) -> str:
        return session.export_snapshot(self._reading)

    def delete(self, carried: Carried) -> None:
        _delete(self._reading, carried)

    def mark(self, snapshot: str, carried: Carried, *, deleted: Callable[[], None]) -> None:
        if self._marker is None or self._marker.closed:
            self._marker = session.marker(self._dsn, lease_s=self._lease_s, connect=self._machine.connect)
        try:
            with self._marker.transaction():
                session.import_snapshot(self._marker, snapshot)
                _delete(self._marker, carried)
                deleted()
        except psycopg.errors.SerializationFailure as error:
            raise Overtaken from error

    @property
    def _reading(self) -> psycopg.Connection[Any]:
        """The session as it is, even cut off: one opened in its place would read without its lanes."""
        if self._reader is None:
            raise RuntimeError("no round without its buckets: ask for them first")
        return self._reader[0]

    def wait(self, timeout_s: float) -> None:
        """Sleep until a transaction that wrote to the outbox commits, or time is up."""
        reader, _ = self.connect()
        for _ in reader.notifies(timeout=timeout_s, stop_after=1):
            return

    def close(self) -> None:
        """Let go of the lanes and of whatever the sessions still had open; :meth:`connect` begins anew."""
        for conn in (self._reader[0] if self._reader else None, self._marker):
            if conn is not None:
                conn.close()
        self._reader = self._marker = None


def _delete(conn: psycopg.Connection[Any], carried: Carried) -> None:
    """Delete exactly what was read between two positions and went; a key held meanwhile keeps the rest of its rows."""
    conn.execute(
        "DELETE FROM outbox WHERE position BETWEEN %s AND %s AND lane = ANY(%s)"
        f" AND ({NOT_HELD} OR position = ANY(%s::bigint[]))",
        (carried.first, carried.last, carried.buckets, *carried.held, carried.gone_before),
    )
