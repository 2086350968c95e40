"""Idempotency keys in a Postgres table, ``idempotency_keys`` of ``schema.sql``.

Killed at any line: each call is one transaction of its own, so a key is where the last call that returned left it, or one
call further.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus

from reference.delivery.idempotency.protocol import Answer, Begun, Busy, Done, LeaseLost

__all__ = ["SqlStore"]

# clock_timestamp(): now() is the statement's start, and a wait for the row may have come in between.
_BEGIN: Final = (
    "INSERT INTO idempotency_keys AS held (key, status, owner, lease_until)"
    " VALUES (%(key)s, 'started', %(owner)s, clock_timestamp() + %(lease)s)"
    " ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, changed_at = clock_timestamp(),"
    " lease_until = clock_timestamp() + %(lease)s"
    " WHERE held.status = 'started' AND (held.owner = excluded.owner OR held.lease_until <= clock_timestamp())"
    " RETURNING lease_until"
)
_FINISH: Final = (
    "UPDATE idempotency_keys SET status = 'done', changed_at = clock_timestamp(),"
    " result = CASE status WHEN 'done' THEN result ELSE %s END WHERE key = %s AND owner = %s"
)


class SqlStore:
    """Keys in the database behind ``conn``, which must be in autocommit mode and outside a transaction of the caller's.

    A key begun inside a transaction would be seen by nobody until the effect is done: that is refused.
    """

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn

    def begin(self, key: str, owner: str, *, lease: timedelta) -> Answer:
        while True:
            taken = self._execute(_BEGIN, {"key": key, "owner": owner, "lease": lease}).fetchone()
            if taken is not None:
                return Begun(taken[0])
            held = self._execute(
                "SELECT status, result, lease_until FROM idempotency_keys WHERE key = %s", (key,)
            ).fetchone()  # None: abandoned or pruned this moment, so it is ours to try again
            if held is not None:
                return Done(held[1]) if held[0] == "done" else Busy(held[2])

    def finish(self, key: str, owner: str, *, result: str) -> None:
        if self._execute(_FINISH, (result, key, owner)).rowcount == 0:
            raise LeaseLost(key, owner)

    def abandon(self, key: str, owner: str) -> None:
        self._execute("DELETE FROM idempotency_keys WHERE key = %s AND owner = %s AND status = 'started'", (key, owner))

    def prune(self, *, older_than: timedelta) -> int:
        """Forget keys that were done, or whose lease was over, longer ago than that; returns how many.

        It must outlast the longest redelivery, replay or redrive: a forgotten key's effect runs again.
        """
        return self._execute(
            "DELETE FROM idempotency_keys WHERE changed_at < now() - %(age)s"
            " AND (status = 'done' OR lease_until < now() - %(age)s)",
            {"age": older_than},
        ).rowcount

    def _execute(self, query: str, parameters: Any) -> psycopg.Cursor[Any]:
        if not self._conn.autocommit or self._conn.info.transaction_status != TransactionStatus.IDLE:
            raise psycopg.ProgrammingError("idempotency keys need a connection in autocommit mode, outside a transaction")
        return self._conn.execute(query, parameters)
