"""From the writer's transaction to the topic: what was appended is what arrives."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from reference.brokers.kafka import KafkaBroker
from reference.delivery import outbox
from reference.delivery.relay import Relay
from reference.event import Event, InvalidEvent

Conn = psycopg.Connection[Any]


def placed(**attributes: Any) -> Event:
    return Event(**{"type": "OrderPlaced", "source": "/orders", "subject": "order-1", "data": {"n": 1, "ü": "☕"}} | attributes)


def test_the_schema_may_be_applied_again(conn: Conn) -> None:
    """Nothing that is there is touched."""
    outbox.append(conn, placed())
    conn.execute(outbox.schema())
    assert len(outbox.pending(conn)) == 1


def test_an_event_exists_only_if_the_transaction_does(conn: Conn) -> None:
    """Rolled back, it never was."""
    with conn.transaction(force_rollback=True):
        outbox.append(conn, placed())
    assert outbox.pending(conn) == []


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"source": "/eu/shop/orders"},
        {"partitionkey": "customer-7"},
        {"sequence": 3, "dataschema": "https://example.org/order/1"},
        {"headers": {"traceparent": "00-1-2-03", "ce_tenant": "north"}},
        {"subject": "/orders"},
        {"subject": "schlüssel ☕", "type": "Größe.Changed"},
        {"time": datetime(2026, 1, 31, 10, 0, 0, 120_000, UTC)},
    ],
)
def test_what_was_appended_arrives_unchanged(
    db: str, conn: Conn, kafka: KafkaBroker, route: str, attributes: dict[str, Any]
) -> None:
    """Every attribute, on the real database and the real broker."""
    event = placed(**attributes)
    outbox.append(conn, event)
    with Relay(db, kafka, route=route) as relay:
        relay.run_once()
    [delivery] = kafka.replay(route)
    assert (Event.from_wire(delivery.headers, delivery.value), delivery.key) == (event, event.key.encode())


def test_debezium_s_five_columns_are_enough(db: str, conn: Conn, kafka: KafkaBroker, new_topic: Callable[..., str]) -> None:
    """A service in any language inserts these; topic, key and headers are those of the outbox event router."""
    aggregatetype, event_id = f"orders{uuid.uuid4().hex[:8]}", str(uuid.uuid4())
    topic = new_topic(f"outbox.event.{aggregatetype}")
    conn.execute(
        "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload) VALUES (%s, %s, 'order-1', 'OrderPlaced', '{}')",
        (event_id, aggregatetype),
    )
    with Relay(db, kafka) as relay:
        assert relay.run_once() == 1
    [delivery] = kafka.replay(topic)
    headers = dict(delivery.headers)
    assert headers.pop("ce_time") is not None
    assert (delivery.key, delivery.value, headers) == (
        b"order-1",
        b"{}",
        {
            "id": event_id.encode(),
            "ce_id": event_id.encode(),
            "ce_specversion": b"1.0",
            "ce_type": b"OrderPlaced",
            "ce_source": f"/{aggregatetype}".encode(),
            "ce_subject": b"order-1",
            "content-type": b"application/json",
        },
    )


def test_a_writer_without_an_id_gets_one(db: str, conn: Conn, kafka: KafkaBroker, route: str) -> None:
    """The table draws it, and the time."""
    conn.execute("INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES ('orders', 'o', 'OrderPlaced', '{}')")
    with Relay(db, kafka, route=route) as relay:
        relay.run_once()
    [delivery] = kafka.replay(route)
    event = Event.from_wire(delivery.headers, delivery.value)
    assert (uuid.UUID(event.id).version, abs((datetime.now(UTC) - event.time).total_seconds()) < 3_600) == (4, True)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"id": "order-1/1"}, "UUID in lower case"),
        ({"id": str(uuid.uuid4()).upper()}, "UUID in lower case"),
        ({"source": "/"}, "source must end in the aggregate type"),
        ({"type": "x" * 65_536}, "'type' must be at most 1024 bytes"),
        ({"partitionkey": "x" * 65_536}, "'partitionkey' must be at most 1024 bytes"),
        ({"source": "/" + "x" * 65_536}, "'source' must be at most 1024 bytes"),
    ],
)
def test_what_no_relay_could_carry_is_refused_where_it_can_be_rolled_back(
    conn: Conn, attributes: dict[str, Any], said: str
) -> None:
    """The writer hears of it in its own transaction, with the event's id and the attribute, and nothing is written."""
    with pytest.raises(InvalidEvent, match=said):
        outbox.append(conn, placed(**attributes))
    assert conn.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
