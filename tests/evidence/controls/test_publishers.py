"""A publisher that does not wait: what it gains, and what it loses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from reference.brokers import BrokerUnavailable, Message
from reference.brokers.memory import MemoryBroker
from reference.brokers.through import BrokerThrough
from reference.evidence.controls.publishers import AcksNotAwaited


class Slow(BrokerThrough):
    """Takes nothing before it is let, and is away for the first ``away`` calls."""

    def __init__(self, *, away: int = 0) -> None:
        super().__init__(MemoryBroker())
        self.open, self._away = threading.Event(), away

    def publish(self, messages: Sequence[Message], *, delay_s: float = 0.0) -> None:
        assert self.open.wait(30)
        self._away -= 1
        if self._away >= 0:
            raise BrokerUnavailable("away")
        super().publish(messages, delay_s=delay_s)


def values(inner: Slow) -> list[bytes | None]:
    return [delivery.value for delivery in inner.replay("orders")]


def test_it_returns_before_anything_is_confirmed(eventually: Callable[..., Any]) -> None:
    """And sends it all the same, in the order of the calls, when nothing happens meanwhile."""
    inner = Slow()
    inner.create_topic("orders", partitions=1)
    hasty = AcksNotAwaited(inner)
    for value in (b"1", b"2"):
        hasty.publish([Message("orders", "k", value, [])])
    assert values(inner) == []
    inner.open.set()
    assert eventually(lambda: values(inner) == [b"1", b"2"])
    hasty.close()


def test_what_the_broker_does_not_take_is_forgotten(eventually: Callable[..., Any]) -> None:
    """Nobody is told: the caller has gone on long ago."""
    inner = Slow(away=1)
    inner.create_topic("orders", partitions=1)
    inner.open.set()
    hasty = AcksNotAwaited(inner)
    for value in (b"lost", b"kept"):
        hasty.publish([Message("orders", "k", value, [])])
    assert eventually(lambda: values(inner) == [b"kept"])
    hasty.close()
