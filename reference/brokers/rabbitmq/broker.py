"""RabbitMQ behind the :class:`~reference.brokers.protocol.Broker` protocol, by pika.

Publishing is :mod:`reference.brokers.rabbitmq.publisher`, consuming :mod:`reference.brokers.rabbitmq.subscription`, and what
topics and groups are made of :mod:`reference.brokers.rabbitmq.topology`; each says what it promises when killed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from reference.brokers.members import Members
from reference.brokers.protocol import Capabilities, DeadLetters, Delivery, Message, NotOffered
from reference.brokers.rabbitmq.address import RabbitMQAddress
from reference.brokers.rabbitmq.management import unacked
from reference.brokers.rabbitmq.membership import Membership
from reference.brokers.rabbitmq.names import lane_queue
from reference.brokers.rabbitmq.publisher import MAX_MESSAGE_BYTES, RabbitMQPublisher, is_closed
from reference.brokers.rabbitmq.subscription import RabbitMQSubscription
from reference.brokers.rabbitmq.topology import Topology

__all__ = ["RabbitMQBroker"]

CAPABILITIES: Final = Capabilities(
    ordered_by_key=True,
    redelivery_count=True,
    dead_letters=True,
    replay_by_offset=False,
    replay_by_time=False,
    transactions=False,
    filters=False,
    delayed_delivery=True,
    lag=True,
    binary_headers=True,
    repeated_headers=True,
    max_message_bytes=MAX_MESSAGE_BYTES,
    notes={
        "dead_letters": "at least 'after' deliveries: a member counts its nacks itself, for handing them to the broker gives up"
        " order, and a member that leaves takes its own count with it. The broker counts what was fetched as delivered: what a"
        " member that went had fetched and never looked at has fewer attempts left, so choose 'after' with room for members"
        " that come and go",
        "replay_by_offset": "a queue forgets what was acked; keep events in a table, or in a stream, another kind of queue",
        "replay_by_time": "a queue forgets what was acked; publish again from where the events are kept",
        "transactions": "AMQP's cover one channel and are slow; an outbox does what people want them for",
        "filters": "a message that no group wants would be refused as unroutable; skip it in the handler, or make two topics",
        "exactly_once_delivery": "an ack can be lost with its connection; the inbox skips what comes again",
    },
)


class RabbitMQBroker:
    """One RabbitMQ vhost. ``url`` is ``amqp://[user:password@]host[:port][/vhost][?management=PORT_OR_URL&heartbeat=…]``.

    ``timeout_s`` bounds every wait for it. Connecting is lazy: the first call that needs the broker and does not reach it
    raises :class:`~reference.brokers.protocol.BrokerUnavailable` with the address and the reason.
    """

    capabilities = CAPABILITIES

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        self._address = RabbitMQAddress.parse(url)
        self._timeout_s = timeout_s
        self._topology = Topology(self._address, timeout_s=timeout_s)
        self._publisher = RabbitMQPublisher(self._topology, timeout_s=timeout_s)
        self._members = Members[Membership](is_closed)  # alive as long as their connection is

    @property
    def url(self) -> str:
        return self._address.url

    def publish(self, messages: Sequence[Message], *, delay_s: float = 0.0) -> None:
        """See :meth:`Broker.publish`. Use few different delays: each is a queue, until nobody has used it for a day."""
        self._publisher.publish(messages, delay_s=delay_s)

    def subscribe(
        self,
        topics: Sequence[str],
        *,
        group: str,
        dead_letters: DeadLetters | None = None,
        only: Mapping[str, str] | None = None,
    ) -> RabbitMQSubscription:
        """See :meth:`Broker.subscribe`. Raises :class:`ValueError` that names the queue for a group with other dead letters.

        A topic for dead letters is made if it is not there. While no group has subscribed to it, the broker keeps what it
        moves in the queue it came from, and tries again every three minutes: nothing is lost, and nothing is in the way.
        ``after`` counts the nacks of the member that has the message, and members that went, or crashed, with it fetched.
        Nobody can tell which of them had begun with it, so a message that never failed may be moved where members come and go
        more often than that. And a member that leaves takes its own count of nacks with it, which is one delivery to the
        broker: a message that always fails is delivered at least ``after`` times, and more often where members come and go.
        """
        if only is not None:
            self.capabilities.demand("filters", of=self.url)
        if not topics:
            raise ValueError("subscribe to at least one topic")
        if dead_letters is not None:
            dead_letters.check(topics)
        self._members.demand_open()
        member = RabbitMQSubscription(self._topology, topics, group=group, dead_letters=dead_letters, timeout_s=self._timeout_s)
        self._members.admit(member.membership, close=member.close)
        return member

    def create_topic(self, name: str, *, partitions: int = 3) -> None:
        self._members.demand_open()
        self._topology.create_topic(name, partitions)

    def lag(self, topics: Sequence[str], *, group: str) -> dict[tuple[str, int], int]:
        """See :meth:`Broker.lag`. Exact, but for what members in other processes hold without an ack: that is as old as
        the broker's last tick, and asked of the management API."""
        self._members.demand_open()
        depths = self._topology.depths(topics, group)
        mine = [member for member in self._members.here() if member.group == group and not member.closed]
        held = Counter[tuple[str, int]]()
        for member in mine:
            held.update(member.unsettled())
        elsewhere = {at for at, (_, taken) in depths.items() if taken and at not in held}
        if any(self._topology.members(topic, group) > sum(member.counted(topic) for member in mine) for topic, _ in elsewhere):
            by_queue = unacked(self._address, timeout_s=self._timeout_s)
            held.update({at: by_queue.get(lane_queue(*at, group), 0) for at in elsewhere})
        return {at: ready + held[at] for at, (ready, _) in depths.items()}

    def replay(self, topic: str) -> Iterator[Delivery]:
        """Not offered: a queue forgets what was acked."""
        self.capabilities.demand("replay_by_offset", of=self.url)
        raise NotOffered(topic)

    def rewind(self, topics: Sequence[str], *, group: str, to: datetime) -> None:  # noqa: ARG002  # the protocol's
        """Not offered: a queue forgets what was acked."""
        self.capabilities.demand("replay_by_time", of=self.url)

    def close(self) -> None:
        """Close what was subscribed here and let go of the broker; anything not confirmed by then was never promised.

        All of it shares one ``timeout_s``; a ``publish`` that another thread has not finished by then is ended.
        """
        by, members = time.monotonic() + self._timeout_s, self._members.shut()
        self._publisher.stop()
        for member in members:
            member.go()
        for member in members:
            member.leave(by=by)
        self._publisher.close(by=by)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
