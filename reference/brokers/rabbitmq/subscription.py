"""One member of a RabbitMQ consumer group, as the application sees it; its place in the group is
:mod:`reference.brokers.rabbitmq.membership`.

Killed at any line: what was not acked is delivered again, to this member or to another.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from reference.brokers.protocol import DeadLetters, Delivery
from reference.brokers.rabbitmq.lane import Held, Lane
from reference.brokers.rabbitmq.membership import Membership
from reference.brokers.rabbitmq.topology import Topology, lane_queue, members_queue

__all__ = ["RabbitMQSubscription"]


class RabbitMQSubscription:
    """See :class:`~reference.brokers.protocol.Subscription`. Acks are written as soon as the connection's thread runs.

    ``attempt`` is the broker's count: what a member had fetched ahead when it left counts as delivered to it.
    """

    def __init__(
        self, topology: Topology, topics: Mapping[str, int], *, group: str, dead_letters: DeadLetters | None, timeout_s: float
    ) -> None:
        self.group = group
        self._topology, self._topics = topology, dict(topics)
        self._dead_letters = dead_letters
        self.membership = Membership(topology, topics, group=group, timeout_s=timeout_s)
        self._at = {(lane.topic, lane.partition): lane for lane in self.membership.lanes}
        self._first = 0  # the lane that is served first next time
        self._join()

    def receive(self, limit: int = 100, timeout_s: float = 1.0) -> list[Delivery]:
        """See the protocol. Raises :class:`UnknownTopic` or :class:`UnknownGroup` when an operator deleted one, and
        :class:`BrokerUnavailable` while nobody answers; asked again, it connects again."""
        until, member = time.monotonic() + timeout_s, self.membership
        if member.closed:
            raise RuntimeError("this subscription is closed: subscribe again")
        if member.lost:
            self._join()
        with member.news:
            taken = self._take(limit)
            while not (taken or member.closed or member.gone or member.lost or time.monotonic() >= until):
                member.news.wait(self._next_s(until))
                taken = self._take(limit)
            deliveries = [lane.delivery(held, self.group) for lane, held in taken]
        if not deliveries and member.gone:
            self._raise_gone(member.gone)
        return deliveries

    def ack(self, delivery: Delivery) -> None:
        with self.membership.news:
            lane = self._at.get((delivery.topic, delivery.partition))
            if lane is not None and lane.ack(delivery.offset):
                self.membership.settle_soon()

    def nack(self, delivery: Delivery, *, delay_s: float = 0.0) -> None:
        """Its lane goes back to this delivery, here and without the broker, whose requeue promises no place.

        With dead letters, one that failed ``after`` times leaves the lane instead, which goes on at once.
        """
        with self.membership.news:
            lane = self._at.get((delivery.topic, delivery.partition))
            resume_at = time.monotonic() + delay_s
            dead_after = self._dead_letters.after if self._dead_letters else None
            if lane is not None and lane.nack(delivery.offset, resume_at=resume_at, dead_after=dead_after):
                self.membership.settle_soon()

    def close(self) -> None:
        self.membership.leave()

    def _join(self) -> None:
        """Each time anew: a broker that was killed may have forgotten the queues it made in the moment before."""
        for topic in self._topics:
            self._topology.join(topic, self.group, self._dead_letters)
        self.membership.connect()

    def _take(self, limit: int) -> list[tuple[Lane, Held]]:
        now, lanes = time.monotonic(), self.membership.lanes
        self._first = (self._first + 1) % len(lanes)
        taken: list[tuple[Lane, Held]] = []
        for lane in lanes[self._first :] + lanes[: self._first]:
            taken += [(lane, held) for held in lane.take(limit - len(taken), now)]
        return taken

    def _next_s(self, until: float) -> float:
        """How long to wait at most, so that a lane whose delay is over goes on in time."""
        now = time.monotonic()
        return max(0.0, min([until, *(lane.resume_at for lane in self.membership.lanes if lane.resume_at > now)]) - now)

    def _raise_gone(self, queue: str) -> None:
        for topic, count in self._topics.items():
            self._topology.partitions(topic)
            if queue in {members_queue(topic, self.group), *(lane_queue(topic, n, self.group) for n in range(count))}:
                raise self._topology.unknown_group(topic, self.group)
