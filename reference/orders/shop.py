"""The writing side of the shop: each function changes an order and appends the event that tells of it, in one transaction.

The caller owns the transaction. Each function takes the order's row lock before it appends, so that the order's events
leave in the order in which they were committed.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

import psycopg

from reference.delivery import outbox
from reference.event import Event

__all__ = ["SOURCE", "amend_order", "order_amended", "order_placed", "place_order", "schema"]

SOURCE: Final = "/orders"
PRICE_CENTS: Final = 1_250


def schema() -> str:
    """The SQL that makes the shop's tables; the outbox and inbox are made by :func:`reference.delivery.outbox.schema`."""
    return files("reference.orders").joinpath("schema.sql").read_text()


def place_order(conn: psycopg.Connection[Any], order_id: str, *, sku: str = "espresso-cup", quantity: int = 1) -> Event:
    """Take a new order. Returns the event that was appended. Raises psycopg's ``UniqueViolation`` for a known order."""
    event = order_placed(order_id, sku=sku, quantity=quantity)
    write_order(conn, event)
    outbox.append(conn, event)
    return event


def amend_order(conn: psycopg.Connection[Any], order_id: str, *, quantity: int) -> Event:
    """Change an order's quantity. Returns the event that was appended. Raises :class:`LookupError` for an unknown order."""
    row = conn.execute(
        "UPDATE orders SET quantity = %s, amount_cents = %s, version = version + 1 WHERE id = %s RETURNING version, sku",
        (quantity, quantity * PRICE_CENTS, order_id),
    ).fetchone()
    if row is None:
        raise LookupError(f"no order {order_id!r}")
    event = order_amended(order_id, sku=row[1], quantity=quantity, sequence=row[0])
    outbox.append(conn, event)
    return event


def write_order(conn: psycopg.Connection[Any], event: Event) -> None:
    """Insert the order that an ``OrderPlaced`` tells of, and nothing else."""
    conn.execute(
        "INSERT INTO orders (id, sku, quantity, amount_cents) VALUES (%s, %s, %s, %s)",
        (event.subject, event.data["sku"], event.data["quantity"], event.data["amount_cents"]),
    )


def order_placed(order_id: str, *, sku: str, quantity: int) -> Event:
    """The fact that an order was placed: its first event."""
    return _event("OrderPlaced", order_id, sku, quantity, 1)


def order_amended(order_id: str, *, sku: str, quantity: int, sequence: int) -> Event:
    """The fact that an order's quantity was changed."""
    return _event("OrderAmended", order_id, sku, quantity, sequence)


def _event(kind: str, order_id: str, sku: str, quantity: int, sequence: int) -> Event:
    data = {"order_id": order_id, "sku": sku, "quantity": quantity, "amount_cents": quantity * PRICE_CENTS}
    return Event(type=kind, source=SOURCE, subject=order_id, sequence=sequence, data=data)
