"""One order, one event after another, through the real outbox, relay, broker, inbox and handlers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest

from reference.brokers import Subscription
from reference.brokers.kafka import KafkaBroker
from reference.delivery import outbox
from reference.delivery.consumer import Consumer, Handler
from reference.delivery.relay import Relay
from reference.event import Event
from reference.evidence.controls.inboxes import no_inbox
from reference.evidence.faults import DeliverTwice
from reference.orders import handlers, shop

Conn = psycopg.Connection[Any]
Eventually = Callable[..., Any]
SERVICES: Mapping[str, Mapping[str, Handler]] = {
    "payment": handlers.PAYMENT,
    "inventory": handlers.INVENTORY,
    "shipment": handlers.SHIPMENT,
    "status": handlers.STATUS,
}


@contextmanager
def open_shop(dsn: str, kafka: KafkaBroker, topic: str, *, doubled: bool = False) -> Iterator[None]:
    """One relay and the four services, each in a thread of its own."""
    stop = threading.Event()
    with ExitStack() as stack:
        programs: list[Relay | Consumer] = [stack.enter_context(Relay(dsn, kafka, route=topic))]
        for name, wiring in SERVICES.items():
            subscription: Subscription = kafka.subscribe([topic], group=f"{topic}-{name}")
            source = DeliverTwice(subscription, every=1) if doubled else subscription
            programs.append(stack.enter_context(Consumer(source, dsn, wiring, name=name)))
        threads = [threading.Thread(target=program.run, args=(stop,)) for program in programs]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)


def statuses(conn: Conn) -> dict[str, tuple[str, int]]:
    return {order: (status, n) for order, status, n in conn.execute("SELECT order_id, status, sequence FROM order_status")}


def ledger(conn: Conn) -> dict[str, tuple[int, int]]:
    """By account: how many entries, and their sum."""
    rows = conn.execute("SELECT account, count(*), sum(amount)::bigint FROM ledger GROUP BY account ORDER BY account")
    return {account: (entries, total) for account, entries, total in rows}


@pytest.mark.parametrize("doubled", [False, True])
def test_orders_walk_through_and_money_and_stock_are_conserved(
    postgres: str, conn: Conn, kafka: KafkaBroker, events: str, eventually: Eventually, doubled: bool
) -> None:
    """Ten orders of two cups: every one is charged, reserved and shipped once, even when every delivery is doubled."""
    with open_shop(postgres, kafka, events, doubled=doubled):
        for n in range(10):
            with conn.transaction():
                shop.place_order(conn, f"order-{n}", quantity=2)
        eventually(lambda: list(statuses(conn).values()) == [("ShipmentRequested", 4)] * 10, within_s=60)
    assert ledger(conn) == {"receivable": (10, 20 * shop.PRICE_CENTS), "reserved:cup": (10, 20), "shipped:cup": (10, 20)}
    assert conn.execute("SELECT on_hand, reserved FROM stock").fetchone() == (80, 0)


def test_an_order_s_events_stand_in_order_on_the_topic(
    postgres: str, conn: Conn, kafka: KafkaBroker, events: str, eventually: Eventually
) -> None:
    """Written by four services, keyed by the order, numbered without a gap."""
    with open_shop(postgres, kafka, events):
        shop.place_order(conn, "order-1")
        eventually(lambda: statuses(conn).get("order-1") == ("ShipmentRequested", 4))
    walked = [Event.from_wire(delivery.headers, delivery.value) for delivery in kafka.replay(events)]
    assert [(event.type, event.sequence, event.source, event.subject) for event in walked] == [
        ("OrderPlaced", 1, "/orders", "order-1"),
        ("PaymentAuthorized", 2, "/payments", "order-1"),
        ("StockReserved", 3, "/inventory", "order-1"),
        ("ShipmentRequested", 4, "/shipments", "order-1"),
    ]


def test_an_order_beyond_the_stock_waits_until_there_is_some(
    postgres: str, conn: Conn, kafka: KafkaBroker, events: str, eventually: Eventually
) -> None:
    """Its handler fails, nothing of it is booked, and new goods let it go on."""
    with open_shop(postgres, kafka, events):
        shop.place_order(conn, "order-1", quantity=101)
        eventually(lambda: statuses(conn).get("order-1") == ("PaymentAuthorized", 2))
        assert "reserved:cup" not in ledger(conn)
        conn.execute("UPDATE stock SET on_hand = on_hand + 1")
        eventually(lambda: statuses(conn).get("order-1") == ("ShipmentRequested", 4))
    assert conn.execute("SELECT on_hand, reserved FROM stock").fetchone() == (0, 0)


# -- each handler alone --------------------------------------------------------------------------------------------------


def test_without_an_inbox_the_customer_would_be_charged_twice(conn: Conn) -> None:
    """The control fails: the ledger has two entries for one event."""
    event = shop.place_order(conn, "order-1")
    for _ in range(2):
        if no_inbox(conn, event):
            handlers.book(conn, event, consumer="payment", account="receivable", amount=event.data["amount_cents"])
    assert ledger(conn) == {"receivable": (2, 2 * shop.PRICE_CENTS)}


def test_too_few_goods_is_an_error_that_names_the_order(conn: Conn) -> None:
    """And nothing moved."""
    event = shop.place_order(conn, "order-1", quantity=101)
    with pytest.raises(LookupError, match="order order-1: fewer than 101 of 'cup' on hand"), conn.transaction():
        handlers.INVENTORY["PaymentAuthorized"](conn, event)
    assert conn.execute("SELECT on_hand, reserved FROM stock").fetchone() == (100, 0)


def test_an_older_event_does_not_overwrite_a_newer_status(conn: Conn) -> None:
    """A redelivery is no step back."""
    placed = shop.place_order(conn, "order-1")
    paid = handlers.next_event(placed, "PaymentAuthorized", "/payments")
    for event in (paid, placed):
        handlers.STATUS[event.type](conn, event)
    assert statuses(conn) == {"order-1": ("PaymentAuthorized", 2)}


def test_a_following_event_carries_the_trace_on() -> None:
    """Same order, next number, an id of its own, and what travels beside it."""
    first = Event(type="A", source="/a", subject="o", data={"x": 1}, sequence=4, headers={"traceparent": "00-1-2-03"})
    following = handlers.next_event(first, "B", "/b")
    assert (following.subject, following.sequence, following.headers, following.data, following.id != first.id) == (
        "o", 5, {"traceparent": "00-1-2-03"}, {"x": 1}, True,
    )  # fmt: skip


def test_a_handler_s_events_are_in_the_outbox_with_its_effects(conn: Conn) -> None:
    """Or neither is there."""
    event = shop.place_order(conn, "order-1")
    conn.execute("DELETE FROM outbox")
    with conn.transaction(force_rollback=True):
        handlers.PAYMENT["OrderPlaced"](conn, event)
    assert (outbox.pending(conn), ledger(conn)) == ([], {})
    with conn.transaction():
        handlers.PAYMENT["OrderPlaced"](conn, event)
    assert [pending.event.type for pending in outbox.pending(conn)] == ["PaymentAuthorized"]
