"""A broker in this process's memory, for unit tests: the protocol's promises without a network, gone with the process.

Partitions, groups, order per key, redelivery without ack and lag behave as Kafka's do; durability is not offered.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from reference.brokers.protocol import Capabilities, DeadLetters, Delivery, Message, NotConfirmed, UnknownTopic
from reference.brokers.text import is_utf8

__all__ = ["MemoryBroker"]

LACKS: Final = (
    "durable", "redelivery_count", "dead_letters", "replay_by_time", "transactions", "filters", "delayed_delivery",
    "exactly_once_delivery",
)  # fmt: skip
CAPABILITIES: Final = Capabilities(
    ordered_by_key=True,
    redelivery_count=False,
    dead_letters=False,
    replay_by_offset=True,
    replay_by_time=False,
    transactions=False,
    filters=False,
    delayed_delivery=False,
    lag=True,
    binary_headers=True,
    repeated_headers=True,
    max_message_bytes=1_048_588,
    durable=False,
    notes=dict.fromkeys(LACKS, "it stands in for a broker in unit tests, and goes with its process: use a real one"),
)


@dataclass(slots=True)
class _Group:
    members: list[MemorySubscription] = field(default_factory=list)
    committed: dict[tuple[str, int], int] = field(default_factory=dict)


class MemoryBroker:
    """See :class:`~reference.brokers.protocol.Broker`."""

    capabilities = CAPABILITIES
    url = "memory://"

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._logs: dict[tuple[str, int], list[Delivery]] = {}
        self._partitions: dict[str, int] = {}
        self._groups: dict[str, _Group] = {}
        self._closed = False

    def publish(self, messages: Sequence[Message], *, delay_s: float = 0.0) -> None:
        self._demand_open()
        if delay_s > 0:
            CAPABILITIES.demand("delayed_delivery", of=self.url)
        failures: dict[int, str] = {}
        blocked: set[tuple[str, str]] = set()
        with self._lock:
            self._demand_open()
            for index, message in enumerate(messages):
                reason = self._refusal(message, blocked)
                if reason:
                    failures[index] = reason
                    blocked.add((message.topic, message.key))
                else:
                    self._append(message)
            self._lock.notify_all()
        if failures:
            raise NotConfirmed(failures)

    def subscribe(
        self,
        topics: Sequence[str],
        *,
        group: str,
        dead_letters: DeadLetters | None = None,
        only: Mapping[str, str] | None = None,
    ) -> MemorySubscription:
        if dead_letters is not None:
            dead_letters.check(topics)
            CAPABILITIES.demand("dead_letters", of=self.url)
        if only:
            CAPABILITIES.demand("filters", of=self.url)
        with self._lock:
            self._demand_open()
            for topic in topics:
                self._known(topic)
            member = MemorySubscription(self, topics, group)
            self._groups.setdefault(group, _Group()).members.append(member)
            self._rebalance(group)
            return member

    def create_topic(self, name: str, *, partitions: int = 3) -> None:
        with self._lock:
            self._demand_open()
            if name not in self._partitions:
                self._partitions[name] = partitions
                self._logs |= {(name, p): [] for p in range(partitions)}

    def lag(self, topics: Sequence[str], *, group: str) -> dict[tuple[str, int], int]:
        with self._lock:
            self._demand_open()
            committed = self._groups.setdefault(group, _Group()).committed
            return {at: len(self._logs[at]) - committed.get(at, 0) for topic in topics for at in self._known(topic)}

    def replay(self, topic: str) -> Iterator[Delivery]:
        with self._lock:
            self._demand_open()
            held = [delivery for at in self._known(topic) for delivery in self._logs[at]]
        return iter(held)

    def rewind(self, topics: Sequence[str], *, group: str, to: datetime) -> None:  # noqa: ARG002  # never answered
        self._demand_open()
        CAPABILITIES.demand("replay_by_time", of=self.url)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            members = [member for group in self._groups.values() for member in group.members]
        for member in members:
            member.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _demand_open(self) -> None:
        if self._closed:
            raise RuntimeError("this broker is closed: connect again")

    def _known(self, topic: str) -> list[tuple[str, int]]:
        if topic not in self._partitions:
            raise UnknownTopic(f"topic {topic!r} does not exist at {self.url}: create it")
        return [(topic, partition) for partition in range(self._partitions[topic])]

    def _refusal(self, message: Message, blocked: set[tuple[str, str]]) -> str:
        if message.topic not in self._partitions:
            return f"topic {message.topic!r} does not exist at {self.url}: create it"
        if len(message.value) > CAPABILITIES.max_message_bytes:
            return f"{len(message.value)} bytes, over {CAPABILITIES.max_message_bytes}"
        texts = [message.key, message.value, *(text for pair in message.headers for text in pair)]
        if any(isinstance(text, str) and not is_utf8(text) for text in texts):
            return "cannot be written as UTF-8"
        return "behind a refused event of the same key" if (message.topic, message.key) in blocked else ""

    def _append(self, message: Message) -> None:
        key = message.key.encode()
        partition = zlib.crc32(key) % self._partitions[message.topic]
        log = self._logs[(message.topic, partition)]
        value = message.value.encode() if isinstance(message.value, str) else message.value
        headers = tuple((name, text.encode() if isinstance(text, str) else text) for name, text in message.headers)
        log.append(Delivery(message.topic, partition, len(log), key, value, headers))

    def _rebalance(self, group: str) -> None:
        members = self._groups[group].members
        for index, member in enumerate(members):
            mine = [at for n, at in enumerate(a for t in member.topics for a in self._known(t)) if n % len(members) == index]
            member.assign({at: self._groups[group].committed.get(at, 0) for at in mine})


class MemorySubscription:
    """See :class:`~reference.brokers.protocol.Subscription`."""

    def __init__(self, broker: MemoryBroker, topics: Sequence[str], group: str) -> None:
        self._broker, self.topics, self._group = broker, tuple(topics), group
        self._next: dict[tuple[str, int], int] = {}
        self._open: dict[tuple[str, int], dict[int, bool]] = {}
        self._resume_at: dict[tuple[str, int], float] = {}
        self._closed = False
        self.handovers = 0

    def assign(self, positions: dict[tuple[str, int], int]) -> None:
        """Called by the broker, under its lock, when members come and go."""
        self.handovers += positions.keys() != self._next.keys()
        self._next = {at: self._next.get(at, position) for at, position in positions.items()}
        self._open = {at: self._open.get(at, {}) for at in positions}

    def receive(self, limit: int = 100, timeout_s: float = 1.0) -> list[Delivery]:
        broker = self._broker
        with broker._lock:
            if self._closed:
                raise RuntimeError("this subscription is closed: subscribe again")
            now = time.monotonic()
            until = min([timeout_s, *(when - now for when in self._resume_at.values() if when > now)])
            broker._lock.wait_for(lambda: self._closed or any(n < len(broker._logs[at]) for at, n in self._ready()), until)
            return [] if self._closed else self._take(limit)

    def ack(self, delivery: Delivery) -> None:
        at = (delivery.topic, delivery.partition)
        with self._broker._lock:
            offsets = self._open.get(at, {})
            if delivery.offset in offsets:
                offsets[delivery.offset] = True
            while offsets and offsets[next(iter(offsets))]:
                done = next(iter(offsets))
                self._broker._groups[self._group].committed[at] = done + 1
                del offsets[done]

    def nack(self, delivery: Delivery, *, delay_s: float = 0.0) -> None:
        at = (delivery.topic, delivery.partition)
        with self._broker._lock:
            if delivery.offset in self._open.get(at, {}):
                self._open[at] = {o: acked for o, acked in self._open[at].items() if o < delivery.offset}
                self._next[at] = delivery.offset
                self._resume_at[at] = time.monotonic() + delay_s

    def close(self) -> None:
        with self._broker._lock:
            members = self._broker._groups[self._group].members
            if self in members:
                self._closed = True
                self._open.clear()  # another member is owed it
                members.remove(self)
                self._broker._rebalance(self._group)
                self._broker._lock.notify_all()

    def _ready(self) -> list[tuple[tuple[str, int], int]]:
        now = time.monotonic()
        return [(at, position) for at, position in self._next.items() if self._resume_at.get(at, now) <= now]

    def _take(self, limit: int) -> list[Delivery]:
        taken: list[Delivery] = []
        for at, position in self._ready():
            batch = self._broker._logs[at][position : position + limit - len(taken)]
            self._next[at] += len(batch)
            self._open[at] |= {delivery.offset: False for delivery in batch}
            taken += [replace(delivery, group=self._group) for delivery in batch]
        return taken
