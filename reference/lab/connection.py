"""The learner's own connection: made anew where it was lost, or left stranded by an interrupt.

Ctrl-C, or JupyterLab's stop button, strikes between any two steps of psycopg. What it leaves behind is then neither closed nor
broken, and yet refuses every command for ever, or keeps open a transaction that nobody is in any more. Killed at any line:
Postgres rolls back what was not committed.
"""

from __future__ import annotations

import select
import threading
from contextlib import suppress
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus

__all__ = ["OwnConnection"]

OPEN: Final = {TransactionStatus.INTRANS, TransactionStatus.INERROR}
UNUSABLE: Final = {TransactionStatus.ACTIVE, TransactionStatus.UNKNOWN}


class OwnConnection:
    """In autocommit mode, to the database at ``dsn``. Safe from any thread."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._renewing = threading.Lock()
        self._conn = self._connected()
        self._abandoned = False

    def abandon(self) -> None:
        """Whoever worked on it was broken off in the middle: the next who asks is given another one."""
        self._abandoned = True

    def usable(self) -> psycopg.Connection[Any]:
        """The same one as long as it is in order, in a transaction or not.

        Raises :class:`psycopg.OperationalError` where Postgres does not answer, which says what brings it back.
        """
        with self._renewing:
            if self._is_lost():
                self._renew()
            return self._conn

    def idle(self) -> psycopg.Connection[Any]:
        """One that is in no transaction: what an interrupt, or a forgotten BEGIN, has left open is rolled back with its session.

        Raises what :meth:`usable` does.
        """
        with self._renewing:
            if self._is_lost() or self._conn.info.transaction_status in OPEN:
                self._renew()
            return self._conn

    def _renew(self) -> None:
        """The old one is closed first: it may hold locks that the new one waits for."""
        self._conn.close()
        self._conn, self._abandoned = self._connected(), False

    def _is_lost(self) -> bool:
        return self._abandoned or self._conn.closed or _is_stranded(self._conn) or _is_hung_up(self._conn)

    def _connected(self) -> psycopg.Connection[Any]:
        try:
            return psycopg.connect(self._dsn, autocommit=True)
        except psycopg.OperationalError as error:
            raise psycopg.OperationalError(f"Postgres does not answer; bring it back with: eda up postgres ({error})") from None


def _is_stranded(conn: psycopg.Connection[Any]) -> bool:
    """In the middle of a command that nobody waits for."""
    if conn.info.transaction_status not in UNUSABLE:
        return False
    with conn.lock:  # whoever runs a command holds it: once it is ours, that command is over, or was left
        return conn.info.transaction_status in UNUSABLE


def _is_hung_up(conn: psycopg.Connection[Any]) -> bool:
    """Postgres was killed, or started again, since it was used last: nobody notices before a command fails."""
    heard = select.poll()  # not select.select, which fails on a process with more than a thousand files open
    heard.register(conn, select.POLLIN)
    if conn.info.transaction_status != TransactionStatus.IDLE or not heard.poll(0):
        return False
    with conn.lock:
        if conn.info.transaction_status == TransactionStatus.IDLE:  # nobody has begun a command meanwhile
            with suppress(psycopg.OperationalError):
                conn.pgconn.consume_input()  # or Postgres has something to say, and the connection is in order
        return conn.closed
