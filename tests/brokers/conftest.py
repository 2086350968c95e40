"""A broker of each kind, and what a test says to one."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka.admin import AdminClient

from reference.brokers import Broker, Delivery, Message, Subscription
from reference.brokers.kafka import KafkaBroker
from reference.brokers.memory import MemoryBroker
from reference.stack import Endpoints


@pytest.fixture
def kafka(stack: Endpoints) -> Iterator[KafkaBroker]:
    """The real one, patient enough for a slow machine."""
    with KafkaBroker(stack.kafka, timeout_s=30) as broker:
        yield broker


@pytest.fixture(params=["memory", "kafka"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Each adapter in turn: they keep the same promises."""
    return MemoryBroker() if request.param == "memory" else request.getfixturevalue("kafka")


@pytest.fixture
def new_topic(broker: Broker) -> Iterator[Callable[..., str]]:
    """Makes topics through the protocol itself; deleted after the test."""
    made: list[str] = []

    def make(partitions: int = 3) -> str:
        made.append(f"conformance-{uuid.uuid4().hex[:8]}")
        broker.create_topic(made[-1], partitions=partitions)
        return made[-1]

    yield make
    if isinstance(broker, KafkaBroker) and made:
        admin = AdminClient(broker.client)
        for deletion in admin.delete_topics(made).values():
            deletion.exception(timeout=30)


@pytest.fixture
def message() -> Callable[..., Message]:
    """``message(topic, key, value)``, with no headers unless given."""

    def make(
        topic: str, key: str = "k", value: bytes | str = b"{}", headers: tuple[tuple[str, str | bytes], ...] = ()
    ) -> Message:
        return Message(topic, key, value, headers)

    return make


@pytest.fixture
def receive() -> Callable[..., list[Delivery]]:
    """``receive(subscription, 10)`` takes deliveries until there are ten; acks them if told to."""

    def take(subscription: Subscription, count: int, *, ack: bool = True) -> list[Delivery]:
        taken: list[Delivery] = []
        deadline = time.monotonic() + 60
        while len(taken) < count:
            assert time.monotonic() < deadline, f"only {len(taken)} of {count} deliveries came"
            for delivery in subscription.receive(count - len(taken), 0.5):
                taken.append(delivery)
                if ack:
                    subscription.ack(delivery)
        return taken

    return take
