"""An outbox in a database of its own, a topic of its own on the real broker, and what a test reads and writes there."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from confluent_kafka.admin import AdminClient

from reference.brokers.kafka import KafkaBroker
from reference.delivery import outbox
from reference.delivery.relay import Relay
from reference.stack import Endpoints


@pytest.fixture
def kafka(stack: Endpoints) -> Iterator[KafkaBroker]:
    """The real one, patient enough for a slow machine."""
    with KafkaBroker(stack.kafka, timeout_s=30) as broker:
        yield broker


@pytest.fixture
def new_topic(kafka: KafkaBroker) -> Iterator[Callable[..., str]]:
    """``new_topic()`` makes one with a name of its own, ``new_topic(name)`` with that name; deleted after the test."""
    made: list[str] = []

    def make(name: str = "", *, partitions: int = 3) -> str:
        made.append(name or f"delivery-{uuid.uuid4().hex[:8]}")
        kafka.create_topic(made[-1], partitions=partitions)
        return made[-1]

    yield make
    if made:
        admin = AdminClient(kafka.client)
        for deletion in admin.delete_topics(made).values():
            deletion.exception(timeout=30)


@pytest.fixture
def route(new_topic: Callable[..., str]) -> str:
    """A topic for all events, as a relay's route."""
    return new_topic()


@pytest.fixture
def db(postgres: str) -> str:
    """The DSN of a database with an outbox, an inbox and nothing in them."""
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(outbox.schema())
        conn.execute("CREATE TABLE aggregates (id text PRIMARY KEY, version int NOT NULL DEFAULT 0)")
    return postgres


@pytest.fixture
def connect(db: str) -> Iterator[Callable[..., psycopg.Connection[Any]]]:
    """Connections to that database; closed after the test."""
    opened: list[psycopg.Connection[Any]] = []

    def make(*, autocommit: bool = True) -> psycopg.Connection[Any]:
        opened.append(psycopg.connect(db, autocommit=autocommit))
        return opened[-1]

    yield make
    for conn in opened:
        conn.close()


@pytest.fixture
def conn(connect: Callable[..., psycopg.Connection[Any]]) -> psycopg.Connection[Any]:
    """One of them, in autocommit mode."""
    return connect()


@pytest.fixture
def write() -> Callable[..., None]:
    """``write(conn, "k")`` takes the aggregate's lock and inserts its next event, numbered from 1, as a service would."""

    def insert(conn: psycopg.Connection[Any], key: str, *, aggregatetype: str = "orders") -> None:
        conn.execute(
            "WITH changed AS (INSERT INTO aggregates AS held (id, version) VALUES (%(key)s, 1)"
            " ON CONFLICT (id) DO UPDATE SET version = held.version + 1 RETURNING version)"
            " INSERT INTO outbox (aggregatetype, aggregateid, type, payload)"
            " SELECT %(type)s, %(key)s, 'OrderAmended', jsonb_build_object('n', version) FROM changed",
            {"key": key, "type": aggregatetype},
        )

    return insert


@pytest.fixture
def write_many() -> Callable[..., None]:
    """``write_many(conn, 5_000, keys=100)``: events numbered from 1, keys in turn, in one statement."""

    def insert(conn: psycopg.Connection[Any], events: int, *, keys: int = 10) -> None:
        conn.execute(
            "INSERT INTO outbox (aggregatetype, aggregateid, type, payload)"
            " SELECT 'orders', 'k' || n %% %s, 'OrderAmended', jsonb_build_object('n', n) FROM generate_series(1, %s) AS n"
            " ORDER BY n",
            (keys, events),
        )

    return insert


@pytest.fixture
def arrived(kafka: KafkaBroker) -> Callable[[str], dict[str, list[int]]]:
    """``arrived(topic)``: by key, the numbers of its events in the order in which the topic holds them."""

    def read(topic: str) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for delivery in kafka.replay(topic):
            found.setdefault((delivery.key or b"").decode(), []).append(json.loads(delivery.value or b"")["n"])
        return found

    return read


@pytest.fixture
def drain() -> Callable[[Relay], int]:
    """Run rounds until one publishes nothing; returns how many events went."""

    def run(relay: Relay) -> int:
        total = 0
        while count := relay.run_once():
            total += count
        return total

    return run


@pytest.fixture
def left(conn: psycopg.Connection[Any]) -> Callable[[], int]:
    """How many rows the outbox still holds."""

    def count() -> int:
        row = conn.execute("SELECT count(*) FROM outbox").fetchone()
        assert row
        return int(row[0])

    return count
