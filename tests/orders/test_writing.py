"""Two dual writes that lose or invent, and the outbox that does neither, killed at the same place."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from reference.brokers import Message
from reference.brokers.kafka import KafkaBroker
from reference.delivery.relay import Relay
from reference.event import Event
from reference.evidence.faults import Crash
from reference.orders import shop
from reference.orders.writing import commit_then_publish, commit_with_outbox, publish_then_commit

Conn = psycopg.Connection[Any]
Write = Callable[..., None]


def crash() -> None:
    raise Crash("between the writes")


@pytest.mark.parametrize(
    ("write", "between", "orders", "told"),
    [
        (commit_then_publish, lambda: None, 1, 1),
        (publish_then_commit, lambda: None, 1, 1),
        (commit_with_outbox, lambda: None, 1, 1),
        (commit_then_publish, crash, 1, 0),
        (publish_then_commit, crash, 0, 1),
        (commit_with_outbox, crash, 0, 0),
    ],
)
def test_a_crash_between_two_writes(
    postgres: str, conn: Conn, kafka: KafkaBroker, events: str, write: Write, between: Callable[[], None], orders: int, told: int
) -> None:
    """Database first loses the event, broker first invents one; with the outbox both exist or neither."""

    def publish(event: Event) -> None:
        kafka.publish([Message(events, event.key, event.to_value(), event.to_headers())])

    with suppress(Crash):
        write(conn, lambda conn: shop.place(conn, "order-1"), publish, between)
    with Relay(postgres, kafka, route=events) as relay:
        relay.run_once()
    count = conn.execute("SELECT count(*) FROM orders").fetchone()
    assert (count, len(list(kafka.replay(events)))) == ((orders,), told)
