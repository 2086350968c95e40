"""What the shop's services do when they hear of something. Free functions; the wiring is the dicts at the end.

Each runs inside the consumer's transaction, after the inbox claimed the event: its effects, and the events it appends in
turn, are committed with the claim or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import psycopg

from reference.delivery import outbox
from reference.delivery.consumer import Handler
from reference.event import Event

__all__ = ["INVENTORY", "PAYMENT", "SHIPMENT", "STATUS", "book", "next_event"]


def authorize_payment(conn: psycopg.Connection[Any], event: Event) -> None:
    """``OrderPlaced`` → ``PaymentAuthorized``: the customer is charged."""
    conn.execute("INSERT INTO payments (order_id, amount_cents) VALUES (%s, %s)", (event.subject, event.data["amount_cents"]))
    book(conn, event, consumer="payment", account="receivable", amount=event.data["amount_cents"])
    outbox.append(conn, next_event(event, "PaymentAuthorized", "/payments"))


def reserve_stock(conn: psycopg.Connection[Any], event: Event) -> None:
    """``PaymentAuthorized`` → ``StockReserved``: goods move from on hand to reserved. Raises when there are too few."""
    sku, quantity = event.data["sku"], event.data["quantity"]
    row = conn.execute(
        "UPDATE stock SET on_hand = on_hand - %(n)s, reserved = reserved + %(n)s WHERE sku = %(sku)s AND on_hand >= %(n)s"
        " RETURNING on_hand",
        {"n": quantity, "sku": sku},
    ).fetchone()
    if row is None:
        raise LookupError(f"order {event.subject}: fewer than {quantity} of {sku!r} on hand")
    book(conn, event, consumer="inventory", account=f"reserved:{sku}", amount=quantity)
    outbox.append(conn, next_event(event, "StockReserved", "/inventory"))


def request_shipment(conn: psycopg.Connection[Any], event: Event) -> None:
    """``StockReserved`` → ``ShipmentRequested``: reserved goods leave the house."""
    sku, quantity = event.data["sku"], event.data["quantity"]
    conn.execute("UPDATE stock SET reserved = reserved - %s WHERE sku = %s", (quantity, sku))
    book(conn, event, consumer="shipment", account=f"shipped:{sku}", amount=quantity)
    outbox.append(conn, next_event(event, "ShipmentRequested", "/shipments"))


def show_status(conn: psycopg.Connection[Any], event: Event) -> None:
    """Any event → the read model: what the customer sees of the order. An older event does not overwrite a newer one."""
    conn.execute(
        "INSERT INTO order_status AS held (order_id, status, sequence) VALUES (%s, %s, %s) ON CONFLICT (order_id)"
        " DO UPDATE SET status = excluded.status, sequence = excluded.sequence WHERE held.sequence < excluded.sequence",
        (event.subject, event.type, event.sequence or 0),
    )


def book(conn: psycopg.Connection[Any], event: Event, *, consumer: str, account: str, amount: int) -> None:
    """One ledger entry, naming the event that caused it. Applied twice, it is there twice."""
    conn.execute(
        "INSERT INTO ledger (consumer, event_id, order_id, account, amount) VALUES (%s, %s, %s, %s, %s)",
        (consumer, event.id, event.subject, account, amount),
    )


def next_event(event: Event, kind: str, source: str) -> Event:
    """The fact that follows from ``event`` for the same order; it carries on what travels beside it, such as a trace."""
    return Event(type=kind, source=source, subject=event.subject, data=event.data,
                 sequence=(event.sequence or 0) + 1, headers=event.headers)  # fmt: skip


PAYMENT: Final[Mapping[str, Handler]] = {"OrderPlaced": authorize_payment}
INVENTORY: Final[Mapping[str, Handler]] = {"PaymentAuthorized": reserve_stock}
SHIPMENT: Final[Mapping[str, Handler]] = {"StockReserved": request_shipment}
STATUS: Final[Mapping[str, Handler]] = dict.fromkeys(
    ("OrderPlaced", "PaymentAuthorized", "StockReserved", "ShipmentRequested"), show_status
)
