"""The relay's two database sessions, set up so that a relay that hangs or vanishes frees what it holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

__all__ = ["CUT_OFF", "LEASE_S", "address", "export_snapshot", "import_snapshot", "marker", "reader"]

Connect = Callable[..., psycopg.Connection[Any]]

LEASE_S: Final = 30.0

# What libpq reports when a session is gone. One that was idle in a transaction past its lease is told so by another family.
CUT_OFF: Final = (psycopg.OperationalError, psycopg.errors.IdleInTransactionSessionTimeout)

_READER: Final = """
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET synchronous_commit = off;
SET idle_session_timeout = {lease_ms};
SET idle_in_transaction_session_timeout = {lease_ms};
SET tcp_user_timeout = {lease_ms};
SET tcp_keepalives_idle = 10;
SET tcp_keepalives_interval = 5;
SET tcp_keepalives_count = 3;
LISTEN outbox;
"""


def reader(dsn: str, *, lease_s: float = LEASE_S, connect: Connect = psycopg.connect) -> psycopg.Connection[Any]:
    """The session that holds the lanes and reads rounds, each in one snapshot.

    The idle timeouts are the lease: a frozen process is cut off after ``lease_s``, and its advisory locks go with it. One that
    froze with half of a page read is not idle to Postgres, which waits to send the rest: there TCP's own timeout is the lease.
    Over a Unix socket, and where the server's system has no ``TCP_USER_TIMEOUT``, such a one keeps its lanes until it wakes.
    Raises :class:`psycopg.OperationalError` that names the address.
    """
    conn = _connect(dsn, connect)
    conn.execute(_READER.format(lease_ms=round(1000 * lease_s)))
    row = conn.execute("SELECT to_regclass('outbox')").fetchone()
    if row is None or row[0] is None:
        conn.close()
        raise psycopg.OperationalError(f"database {address(dsn)} has no outbox: apply what `eda schema` prints")
    return conn


def marker(dsn: str, *, lease_s: float = LEASE_S, connect: Connect = psycopg.connect) -> psycopg.Connection[Any]:
    """The session that deletes pages behind the reader. A delete lost in a crash is only a duplicate: no flush is awaited.

    The lease holds here too: frozen in the middle of a delete, it would keep the next relay waiting for its rows.
    """
    conn = _connect(dsn, connect)
    conn.execute(f"SET synchronous_commit = off; SET idle_in_transaction_session_timeout = {round(1000 * lease_s)}")
    return conn


def export_snapshot(conn: psycopg.Connection[Any]) -> str:
    """A name under which another session can see exactly what this transaction sees."""
    row = conn.execute("SELECT pg_export_snapshot()").fetchone()
    return str(row[0]) if row else ""


def import_snapshot(conn: psycopg.Connection[Any], name: str) -> None:
    """See from now on, in this transaction, exactly what the other session sees. It must still be there to be asked."""
    try:
        conn.execute(f"SET TRANSACTION SNAPSHOT '{name}'")
    except (psycopg.errors.UndefinedObject, psycopg.errors.InvalidParameterValue) as error:
        raise psycopg.OperationalError("the session that read the page has ended, and its snapshot with it") from error


def address(dsn: str) -> str:
    """Host, port and database of ``dsn``, without credentials, for messages to people."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        return "(unreadable)"
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def _connect(dsn: str, connect: Connect) -> psycopg.Connection[Any]:
    try:
        conn = connect(dsn, autocommit=True, connect_timeout=10, application_name="eda-relay")
    except psycopg.ProgrammingError:  # what libpq says of it would repeat the password
        raise psycopg.OperationalError("not a database address: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE") from None
    except psycopg.OperationalError as error:
        raise psycopg.OperationalError(f"database {address(dsn)} does not answer: {' '.join(str(error).split())}") from error
    conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    return conn
