"""One consumer of the made-up broker's group. Its acks reach the broker when it next asks for something, or at once, by chance.

Killed at any line: what had not reached the broker comes again, to another member.
"""

from __future__ import annotations

from collections.abc import Sequence

from reference.brokers import BrokerUnavailable, Delivery
from reference.evidence.simulation.log import Log
from reference.evidence.simulation.scheduler import Process

__all__ = ["Member"]


class Member:
    """See :class:`~reference.brokers.Subscription`."""

    def __init__(self, log: Log, process: Process) -> None:
        self._log, self.process, self._scheduler = log, process, process.scheduler
        self.position: dict[int, int] = {}
        self._resume_at: dict[int, float] = {}
        self._acked: dict[int, set[int]] = {}
        self.handovers = 0

    def assign(self, partitions: Sequence[int]) -> None:
        """What it has from now on; what it had before and keeps goes on where it is."""
        self.handovers += list(self.position) != list(partitions)
        self.position = {n: self.position.get(n, self._log.committed[n]) for n in partitions}
        self._resume_at = {n: at for n, at in self._resume_at.items() if n in self.position}
        self._acked = {n: self._acked.get(n, set()) for n in partitions}

    def receive(self, limit: int = 100, timeout_s: float = 1.0) -> list[Delivery]:
        with self._scheduler.begin("polls") as step:
            self._demand()
            if self not in self._log.members:
                self._log.join(self)
            self._reach()
            until = self._scheduler.now + timeout_s
            self._scheduler.wait("waits for messages", ready=lambda: bool(self._ready()), until=until)
            if self not in self._log.members:
                step.outcome = "nothing: it was silent for too long meanwhile"
                return []
            taken = self._take(limit)
            step.outcome = ", ".join(delivery.where for delivery in taken) or "nothing"
            return taken

    def ack(self, delivery: Delivery) -> None:
        self._scheduler.step("acks", delivery.where)
        if delivery.offset < self.position.get(delivery.partition, 0):
            self._acked[delivery.partition].add(delivery.offset)
        if self._scheduler.draw.random() < 0.5:
            self._reach()

    def nack(self, delivery: Delivery, *, delay_s: float = 0.0) -> None:
        self._scheduler.step("nacks", delivery.where)
        partition = delivery.partition
        if delivery.offset < self.position.get(partition, 0):
            self.position[partition] = delivery.offset
            self._acked[partition] = {offset for offset in self._acked[partition] if offset < delivery.offset}
            self._resume_at[partition] = self._scheduler.now + delay_s

    def close(self) -> None:
        self._reach()
        self._log.leave(self)

    def _demand(self) -> None:
        if self._log.down_until > self._scheduler.now:
            raise BrokerUnavailable("simulated:// did not answer")

    def _reach(self) -> None:
        """The acks come to the broker; those of a member that is none any more are not heard."""
        if self in self._log.members and self._log.down_until <= self._scheduler.now:
            for partition, acked in self._acked.items():
                while self._log.committed[partition] in acked:
                    self._log.committed[partition] += 1

    def _ready(self) -> list[int]:
        now, logs = self._scheduler.now, self._log.logs
        return [n for n, at in self.position.items() if at < len(logs[n]) and self._resume_at.get(n, now) <= now]

    def _take(self, limit: int) -> list[Delivery]:
        taken: list[Delivery] = []
        for partition in self._ready():
            at = self.position[partition]
            batch = self._log.logs[partition][at : at + self._scheduler.draw.randint(1, limit)]
            self.position[partition] += len(batch)
            taken += batch
        return taken
