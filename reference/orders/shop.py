"""The writing side of the shop: change an order, and append the event that tells of it, in one transaction.

The caller owns the transaction. Each function takes the order's row lock before an event is appended, so that an order's
events leave in the order in which they were committed.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

import psycopg

from reference.delivery import outbox
from reference.event import Event

__all__ = ["SOURCE", "amend", "amend_order", "place", "place_order", "schema"]

SOURCE: Final = "/orders"
PRICE_CENTS: Final = 1_250


def schema() -> str:
    """The SQL that makes the shop's tables; the outbox and inbox are made by :func:`reference.delivery.outbox.schema`."""
    return files("reference.orders").joinpath("schema.sql").read_text()


def place_order(conn: psycopg.Connection[Any], order_id: str, *, sku: str = "cup", quantity: int = 1) -> Event:
    """Take a new order and tell of it. Raises psycopg's ``UniqueViolation`` when the order is known."""
    event = place(conn, order_id, sku=sku, quantity=quantity)
    outbox.append(conn, event)
    return event


def amend_order(conn: psycopg.Connection[Any], order_id: str, *, quantity: int) -> Event:
    """Change an order's quantity and tell of it. Raises :class:`LookupError` when there is no such order."""
    event = amend(conn, order_id, quantity=quantity)
    outbox.append(conn, event)
    return event


def place(conn: psycopg.Connection[Any], order_id: str, *, sku: str = "cup", quantity: int = 1) -> Event:
    """Take a new order; return the event that somebody must now tell the world."""
    event = _event("OrderPlaced", order_id, sku, quantity, sequence=1)
    conn.execute(
        "INSERT INTO orders (id, sku, quantity, amount_cents) VALUES (%s, %s, %s, %s)",
        (order_id, sku, quantity, event.data["amount_cents"]),
    )
    _note(conn, event)
    return event


def amend(conn: psycopg.Connection[Any], order_id: str, *, quantity: int) -> Event:
    """Change an order's quantity; return the event that somebody must now tell the world."""
    row = conn.execute(
        "UPDATE orders SET quantity = %s, amount_cents = %s, version = version + 1 WHERE id = %s RETURNING version, sku",
        (quantity, quantity * PRICE_CENTS, order_id),
    ).fetchone()
    if row is None:
        raise LookupError(f"no order {order_id!r}")
    event = _event("OrderAmended", order_id, row[1], quantity, sequence=row[0])
    _note(conn, event)
    return event


def _note(conn: psycopg.Connection[Any], event: Event) -> None:
    """What the shop itself knows to have happened, whoever else hears of it."""
    conn.execute(
        "INSERT INTO order_changes (event_id, order_id, version) VALUES (%s, %s, %s)", (event.id, event.subject, event.sequence)
    )


def _event(kind: str, order_id: str, sku: str, quantity: int, *, sequence: int) -> Event:
    data = {"order_id": order_id, "sku": sku, "quantity": quantity, "amount_cents": quantity * PRICE_CENTS}
    return Event(type=kind, source=SOURCE, subject=order_id, sequence=sequence, data=data)
