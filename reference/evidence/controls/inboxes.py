"""Ways of telling a redelivery that look right. Each is a ``claim`` for a :class:`~reference.delivery.consumer.Consumer`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from reference.delivery.consumer import Claim
from reference.event import Event

__all__ = ["check_then_put", "no_inbox"]


def no_inbox(_conn: psycopg.Connection[Any], _event: Event) -> bool:
    """Every delivery is taken for the first: at least once, with every duplicate applied."""
    return True


def check_then_put(consumer: str, *, between: Callable[[], None] = lambda: None) -> Claim:
    """Ask whether the event was seen, and remember it if not: two consumers may both ask before either remembers."""

    def claim(conn: psycopg.Connection[Any], event: Event) -> bool:
        seen = conn.execute("SELECT FROM inbox WHERE consumer = %s AND id = %s", (consumer, event.id)).fetchone()
        if seen is None:
            between()
            conn.execute("INSERT INTO inbox (consumer, id) VALUES (%s, %s) ON CONFLICT DO NOTHING", (consumer, event.id))
        return seen is None

    return claim
