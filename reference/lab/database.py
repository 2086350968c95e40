"""The database of a lab: its own, made anew whenever the lab is opened, and never anybody else's."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from reference.delivery import outbox
from reference.orders import shop

__all__ = ["TABLES", "made_anew"]

TABLES: Final = "outbox, inbox, inbox_sequence, orders, order_changes, payments, ledger, order_status"
MADE_HERE: Final = "made by a lab of eda-labs; dropped when the lab is opened again"


def made_anew(dsn: str, name: str) -> str:
    """Drop and create database ``name`` with the shop's tables in it, and return its address.

    Raises :class:`RuntimeError` for a database of that name that no lab has made.
    """
    with psycopg.connect(dsn, autocommit=True) as admin:
        _replace(admin, name)
    fresh = make_conninfo(dsn, dbname=name)
    with psycopg.connect(fresh) as conn:
        conn.execute(outbox.schema())
        conn.execute(shop.schema())
    return fresh


def _replace(admin: psycopg.Connection[Any], name: str) -> None:
    found = admin.execute("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", (name,)).fetchone()
    if found is not None and found[0] != MADE_HERE:
        raise RuntimeError(f"database {name!r} exists and was not made by a lab: rename or drop it, and open the lab again")
    database = sql.Identifier(name)
    admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))
    admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(database))
    admin.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(database, sql.Literal(MADE_HERE)))
