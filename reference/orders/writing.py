"""Three ways to change an order and tell the world of it. Two are wrong on purpose; the labs count what each loses.

``change`` alters the order inside the transaction it is given and returns the event that tells of it; ``between`` is
called where a crash would hurt. Killed there: :func:`commit_then_publish` loses an event, :func:`publish_then_commit`
invents one, :func:`commit_with_outbox` has done nothing at all, which is right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from reference.delivery import outbox
from reference.event import Event

__all__ = ["Change", "Publish", "commit_then_publish", "commit_with_outbox", "publish_then_commit"]

Conn = psycopg.Connection[Any]
Change = Callable[[Conn], Event]
Publish = Callable[[Event], None]


def commit_then_publish(conn: Conn, change: Change, publish: Publish, between: Callable[[], None]) -> None:
    """The dual write, database first."""
    with conn.transaction():
        event = change(conn)
    between()
    publish(event)


def publish_then_commit(conn: Conn, change: Change, publish: Publish, between: Callable[[], None]) -> None:
    """The dual write, broker first."""
    with conn.transaction():
        event = change(conn)
        publish(event)
        between()


def commit_with_outbox(conn: Conn, change: Change, _publish: Publish, between: Callable[[], None]) -> None:
    """One write: the event goes into the same transaction, and a relay publishes it."""
    with conn.transaction():
        event = change(conn)
        between()
        outbox.append(conn, event)
