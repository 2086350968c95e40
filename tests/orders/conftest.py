"""A shop on the real database, with its topic on the real broker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from confluent_kafka.admin import AdminClient

from reference.brokers.kafka import KafkaBroker
from reference.delivery import outbox
from reference.orders import shop
from reference.stack import Endpoints


@pytest.fixture
def kafka(stack: Endpoints) -> Iterator[KafkaBroker]:
    """Patient enough for a slow machine."""
    with KafkaBroker(stack.kafka, timeout_s=30) as broker:
        yield broker


@pytest.fixture
def events(kafka: KafkaBroker) -> Iterator[str]:
    """The topic of all the shop's events."""
    name = f"shop-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(name)
    yield name
    admin = AdminClient(kafka.client)
    for deletion in admin.delete_topics([name]).values():
        deletion.exception(timeout=30)


@pytest.fixture
def conn(postgres: str) -> Iterator[psycopg.Connection[Any]]:
    """The shop's database: a hundred cups in stock."""
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(outbox.schema())
        conn.execute(shop.schema())
        conn.execute("INSERT INTO stock (sku, on_hand) VALUES ('cup', 100)")
        yield conn
