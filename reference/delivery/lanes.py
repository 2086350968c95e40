"""Which relay carries which keys: lanes, held by advisory locks on the relay's own connection.

A lane is a share of the 64 buckets that keys hash to. While a relay holds a lane's locks, no other relay reads its keys,
whatever number of lanes each was started with. Killed at any line: Postgres frees the locks with the connection, and the
next relay that asks gets them. Source: guide, Outbox Relay Implementations; PostgreSQL, Explicit Locking.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import psycopg

__all__ = ["BUCKETS", "Lanes"]

BUCKETS: Final = 64
_MEMBER: Final = 1 << 20  # from here on, object ids no bucket has: relays of the same number of lanes share one, to be counted


class Lanes:
    """The lanes one relay holds. Not thread-safe; ``conn`` must be in autocommit mode and outside a transaction."""

    def __init__(
        self, conn: psycopg.Connection[Any], count: int, *, every_s: float = 0.5, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not 1 <= count <= BUCKETS:
            raise ValueError(f"lanes must be between 1 and {BUCKETS}, got {count}")
        self._conn, self._count, self._every_s, self._clock = conn, count, every_s, clock
        # Relays of another number of lanes do not count: left to them, some of ours would be nobody's.
        self._member = _MEMBER + count
        self._held: set[int] = set()
        self._tended_at = float("-inf")
        row = conn.execute("SELECT 'outbox'::regclass::oid::int").fetchone()
        self._table = row[0] if row else 0
        conn.execute("SELECT pg_advisory_lock_shared(%s, %s)", (self._table, self._member))

    def tend(self) -> list[int]:
        """The buckets that are this relay's now. To be called between rounds: it may let lanes go to another relay."""
        if self._clock() - self._tended_at >= (self._every_s if self._held else self._every_s / 10):
            self._tended_at = self._clock()
            share = -(-self._count // max(1, self._relays()))
            for lane in sorted(self._held)[share:]:
                self._release(lane)
            for lane in sorted(set(range(self._count)) - self._held):
                if len(self._held) < share:
                    self._claim(lane)
        return [bucket for lane in sorted(self._held) for bucket in self._buckets(lane)]

    def _relays(self) -> int:
        row = self._conn.execute(
            "SELECT count(DISTINCT pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ShareLock'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND classid = %s::oid AND objid = %s::oid",
            (self._table, self._member),
        ).fetchone()
        return int(row[0]) if row else 1

    def _claim(self, lane: int) -> None:
        """All of a lane's buckets or none: a relay started with another number of lanes may hold some of them."""
        wanted = self._buckets(lane)
        got = self._each("pg_try_advisory_lock", wanted)
        if got == wanted:
            self._held.add(lane)
        else:
            self._each("pg_advisory_unlock", got)

    def _release(self, lane: int) -> None:
        self._each("pg_advisory_unlock", self._buckets(lane))
        self._held.discard(lane)

    def _each(self, function: str, buckets: list[int]) -> list[int]:
        rows = self._conn.execute(
            f"SELECT bucket, {function}(%s, bucket) FROM unnest(%s::int[]) AS bucket", (self._table, buckets)
        )
        return sorted(bucket for bucket, done in rows if done)

    def _buckets(self, lane: int) -> list[int]:
        return list(range(lane, BUCKETS, self._count))
