"""What every broker here promises, and what each admits it cannot do.

A :class:`Message` enters, a :class:`Delivery` leaves. Killed at any line: a message that ``publish`` confirmed is
durable; one it had not confirmed may or may not be there; a delivery that was not acked comes back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Protocol, Self

__all__ = [
    "Broker",
    "BrokerUnavailable",
    "Capabilities",
    "Delivery",
    "Headers",
    "Message",
    "NotConfirmed",
    "Subscription",
    "UnknownTopic",
]


Headers = Sequence[tuple[str, str | bytes]]


class Message(NamedTuple):
    """What is handed to a broker: ``key`` decides the order, ``headers`` are a list of pairs and may repeat a name."""

    topic: str
    key: str
    value: bytes | str
    headers: Headers


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a broker hands to a consumer group. ``attempt`` counts from 1, or is ``None`` where the broker does not count."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    group: str = ""
    attempt: int | None = None

    @property
    def where(self) -> str:
        """Topic, partition and offset, as people write them in a runbook."""
        return f"{self.topic}[{self.partition}]@{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a broker really does; what is ``False`` here is refused, never faked.

    ``max_message_bytes`` is the default limit on key, value and headers together.
    """

    ordered_by_key: bool
    redelivery_count: bool
    dead_letters: bool
    replay_by_offset: bool
    replay_by_time: bool
    transactions: bool
    filters: bool
    delayed_delivery: bool
    max_message_bytes: int


class NotConfirmed(Exception):
    """Some messages were refused for good; every other message of the call is durable, perhaps more than once.

    ``failures`` pairs each index into the call's sequence with the reason. No message behind a failed one with the same
    topic and key was sent.
    """

    def __init__(self, failures: Mapping[int, str]) -> None:
        self.failures = dict(failures)
        first = next(iter(self.failures.values()), "")
        super().__init__(f"{len(self.failures)} message(s) not confirmed, the first because: {first}")


class BrokerUnavailable(ConnectionError):
    """The broker did not answer in time; whatever was being published may or may not be there. Names the address."""


class UnknownTopic(LookupError):
    """The topic does not exist; the message names it and how to create it."""


class Subscription(Protocol):
    """One member of a consumer group. Not thread-safe: one thread owns it."""

    def receive(self, limit: int = 100, timeout_s: float = 1.0) -> list[Delivery]:
        """Up to ``limit`` deliveries, waiting at most ``timeout_s`` for the first; an empty list when none came."""

    def ack(self, delivery: Delivery) -> None:
        """Done with it: it does not come back once this reaches the broker, at the latest when closed."""

    def nack(self, delivery: Delivery, *, delay_s: float = 0.0) -> None:
        """Not done with it: it comes back after ``delay_s`` at the earliest, with what came after it in its partition.

        Other partitions go on meanwhile.
        """

    def close(self) -> None:
        """Leave the group; what was acked stays acked, what was not is delivered to another member."""


class Broker(Protocol):
    """A connection to a broker. ``publish`` and ``subscribe`` may be called from several threads."""

    @property
    def url(self) -> str:
        """Its address without credentials, for messages to people."""

    @property
    def capabilities(self) -> Capabilities: ...

    def publish(self, messages: Sequence[Message]) -> None:
        """Return only when every message is confirmed durable, in order per topic and key.

        Raises :class:`NotConfirmed` that names those refused, or :class:`BrokerUnavailable` when nothing answered and
        the outcome of all is unknown: publishing them all again, in the same order, is then right. ``messages`` may build
        its items as they are asked for: it is walked once, and indexed only for those that fail.
        """

    def subscribe(self, topics: Sequence[str], *, group: str) -> Subscription:
        """Join ``group`` from the topics' beginning (a new group) or where it stood. Raises :class:`UnknownTopic`."""

    def create_topic(self, name: str, *, partitions: int = 3) -> None:
        """Make the topic if it is not there; a no-op when it is."""

    def lag(self, topics: Sequence[str], *, group: str) -> dict[tuple[str, int], int]:
        """Events published and not yet acked by ``group``, per topic and partition: every partition is listed."""

    def replay(self, topic: str) -> Iterator[Delivery]:
        """All the topic holds from its beginning to its end at the moment of the call, in order per partition."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
