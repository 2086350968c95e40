"""Faults of whole services, each by name and in one line: a broker or Postgres that is killed, frozen, cut off or full.

They go through :mod:`reference.stack`, so that only what this stack started is touched: ``home`` names a private stack, and
without it the user's own is meant. Each can be told to a history, where the board and the checker find it, before it happens.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

import psycopg

from reference import stack
from reference.evidence.history import History, Record
from reference.stack import StackDown, postgres_disk, shifted_clock
from reference.stack.verbs import Where

__all__ = ["Way", "disk_full", "freeze", "frozen", "kill", "restart", "shifted_clock", "terminate_backends", "thaw"]

Way = Literal["kill", "orderly", "immediate"]
GONE_MS = 5_000


def kill(service: str, *, home: Where = None, history: History | None = None) -> None:
    """SIGKILL to all of a service; it stays down. Raises :class:`~reference.stack.StackError`."""
    _tell(history, f"kill {service}")
    stack.kill(service, home=home)


def restart(service: str, *, mode: Way = "kill", home: Where = None, history: History | None = None) -> float:
    """Take it down in this way, if it runs, and bring it back; the seconds from the one to its first answer are returned.

    ``mode`` is ``kill``, ``orderly``, or for Postgres ``immediate``. Raises :class:`~reference.stack.StackError`.
    """
    _tell(history, f"restart {service}")
    began = time.monotonic()
    with suppress(StackDown):  # down already: what is asked for is that it answers
        if mode == "kill":
            stack.kill(service, home=home)
        else:
            stack.stop(service, mode=mode, home=home)
    stack.up([service], home=home)
    return time.monotonic() - began


def freeze(service: str, *, home: Where = None, history: History | None = None) -> None:
    """Connections stay open and nothing answers, until :func:`thaw`. Raises :class:`~reference.stack.StackError`."""
    _tell(history, f"freeze {service}")
    stack.freeze(service, home=home)


def thaw(service: str, *, home: Where = None, history: History | None = None) -> None:
    """The end of :func:`freeze`."""
    _tell(history, f"thaw {service}")
    stack.thaw(service, home=home)


@contextmanager
def frozen(service: str, *, home: Where = None, history: History | None = None) -> Iterator[None]:
    """Frozen while the block runs, and thawed whatever ends it."""
    freeze(service, home=home, history=history)
    try:
        yield
    finally:
        thaw(service, home=home, history=history)


def terminate_backends(dsn: str, *, application_name: str | None = None, history: History | None = None) -> int:
    """End every session of the DSN's database but the caller's, or those of this name; how many ended is returned.

    The clients find out when they speak next. It takes a superuser, or a member of ``pg_signal_backend``: raises
    :class:`psycopg.errors.InsufficientPrivilege` otherwise.
    """
    _tell(history, "terminate backends")
    with psycopg.connect(dsn, autocommit=True) as admin:
        row = admin.execute(
            "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, %(gone)s)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND (%(name)s::text IS NULL OR application_name = %(name)s)",
            {"gone": GONE_MS, "name": application_name},
        ).fetchone()
    return int(row[0]) if row else 0


@contextmanager
def disk_full(*, home: Where, history: History | None = None) -> Iterator[None]:
    """Postgres' disk is full while the block runs; then it is drained, and Postgres answers again, started if it had to be.

    ``home`` is a private stack's with ``postgres_disk_mb``: raises :class:`~reference.stack.StackError` for any other.
    """
    disk = postgres_disk(home)
    _tell(history, "disk full")
    try:
        disk.fill()
        yield
    finally:
        disk.drain()
        _tell(history, "disk drained")
        stack.up(["postgres"], home=home)


def _tell(history: History | None, note: str) -> None:
    if history is not None:  # an empty one is false
        history.add(Record(op="fault", note=note))
