"""The relay's two database sessions, set up so that a relay that hangs or vanishes frees what it holds."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

__all__ = ["LEASE_S", "address", "export_snapshot", "marker", "reader"]

LEASE_S: Final = 30

_READER: Final = f"""
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET synchronous_commit = off;
SET idle_session_timeout = '{LEASE_S}s';
SET idle_in_transaction_session_timeout = '{LEASE_S}s';
SET tcp_keepalives_idle = 10;
SET tcp_keepalives_interval = 5;
SET tcp_keepalives_count = 3;
LISTEN outbox;
"""


def reader(dsn: str) -> psycopg.Connection[Any]:
    """The session that holds the lanes and reads rounds, each in one snapshot.

    The idle timeouts are the lease: a frozen process is cut off after 30 s, and its advisory locks go with it.
    Raises :class:`psycopg.OperationalError` that names the address.
    """
    conn = _connect(dsn)
    conn.execute(_READER)
    return conn


def marker(dsn: str) -> psycopg.Connection[Any]:
    """The session that deletes pages behind the reader. A delete lost in a crash is only a duplicate: no flush is awaited."""
    conn = _connect(dsn)
    conn.execute("SET synchronous_commit = off")
    return conn


def export_snapshot(conn: psycopg.Connection[Any]) -> str:
    """A name under which another session can see exactly what this transaction sees."""
    row = conn.execute("SELECT pg_export_snapshot()").fetchone()
    return str(row[0]) if row else ""


def address(dsn: str) -> str:
    """Host, port and database of ``dsn``, without credentials, for messages to people."""
    parts = conninfo_to_dict(dsn)
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def _connect(dsn: str) -> psycopg.Connection[Any]:
    try:
        conn = psycopg.connect(dsn, autocommit=True, connect_timeout=10, application_name="eda-relay")
    except psycopg.OperationalError as error:
        raise psycopg.OperationalError(f"database {address(dsn)} does not answer: {str(error).strip()}") from error
    conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    return conn
