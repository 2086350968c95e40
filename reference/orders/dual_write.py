"""What the outbox replaces: the database and the broker written one after the other, with a gap in between.

Wrong on purpose, and honest about it: killed in the gap, :func:`commit_then_publish` loses an event and
:func:`publish_then_commit` invents one. The labs count how many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from reference.brokers import Broker, Message
from reference.event import Event
from reference.orders.shop import write_order

__all__ = ["commit_then_publish", "publish_then_commit"]


def commit_then_publish(
    conn: psycopg.Connection[Any], broker: Broker, topic: str, event: Event, *, between: Callable[[], None]
) -> None:
    """Write the order, then tell the world. Dies in between: an order nobody hears of."""
    with conn.transaction():
        write_order(conn, event)
    between()
    broker.publish([Message(topic, event.key, event.to_value(), event.to_headers())])


def publish_then_commit(
    conn: psycopg.Connection[Any], broker: Broker, topic: str, event: Event, *, between: Callable[[], None]
) -> None:
    """Tell the world, then write the order. Dies in between: the world hears of an order that does not exist."""
    with conn.transaction():
        broker.publish([Message(topic, event.key, event.to_value(), event.to_headers())])
        between()
        write_order(conn, event)
