from __future__ import annotations

from collections.abc import Iterator

import pytest

from reference.brokers import Broker, Message, NotOffered, Subscription, UnknownTopic
from reference.brokers.memory import MemoryBroker
from reference.brokers.through import BrokerThrough, SubscriptionThrough


@pytest.fixture
def broker() -> Iterator[Broker]:
    """A broker that is only passed on, over one with a topic of two partitions."""
    with BrokerThrough(MemoryBroker()) as broker:
        broker.create_topic("t", partitions=2)
        yield broker


def test_a_broker_is_passed_on_whole(broker: Broker) -> None:
    """All it can do, what it says of itself, and what it refuses."""
    broker.publish([Message("t", "k", "1", [])])
    assert [delivery.value for delivery in broker.replay("t")] == [b"1"]
    assert (sum(broker.lag(["t"], group="g").values()), broker.url) == (1, "memory://")
    assert broker.capabilities is MemoryBroker.capabilities
    with pytest.raises(NotOffered, match="delayed delivery"):
        broker.publish([Message("t", "k", "2", [])], delay_s=1)
    with pytest.raises(NotOffered, match="filters"):
        broker.subscribe(["t"], group="g", only={"type": "a"})
    with pytest.raises(UnknownTopic, match="'orders'"):
        broker.subscribe(["orders"], group="g")


def test_a_broker_that_is_passed_on_is_closed_with_the_block() -> None:
    """Whoever wraps a broker owns it."""
    inner = MemoryBroker()
    with BrokerThrough(inner):
        pass
    with pytest.raises(RuntimeError, match="is closed"):
        inner.create_topic("t")


def test_a_subscription_is_passed_on_whole(broker: Broker) -> None:
    """Acks, nacks and the close reach the broker."""
    broker.publish([Message("t", "k", f"{n}", []) for n in range(2)])
    member: Subscription = SubscriptionThrough(broker.subscribe(["t"], group="g"))
    first, second = member.receive()
    member.ack(first)
    member.nack(second)
    assert [delivery.value for delivery in member.receive()] == [b"1"]
    member.close()
    assert sum(broker.lag(["t"], group="g").values()) == 1
    with pytest.raises(RuntimeError, match="subscription is closed"):
        member.receive()


def test_handovers_are_passed_on(broker: Broker) -> None:
    """They grow when partitions come or go, and when a group that changes leaves this member as it is they do not."""
    first = SubscriptionThrough(broker.subscribe(["t"], group="g"))
    second = SubscriptionThrough(broker.subscribe(["t"], group="g"))
    assert (first.handovers, second.handovers) == (2, 1)
    third = broker.subscribe(["t"], group="g")  # there is no partition for it
    assert (first.handovers, second.handovers, third.handovers) == (2, 1, 0)
    first.close()
    assert (second.handovers, third.handovers) == (2, 1)
