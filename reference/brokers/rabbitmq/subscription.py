"""One member of a RabbitMQ consumer group, as the application sees it; its place in the group is
:mod:`reference.brokers.rabbitmq.membership`.

Killed at any line: what was not acked is delivered again, to this member or to another.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from reference.brokers.protocol import BrokerUnavailable, DeadLetters, Delivery
from reference.brokers.rabbitmq.lane import Lane
from reference.brokers.rabbitmq.membership import PREFETCH, PREFETCH_WITH_DEAD_LETTERS, Membership
from reference.brokers.rabbitmq.names import members_queue
from reference.brokers.rabbitmq.topology import Topology

__all__ = ["RabbitMQSubscription"]


class RabbitMQSubscription:
    """See :class:`~reference.brokers.protocol.Subscription`. Acks are written as soon as the connection's thread runs.

    ``attempt`` is the broker's count and this member's own: what a member had fetched ahead when it left counts as delivered
    to it once, however often it had nacked it. So ``attempt``, and what ``after`` of dead letters is held against, may fall
    when a lane changes hands: at least ``after`` deliveries, and more where members come and go. Only the broker could count
    across members, and to hand a nack back to it gives up the lane's order.
    """

    def __init__(
        self, topology: Topology, topics: Sequence[str], *, group: str, dead_letters: DeadLetters | None, timeout_s: float
    ) -> None:
        self._group = group
        self._topology, self._topics = topology, list(topics)
        self._dead_letters, self._dead_after = dead_letters, dead_letters.after if dead_letters else None
        prefetch = PREFETCH if dead_letters is None else min(PREFETCH, PREFETCH_WITH_DEAD_LETTERS)
        self.membership = Membership(topology, group=group, prefetch=prefetch, timeout_s=timeout_s)
        self._counts: dict[str, int] = {}  # partitions, when we joined last
        self._first = 0  # the lane that is served first next time
        self._join()

    @property
    def handovers(self) -> int:
        return self.membership.handovers

    def receive(self, limit: int = 100, timeout_s: float = 1.0) -> list[Delivery]:
        """See the protocol. Raises :class:`UnknownTopic` or :class:`UnknownGroup` when an operator deleted one, and
        :class:`BrokerUnavailable` while nobody answers; asked again, it connects again."""
        until, member = time.monotonic() + timeout_s, self.membership
        if member.closed:
            raise RuntimeError("this subscription is closed: subscribe again")
        if member.lost:
            try:
                self._join()
            except BrokerUnavailable:
                if not member.closed:
                    raise
        with member.news:
            deliveries = self._take(limit)
            while not (deliveries or member.closed or member.gone or member.lost or time.monotonic() >= until):
                member.news.wait(self._next_s(until))
                deliveries = self._take(limit)
        if not deliveries and member.gone:
            self._raise_gone(member.gone)
        return deliveries

    def ack(self, delivery: Delivery) -> None:
        with self.membership.news:
            lane = self.membership.lane(delivery.topic, delivery.partition)
            if lane is not None and lane.ack(delivery.offset):
                self.membership.settle_soon()

    def nack(self, delivery: Delivery, *, delay_s: float = 0.0) -> None:
        """Its lane goes back to this delivery, here and without the broker, whose requeue promises no place.

        With dead letters, one that failed ``after`` times leaves the lane instead, which goes on at once.
        """
        with self.membership.news:
            lane = self.membership.lane(delivery.topic, delivery.partition)
            resume_at = time.monotonic() + delay_s
            if lane is not None and lane.nack(delivery.offset, resume_at=resume_at, dead_after=self._dead_after):
                self.membership.settle_soon()

    def close(self) -> None:
        self.membership.leave()

    def _join(self) -> None:
        """Each time anew: a broker that was killed may have forgotten the queues it made in the moment before."""
        self._counts = self._topology.join(self._topics, self._group, self._dead_letters, before=self._counts)
        self.membership.connect(self._counts)

    def _take(self, limit: int) -> list[Delivery]:
        """Handed out only when all of them are built: what fails strands nobody."""
        now, lanes = time.monotonic(), self.membership.lanes
        self._first = (self._first + 1) % len(lanes)
        deliveries: list[Delivery] = []
        counts: list[tuple[Lane, int]] = []
        for lane in lanes[self._first :] + lanes[: self._first]:
            if self._dead_after is not None and lane.bury(self._dead_after):
                self.membership.settle_soon()
            ready = lane.ready(limit - len(deliveries), now)
            deliveries += [lane.delivery(held, self._group) for held in ready]
            counts.append((lane, len(ready)))
        for lane, count in counts:
            lane.hand_out(count)
        return deliveries

    def _next_s(self, until: float) -> float:
        """How long to wait at most, so that a lane whose delay is over goes on in time."""
        now = time.monotonic()
        return max(0.0, min([until, *(lane.resume_at for lane in self.membership.lanes if lane.resume_at > now)]) - now)

    def _raise_gone(self, queue: str) -> None:
        for topic in self._topics:
            self._topology.partitions(topic)
            lanes = {lane.queue for lane in self.membership.lanes if lane.topic == topic}
            if queue in {members_queue(topic, self._group), *lanes}:
                raise self._topology.unknown_group(topic, self._group)
