"""A database of one's own for the length of a block."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

__all__ = ["scratch_database"]


@contextmanager
def scratch_database(dsn: str) -> Iterator[str]:
    """The address of a new, empty database on the same server; dropped at the end, whoever is still connected."""
    fresh = f"scratch_{uuid.uuid4().hex[:12]}"
    name = sql.Identifier(fresh)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(name))
        try:
            yield make_conninfo(dsn, dbname=fresh)
        finally:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
