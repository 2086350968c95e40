"""Thin bases for what stands between a broker and its user: whoever wraps one overrides only what is to be changed.

What enters leaves unchanged. Each promises what the broker, or the subscription, inside promises.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from reference.brokers.protocol import Broker, Capabilities, DeadLetters, Delivery, Message, Subscription

__all__ = ["BrokerThrough", "SubscriptionThrough"]


class SubscriptionThrough:
    """See :class:`~reference.brokers.protocol.Subscription`; ``inner`` does it all. One thread owns both."""

    def __init__(self, inner: Subscription) -> None:
        self._inner = inner

    @property
    def inner(self) -> Subscription:
        return self._inner

    @property
    def handovers(self) -> int:
        return self._inner.handovers

    def receive(self, limit: int = 100, timeout_s: float = 1.0) -> list[Delivery]:
        return self._inner.receive(limit, timeout_s)

    def ack(self, delivery: Delivery) -> None:
        self._inner.ack(delivery)

    def nack(self, delivery: Delivery, *, delay_s: float = 0.0) -> None:
        self._inner.nack(delivery, delay_s=delay_s)

    def close(self) -> None:
        self._inner.close()


class BrokerThrough:
    """See :class:`~reference.brokers.protocol.Broker`; ``inner`` does it all, and is closed when this is."""

    def __init__(self, inner: Broker) -> None:
        self._inner = inner

    @property
    def url(self) -> str:
        return self._inner.url

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    def publish(self, messages: Sequence[Message], *, delay_s: float = 0.0) -> None:
        self._inner.publish(messages, delay_s=delay_s)

    def subscribe(
        self,
        topics: Sequence[str],
        *,
        group: str,
        dead_letters: DeadLetters | None = None,
        only: Mapping[str, str] | None = None,
    ) -> Subscription:
        return self._inner.subscribe(topics, group=group, dead_letters=dead_letters, only=only)

    def create_topic(self, name: str, *, partitions: int = 3) -> None:
        self._inner.create_topic(name, partitions=partitions)

    def lag(self, topics: Sequence[str], *, group: str) -> dict[tuple[str, int], int]:
        return self._inner.lag(topics, group=group)

    def replay(self, topic: str) -> Iterator[Delivery]:
        return self._inner.replay(topic)

    def rewind(self, topics: Sequence[str], *, group: str, to: datetime) -> None:
        self._inner.rewind(topics, group=group, to=to)

    def close(self) -> None:
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
