"""A row that cannot go holds its key and nothing else, is named, and goes once it is mended."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from structlog.testing import capture_logs

from reference.brokers.kafka import KafkaBroker
from reference.delivery.held import HeldKeys
from reference.delivery.relay import Relay

Conn = psycopg.Connection[Any]
Arrived = Callable[[str], dict[str, list[int]]]
BIG = "x" * 65_536
GOOD = {"aggregatetype": "orders", "aggregateid": "bad", "type": "OrderAmended", "payload": '{"n": 1}', "headers": None}


def insert(conn: Conn, n: int, **columns: Any) -> tuple[int, str]:
    row = conn.execute(
        "INSERT INTO outbox (aggregatetype, aggregateid, type, payload, headers) VALUES"
        " (%(aggregatetype)s, %(aggregateid)s, %(type)s, %(payload)s, %(headers)s) RETURNING position, id::text",
        GOOD | {"payload": json.dumps({"n": n})} | columns,
    ).fetchone()
    assert row
    return row[0], row[1]


def mend(conn: Conn, position: int, column: LiteralString) -> None:
    update = sql.SQL("UPDATE outbox SET {} = %s WHERE position = %s").format(sql.Identifier(column))
    conn.execute(update, (GOOD[column], position))


@pytest.mark.parametrize(
    ("column", "value", "named"),
    [
        ("payload", '"text"', "payload must be a JSON object"),
        ("payload", "[1, 2]", "payload must be a JSON object"),
        ("payload", "5", "payload must be a JSON object"),
        ("payload", "null", "payload must be a JSON object"),
        ("payload", json.dumps({"note": "x" * 2_000_000}), "max.message.bytes"),
        ("type", "", "type must be 1 to 1024 bytes"),
        ("type", BIG, "type must be 1 to 1024 bytes"),
        ("aggregatetype", "", "aggregatetype must be 1 to 1024 bytes"),
        ("aggregatetype", BIG, "aggregatetype must be 1 to 1024 bytes"),
        ("headers", "[]", "headers must be a JSON object of texts"),
        ("headers", '"text"', "headers must be a JSON object of texts"),
        ("headers", '{"a": 1}', "headers must be a JSON object of texts"),
        ("headers", '{"a": null}', "headers must be a JSON object of texts"),
    ],
)
def test_a_bad_row_holds_its_key_and_heals(
    db: str, conn: Conn, kafka: KafkaBroker, route: str, arrived: Arrived, column: LiteralString, value: str, named: str
) -> None:
    """Named by position and id; others pass; mended, it goes, and what stood behind it follows in order."""
    position, event_id = insert(conn, 1, **{column: value})
    insert(conn, 1, aggregateid="good")
    same = {"aggregatetype": value} if column == "aggregatetype" else {}
    insert(conn, 2, **same)
    insert(conn, 2, aggregateid="good")
    with Relay(db, kafka, route=route) as relay, capture_logs() as said:
        relay.held = HeldKeys(retry_s=0)
        assert relay.run_once() == 2
        [(key, held)] = relay.held
        assert (key[1], held.position, held.id, named in held.reason) == ("bad", position, event_id, True)
        assert arrived(route) == {"good": [1, 2]}
        relay.run_once()
        assert [(line["position"], line["id"]) for line in said if line["event"] == "relay.row_held"] == [(position, event_id)]
        conn.execute("UPDATE outbox SET aggregatetype = 'orders'")
        mend(conn, position, column)
        relay.run_once()
    assert arrived(route)["bad"][-1] == 2
    assert len(arrived(route)["bad"]) == 2


@pytest.mark.parametrize("key", ["", BIG])
def test_a_bad_key_holds_itself(db: str, conn: Conn, kafka: KafkaBroker, route: str, arrived: Arrived, key: str) -> None:
    """Too short or too long to be one; the rest goes."""
    position, _ = insert(conn, 1, aggregateid=key)
    insert(conn, 1, aggregateid="good")
    with Relay(db, kafka, route=route) as relay:
        relay.held = HeldKeys(retry_s=0)
        relay.run_once()
        assert [(held.position, arrived(route)) for _, held in relay.held] == [(position, {"good": [1]})]
        mend(conn, position, "aggregateid")
        relay.run_once()
    assert arrived(route) == {"good": [1], "bad": [1]}


@pytest.mark.parametrize("aggregatetype", ["nowhere", "a b", "ü", "x" * 300, "x" * 600])
def test_a_topic_that_is_not_there_holds_its_own_keys(
    db: str, conn: Conn, kafka: KafkaBroker, new_topic: Callable[..., str], arrived: Arrived, aggregatetype: str
) -> None:
    """Whether it could be made or not, other topics go on, and the same key there is another key."""
    there = new_topic()
    position, event_id = insert(conn, 1, aggregatetype=aggregatetype)
    insert(conn, 1, aggregatetype=there)
    with Relay(db, kafka, route="{aggregatetype}") as relay:
        assert relay.run_once() == 1
        [(key, held)] = relay.held
    assert (key, held.position, held.id, arrived(there)) == ((aggregatetype, "bad"), position, event_id, {"bad": [1]})
    assert "exist at kafka://" in held.reason


def test_a_missing_topic_with_many_keys_does_not_drown_the_others(
    db: str, conn: Conn, kafka: KafkaBroker, new_topic: Callable[..., str], arrived: Arrived
) -> None:
    """Twenty thousand held keys: the log says ten and that there are more, and every other event goes in the same round."""
    there = new_topic()
    conn.execute(
        "INSERT INTO outbox (aggregatetype, aggregateid, type, payload)"
        " SELECT 'nowhere', 'customer-' || n, 'OrderAmended', '{}' FROM generate_series(1, 20000) AS n"
    )
    for n in (1, 2, 3):
        insert(conn, n, aggregatetype=there)
    with Relay(db, kafka, route="{aggregatetype}", page=1_000) as relay, capture_logs() as logs:
        assert (relay.run_once(), len(relay.held)) == (3, 20_000)
    events = [entry["event"] for entry in logs]
    assert (events.count("relay.row_held"), events.count("relay.more_rows_held"), arrived(there)) == (10, 1, {"bad": [1, 2, 3]})


def test_a_topic_made_later_heals_by_itself(
    db: str, conn: Conn, kafka: KafkaBroker, new_topic: Callable[..., str], arrived: Arrived, route: str
) -> None:
    """Everything that waited for it goes, in order."""
    late = f"{route}-late"
    for n in (1, 2, 3):
        insert(conn, n, aggregatetype=late)
    with Relay(db, kafka, route="{aggregatetype}") as relay:
        relay.held = HeldKeys(retry_s=0)
        assert (relay.run_once(), len(relay.held)) == (0, 1)
        new_topic(late)
        assert (relay.run_once(), len(relay.held)) == (3, 0)
    assert arrived(late) == {"bad": [1, 2, 3]}


def test_a_row_held_on_one_page_holds_its_key_on_the_next(
    db: str, conn: Conn, kafka: KafkaBroker, route: str, arrived: Arrived
) -> None:
    """Pages are read ahead: what was read before the trouble was known does not slip past it, nor is it deleted."""
    for n in range(1, 31):
        insert(conn, n, aggregateid="good")
        insert(conn, n, **({"payload": "[]"} if n == 5 else {}))
    with Relay(db, kafka, route=route, page=4) as relay:
        assert relay.run_once() == 34
    kept = conn.execute("SELECT count(*), min(position) FROM outbox").fetchone()
    assert (arrived(route), kept) == ({"good": list(range(1, 31)), "bad": [1, 2, 3, 4]}, (26, 10))


def test_what_is_held_is_tried_again_only_after_a_while() -> None:
    """A bad row does not cost a round each time."""
    held = HeldKeys(retry_s=3_600)
    held.hold((7, "id", "orders", "k"), "why")
    held.expire()
    assert len(held) == 1


def test_the_first_row_of_a_key_counts() -> None:
    """From the lowest position on, the key stands still."""
    held = HeldKeys()
    for position in (7, 9, 5):
        held.hold((position, f"e{position}", "orders", "k"), "why")
    assert [(4, "", "orders", "k") in held, (5, "", "orders", "k") in held, (9, "", "orders", "other") in held] == [
        False,
        True,
        False,
    ]
