"""A lane: one partition's queue as one member holds it. What was delivered and not settled yet, in order.

Nothing here waits or talks to the broker: the subscription does, under its lock.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field

from pika import BasicProperties
from pika.channel import Channel

from reference.brokers.protocol import Delivery
from reference.brokers.rabbitmq.headers import deliveries_before, from_properties

__all__ = ["Held", "Lane"]


@dataclass(slots=True, eq=False)
class Held:
    """A message the broker has given to this member and not heard of since."""

    offset: int
    tag: int
    key: str | bytes
    properties: BasicProperties
    value: bytes
    before: int = 0  # as the broker counts
    foremost: bool = False  # of what the broker gave with the lane
    nacks: int = 0

    @property
    def attempt(self) -> int:
        """The broker's count and our own: our nacks never reach it."""
        return 1 + self.before + self.nacks


@dataclass(slots=True, eq=False)
class Lane:
    """``waiting`` was not handed out yet, or is to be once more; ``handed`` is with the application, by offset."""

    topic: str
    partition: int
    queue: str
    channel: Channel | None = None
    waiting: deque[Held] = field(default_factory=deque)
    handed: dict[int, Held] = field(default_factory=dict)
    unsettled: dict[int, bool] = field(default_factory=dict)  # by tag: done, and to be told to the broker
    rejected: list[int] = field(default_factory=list)
    resume_at: float = 0.0
    active: bool = False  # it has been given something: no other member is
    leaving: bool = False  # to another member, as soon as the application has finished with what it has
    handovers: int = 0  # how often it came or left
    offsets: itertools.count[int] = field(default_factory=itertools.count)

    def arrive(self, tag: int, key: str | bytes, properties: BasicProperties, value: bytes, *, redelivered: bool) -> None:
        before = deliveries_before(properties, redelivered=redelivered)
        self.unsettled[tag] = False
        self.waiting.append(Held(next(self.offsets), tag, key, properties, value, before, foremost=not self.active))
        self.handovers += not self.active
        self.active = True

    def bury(self, dead_after: int) -> bool:
        """Reject what would be handed out next, if its consumers have gone too often and never said a word about it.

        That can only be what stood foremost when they went; all that was fetched behind it was counted as well, and is spared.
        """
        if not (self.waiting and self.waiting[0].foremost and self.waiting[0].attempt > dead_after) or self.leaving:
            return False
        self._reject(self.waiting.popleft())
        return True

    def ready(self, limit: int, now: float) -> list[Held]:
        """Up to ``limit`` that may be handed out now."""
        return [] if self.leaving or self.resume_at > now else list(itertools.islice(self.waiting, max(0, limit)))

    def hand_out(self, count: int) -> None:
        """The first ``count`` of what was ready are with the application now."""
        for held in [self.waiting.popleft() for _ in range(count)]:
            self.handed[held.offset] = held

    def ack(self, offset: int) -> bool:
        """Done with it, unless it is not with the application any more."""
        held = self.handed.pop(offset, None)
        if held is not None:
            self.unsettled[held.tag] = True
        return held is not None

    def nack(self, offset: int, *, resume_at: float, dead_after: int | None) -> bool:
        """Back to the head of the lane with all handed out behind it; or away from it, when it failed too often."""
        if offset not in self.handed:
            return False
        back = [self.handed.pop(other) for other in list(self.handed) if other >= offset]
        if dead_after is not None and back[0].attempt >= dead_after:
            self._reject(back.pop(0))
        else:
            back[0].nacks += 1
            self.resume_at = max(self.resume_at, resume_at)
        self.waiting.extendleft(reversed(back))
        return True

    def settle(self) -> None:
        """Tell the broker what is done with: what is together at the head in one ack, the rest one by one."""
        if self.channel is None or not self.channel.is_open:
            return
        for tag in self.rejected:
            self.channel.basic_reject(tag, requeue=False)
        self.rejected.clear()
        head = list(itertools.takewhile(self.unsettled.__getitem__, self.unsettled))
        if head:
            self.channel.basic_ack(head[-1], multiple=True)
        for tag in head:
            del self.unsettled[tag]
        apart = [tag for tag, done in self.unsettled.items() if done]
        for tag in apart:
            self.channel.basic_ack(tag)
            del self.unsettled[tag]

    def lose(self) -> None:
        """The broker has taken it all back: what was handed out is void."""
        self.channel = None
        self.handovers += self.active
        self.active = self.leaving = False
        self.waiting.clear()
        self.handed.clear()
        self.unsettled.clear()
        self.rejected.clear()

    def _reject(self, dead: Held) -> None:
        del self.unsettled[dead.tag]
        self.rejected.append(dead.tag)

    def delivery(self, held: Held, group: str) -> Delivery:
        key = held.key if isinstance(held.key, bytes) else held.key.encode()
        return Delivery(
            self.topic, self.partition, held.offset, key, held.value, from_properties(held.properties), group, held.attempt
        )
