from __future__ import annotations

from collections.abc import Callable

import psycopg
from confluent_kafka import Producer

from reference.brokers.kafka.address import KafkaAddress
from reference.stack import Endpoints


def test_postgres_is_honest_and_ready_for_cdc(stack: Endpoints) -> None:
    """The labs count what a kill loses: fsync is on; and the log can be decoded."""
    with psycopg.connect(stack.postgres) as connection:
        shown = [connection.execute(f"SHOW {name}").fetchone() for name in ("fsync", "wal_level", "jit")]
        assert shown == [("on",), ("logical",), ("off",)]


def test_a_database_of_ones_own(postgres: str) -> None:
    """Each test starts with an empty database."""
    with psycopg.connect(postgres) as connection:
        assert connection.execute("SELECT count(*) FROM pg_stat_user_tables").fetchone() == (0,)


def test_kafka_keeps_what_it_confirmed(stack: Endpoints, topic: Callable[..., str]) -> None:
    """A message sent with the stack's own credentials is confirmed."""
    errors: list[object] = []
    producer = Producer({**KafkaAddress.parse(stack.kafka).client, "acks": "all"})
    producer.produce(topic("orders"), b"v", on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(10) == 0
    assert errors == [None]
