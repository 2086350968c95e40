"""A process's connection to the made-up broker. Every message it sends is a step of its own, and may be its last.

What enters is what a relay publishes; what leaves is in the log when ``publish`` returns, and else may be or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from reference.brokers import BrokerUnavailable, Capabilities, DeadLetters, Delivery, Message, NotConfirmed
from reference.brokers.memory import CAPABILITIES
from reference.evidence.simulation.log import Log, identify
from reference.evidence.simulation.member import Member
from reference.evidence.simulation.scheduler import Process

__all__ = ["Client"]


class Client:
    """A process's connection. See :class:`~reference.brokers.Broker`."""

    url = "simulated://"
    capabilities: Capabilities = CAPABILITIES

    def __init__(self, log: Log, process: Process, *, group: str) -> None:
        self._log, self._process, self._group, self._scheduler = log, process, group, process.scheduler

    def publish(self, messages: Sequence[Message], *, delay_s: float = 0.0) -> None:
        assert not delay_s, "nobody asks for that yet"
        failures: dict[int, str] = {}
        standing: set[str] = set()
        sent = list(messages)
        for index, message in enumerate(sent):
            with self._scheduler.begin("publishes", identify(message)) as step:
                if self._process.unanswered or self._log.down_until > self._scheduler.now:
                    self._process.unanswered = False
                    rest = [m for n, m in enumerate(sent) if n >= index and m.key not in standing]
                    self._log.arrive_later(rest, self._group)
                    raise BrokerUnavailable(f"{self.url} did not answer")
                if message.key in standing:
                    step.outcome = failures[index] = "behind a refused event of the same key"
                elif self._log.refuses(message):
                    standing.add(message.key)
                    step.outcome = failures[index] = "refused"
                else:
                    self._log.append(message, self._group)
                    step.outcome = "in the log"
        if failures:
            raise NotConfirmed(failures)

    def subscribe(
        self, topics: Sequence[str], *, group: str, dead_letters: DeadLetters | None = None, only: Mapping[str, str] | None = None
    ) -> Member:
        assert (list(topics), group, dead_letters, only) == ([self._log.topic], self._group, None, None)
        self._scheduler.step("subscribes")
        member = Member(self._log, self._process)
        self._log.join(member)
        return member

    def create_topic(self, name: str, *, partitions: int = 3) -> None:
        raise NotImplementedError

    def lag(self, topics: Sequence[str], *, group: str) -> dict[tuple[str, int], int]:
        raise NotImplementedError

    def replay(self, topic: str) -> Iterator[Delivery]:
        raise NotImplementedError

    def rewind(self, topics: Sequence[str], *, group: str, to: datetime) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is kept open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
