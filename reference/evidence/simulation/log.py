"""A made-up broker: logs, one for each partition, and a group that reads them.

What is true to real ones and matters: messages go into the log one after another, others' in between; a publisher that hears
nothing does not know what went in, and the rest may still go in later; what is refused holds back its key in that call
(:mod:`.client`); what is not acked comes again, to whoever has the partition then; a member that is silent for too long loses
its partitions and is not told, and goes on with what it holds (:mod:`.member`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from zlib import crc32

from reference.brokers import Delivery, Message
from reference.evidence.simulation.scheduler import Process, Scheduler

if TYPE_CHECKING:
    from reference.evidence.simulation.member import Member

__all__ = ["SESSION_S", "Log", "identify"]

SESSION_S: Final = 1.5  # after so long a silence a member has left


class Log:
    """The broker itself: one topic, one group. ``refused`` says until when an event is not taken."""

    def __init__(self, scheduler: Scheduler, topic: str, *, partitions: int) -> None:
        self.scheduler, self.topic = scheduler, topic
        self.logs: list[list[Delivery]] = [[] for _ in range(partitions)]
        self.committed = [0] * partitions
        self.members: list[Member] = []
        self.refused: dict[str, float] = {}
        self.down_until = 0.0
        self.on_its_way = 0

    def partition(self, key: str) -> int:
        return crc32(key.encode()) % len(self.logs)

    def append(self, message: Message, group: str) -> None:
        log = self.logs[partition := self.partition(message.key)]
        headers = tuple((name, text.encode() if isinstance(text, str) else text) for name, text in message.headers)
        value = message.value.encode() if isinstance(message.value, str) else message.value
        log.append(Delivery(self.topic, partition, len(log), message.key.encode(), value, headers, group))

    def refuses(self, message: Message) -> bool:
        return bool(self.refused) and self.refused.get(identify(message), 0.0) > self.scheduler.now

    def arrive_later(self, messages: Sequence[Message], group: str) -> None:
        """What was on its way when its sender gave up: of each partition the first some arrive, in order, in a while."""
        draw = self.scheduler.draw
        for partition in range(len(self.logs)):
            rest = [message for message in messages if self.partition(message.key) == partition]
            delay_s = 0.0
            for message in rest[: draw.randint(0, len(rest))]:
                delay_s += draw.uniform(0, 0.5)
                self.on_its_way += 1
                self.scheduler.later(delay_s, lambda message=message: self._arrive(message, group))  # type: ignore[misc]

    def _arrive(self, message: Message, group: str) -> None:
        self.on_its_way -= 1
        self.scheduler.note("broker", "receives late", identify(message))
        self.append(message, group)

    def join(self, member: Member) -> None:
        self.members.append(member)
        self._share()

    def leave(self, member: Member) -> None:
        if member in self.members:
            self.members.remove(member)
            self._share()

    def lose(self, process: Process) -> None:
        """Its members were silent for too long."""
        for member in [member for member in self.members if member.process is process]:
            self.scheduler.note("broker", "gives up on", process.name)
            self.leave(member)

    def _share(self) -> None:
        for index, member in enumerate(self.members):
            member.assign([n for n in range(len(self.logs)) if n % len(self.members) == index])

    def repeat(self) -> None:
        """Somebody gets something once more: a partition is read again from a little before where it stood."""
        for member in self.members[: 1 + self.scheduler.draw.randrange(2)]:
            member.handovers += 1
            for partition in member.position:
                back = self.scheduler.draw.randint(0, 3)
                member.position[partition] = max(0, min(member.position[partition], self.committed[partition]) - back)

    @property
    def read(self) -> bool:
        """Everything has been acked, and nothing is on its way."""
        return not self.on_its_way and all(done == len(log) for done, log in zip(self.committed, self.logs, strict=True))


def identify(message: Message) -> str:
    """The event's id, for traces."""
    return str(message.headers[0][1])
