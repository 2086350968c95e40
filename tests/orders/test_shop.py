from __future__ import annotations

from typing import Any

import psycopg
import pytest

from reference.delivery import outbox
from reference.orders import shop

Conn = psycopg.Connection[Any]


def test_an_order_and_its_event_are_one(conn: Conn) -> None:
    """What the event says is what the table holds."""
    event = shop.place_order(conn, "order-1", quantity=3)
    row = conn.execute("SELECT id, sku, quantity, amount_cents, version FROM orders").fetchone()
    assert row == ("order-1", "cup", 3, 3 * shop.PRICE_CENTS, 1)
    assert [(p.event.id, dict(p.event.data)) for p in outbox.pending(conn)] == [
        (event.id, {"order_id": "order-1", "sku": "cup", "quantity": 3, "amount_cents": 3 * shop.PRICE_CENTS})
    ]


def test_a_known_order_is_not_placed_again(conn: Conn) -> None:
    """And no second event tells of it."""
    shop.place_order(conn, "order-1")
    with pytest.raises(psycopg.errors.UniqueViolation), conn.transaction():
        shop.place_order(conn, "order-1")
    assert len(outbox.pending(conn)) == 1


def test_amendments_are_numbered_behind_the_order(conn: Conn) -> None:
    """Without a gap, in commit order."""
    shop.place_order(conn, "order-1")
    for quantity in (2, 5):
        shop.amend_order(conn, "order-1", quantity=quantity)
    told = [(p.event.type, p.event.sequence, p.event.data["quantity"]) for p in outbox.pending(conn)]
    assert told == [("OrderPlaced", 1, 1), ("OrderAmended", 2, 2), ("OrderAmended", 3, 5)]


def test_an_unknown_order_cannot_be_amended(conn: Conn) -> None:
    """The error names it, and nothing is told."""
    with pytest.raises(LookupError, match="no order 'order-9'"):
        shop.amend_order(conn, "order-9", quantity=2)
    assert outbox.pending(conn) == []


def test_the_schema_may_be_applied_again(conn: Conn) -> None:
    """Nothing that is there is touched."""
    shop.place_order(conn, "order-1")
    conn.execute(shop.schema())
    assert conn.execute("SELECT count(*) FROM orders").fetchone() == (1,)
