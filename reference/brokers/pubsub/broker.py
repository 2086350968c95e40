"""Google Pub/Sub behind the :class:`~reference.brokers.protocol.Broker` protocol.

Publishing is :mod:`reference.brokers.pubsub.publisher`, consuming :mod:`reference.brokers.pubsub.subscription`, topics and
groups :mod:`reference.brokers.pubsub.topology`; each says what it promises when killed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import NoReturn, Self

from reference.brokers.members import Members
from reference.brokers.protocol import Capabilities, DeadLetters, Delivery, Message
from reference.brokers.pubsub.address import PubSubAddress
from reference.brokers.pubsub.capabilities import capabilities
from reference.brokers.pubsub.connection import PubSubConnection
from reference.brokers.pubsub.publisher import PubSubPublisher
from reference.brokers.pubsub.subscription import PubSubSubscription
from reference.brokers.pubsub.topology import PubSubTopology

__all__ = ["PubSubBroker"]


class PubSubBroker:
    """One project. ``url`` is ``pubsub://PROJECT``, or ``pubsub://PROJECT@HOST:PORT`` for an emulator.

    A group is a subscription named ``<topic>.<group>``. A delivery's partition is one of 16 buckets of keys, for Pub/Sub
    orders keys alone; its offset is this member's own count in the bucket. ``timeout_s`` bounds every wait. Connecting is
    lazy: the first call that needs the service and does not reach it raises
    :class:`~reference.brokers.protocol.BrokerUnavailable` with the address.
    """

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        self._address = PubSubAddress.parse(url)
        self._capabilities = capabilities(self._address)
        self._connection = PubSubConnection(self._address, timeout_s=timeout_s)
        self._topology = PubSubTopology(self._connection)
        self._publisher = PubSubPublisher(self._connection, self._topology)
        self._members = Members[PubSubSubscription](self._connection.is_closed)

    @property
    def url(self) -> str:
        return self._address.url

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def publish(self, messages: Sequence[Message], *, delay_s: float = 0.0) -> None:
        """See :meth:`Broker.publish`. What the service would refuse, the emulator's leniency notwithstanding, is refused."""
        self._members.demand_open()
        if delay_s > 0:
            self._refuse("delayed_delivery")
        self._publisher.publish(messages)

    def subscribe(
        self,
        topics: Sequence[str],
        *,
        group: str,
        dead_letters: DeadLetters | None = None,
        only: Mapping[str, str] | None = None,
    ) -> PubSubSubscription:
        """See :meth:`Broker.subscribe`. Raises :class:`ValueError` for no topic, or if the group was made with other options.

        The dead letter topic is made if need be, and the group gets a subscription to it, so that nothing is dropped there.
        """
        self._members.demand_open()
        if not topics:
            raise ValueError("subscribe to at least one topic")
        if dead_letters is not None:
            dead_letters.check(topics)
            self._capabilities.demand("dead_letters", of=self.url)
        if only:
            self._capabilities.demand("filters", of=self.url)
        paths = {topic: self._topology.join(topic, group, dead_letters=dead_letters, only=only or {}) for topic in topics}
        member = PubSubSubscription(self._connection, self._topology, paths, group=group, dead_letters=dead_letters)
        self._members.admit(member, close=member.close)
        return member

    def create_topic(self, name: str, *, partitions: int = 3) -> None:  # noqa: ARG002  # keys alone are ordered here
        """See :meth:`Broker.create_topic`. ``partitions`` says nothing here."""
        self._members.demand_open()
        self._topology.create_topic(name)

    def lag(self, topics: Sequence[str], *, group: str) -> dict[tuple[str, int], int]:  # noqa: ARG002  # never answered
        self._members.demand_open()
        self._refuse("lag")

    def replay(self, topic: str) -> Iterator[Delivery]:  # noqa: ARG002  # never answered
        self._members.demand_open()
        self._refuse("replay_by_offset")

    def rewind(self, topics: Sequence[str], *, group: str, to: datetime) -> None:
        """See :meth:`Broker.rewind`. It reaches back seven days, and not behind the group's first subscription."""
        self._members.demand_open()
        self._capabilities.demand("replay_by_time", of=self.url)
        for topic in topics:
            self._topology.seek(topic, group, to=to)

    def snapshot(self, topic: str, *, group: str, name: str) -> None:
        """Remember, for seven days at most, what ``group`` has acked of the topic. Pub/Sub only."""
        self._members.demand_open()
        self._topology.snapshot(topic, group, name=name)

    def restore(self, topic: str, *, group: str, name: str) -> None:
        """Have ``group`` receive what it had not acked at the snapshot, and all since; nobody may be in it now."""
        self._members.demand_open()
        self._topology.seek(topic, group, to=name)

    def close(self) -> None:
        """Close what was subscribed here and let go of the service; anything not confirmed by then was never promised.

        All of it shares one ``timeout_s``.
        """
        by = time.monotonic() + self._connection.timeout_s
        members = self._members.shut()
        for member in members:
            member.stop()
        for member in members:
            member.close(by=by)
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _refuse(self, name: str) -> NoReturn:
        self._capabilities.demand(name, of=self.url)
        raise AssertionError(f"{name} is offered and not built")
