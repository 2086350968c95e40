"""What every broker here promises, and what each admits it cannot do.

A :class:`Message` enters, a :class:`Delivery` leaves. Killed at any line: a message that ``publish`` confirmed is
durable; one it had not confirmed may or may not be there; a delivery that was not acked comes back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import NamedTuple, Protocol, Self

__all__ = [
    "Broker",
    "BrokerUnavailable",
    "Capabilities",
    "DeadLetters",
    "Delivery",
    "Headers",
    "Message",
    "NotConfirmed",
    "NotOffered",
    "Subscription",
    "UnknownGroup",
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
    """What a broker hands to a consumer group.

    ``partition`` is what is kept in order, held back and handed over together: a partition, a queue, or, where the broker
    knows keys alone, a bucket of keys. ``offset`` is the broker's, or the subscription's own count where the broker numbers
    nothing. ``attempt`` counts from 1, or is ``None`` where nobody counts.
    """

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
class DeadLetters:
    """Where the broker itself moves a message of a group that has been delivered ``after`` times without an ack.

    At least so often, and exactly so while one member keeps it: where members count nacks themselves, one that leaves takes
    its own count with it. A broker may also count what was only fetched. The note on ``dead_letters`` among its capabilities
    says so.
    """

    topic: str
    after: int

    def __post_init__(self) -> None:
        if self.after < 1:
            raise ValueError(f"a message is delivered at least once before it is dead: after must be 1 or more, got {self.after}")

    def check(self, topics: Sequence[str]) -> None:
        """Raise :class:`ValueError` where a dead letter would come back to the group of these topics, for ever."""
        if self.topic in topics:
            raise ValueError(f"dead letters of topic {self.topic!r} would go round in it for ever: name a topic of their own")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a broker really does, in this mode; nothing is faked.

    What is asked for by a call or an option and is ``False`` here is refused by :class:`NotOffered`; a header that cannot be
    carried is named in :class:`NotConfirmed`; the rest says what to expect.

    ``durable``: what was confirmed is there after the broker was killed and started again.
    ``ordered_by_key``: a key's messages are delivered to a group in the order of their publishing.
    ``replay_by_offset``: topics are logs: a new group begins at the beginning, and :meth:`Broker.replay` reads it all.
    Without it a group gets what is published after its first subscription, and publishing to a topic that no group has
    ever subscribed to is refused where the broker would drop the message.
    ``replay_by_time``: :meth:`Broker.rewind`. ``dead_letters``, ``filters``: the options of :meth:`Broker.subscribe`.
    ``delayed_delivery``: the option of :meth:`Broker.publish`. ``redelivery_count``: deliveries carry their attempt.
    ``transactions``: what another producer's aborted transaction wrote is never delivered. ``lag``: :meth:`Broker.lag`.
    ``exactly_once_delivery``: a delivery that was acked in time never comes again, and the ack says whether it was in time.
    ``binary_headers``, ``repeated_headers``: header values that are not UTF-8 text, and a name given twice, survive.

    ``max_message_bytes`` is the default limit on key, value and headers together, ``max_header_bytes`` that on a header's
    value, where there is one. ``notes`` says, by name, why something is not offered and what people do instead.
    ``emulator_gaps`` names what the real service offers and this emulator does not.
    """

    ordered_by_key: bool
    redelivery_count: bool
    dead_letters: bool
    replay_by_offset: bool
    replay_by_time: bool
    transactions: bool
    filters: bool
    delayed_delivery: bool
    lag: bool
    binary_headers: bool
    repeated_headers: bool
    max_message_bytes: int
    max_header_bytes: int | None = None
    durable: bool = True
    exactly_once_delivery: bool = False
    notes: Mapping[str, str] = field(default_factory=dict)
    emulator_gaps: frozenset[str] = frozenset()

    def demand(self, name: str, *, of: str) -> None:
        """Raise :class:`NotOffered`, with the note, unless this is offered; ``of`` is the broker's address."""
        if not getattr(self, name):
            what = name.replace("_", " ")
            gap = " (a gap of the emulator: the service has it)" if name in self.emulator_gaps else ""
            note = f": {self.notes[name]}" if name in self.notes else ""
            raise NotOffered(f"{of} does not offer {what}{gap}{note}")


class NotOffered(Exception):
    """The broker cannot do this, in this mode; the message names it, and what to do instead. Nothing has been done."""


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


class UnknownGroup(LookupError):
    """No such group ever subscribed, and on this broker a group begins with its first subscription."""


class Subscription(Protocol):
    """One member of a consumer group. Not thread-safe: one thread owns it."""

    @property
    def handovers(self) -> int:
        """How often partitions came to or left this member, as far as it knows; it only grows.

        Where it changed, deliveries may go back to what was not acked. It has grown before what it brings is received.
        """

    def receive(self, limit: int = 100, timeout_s: float = 1.0) -> list[Delivery]:
        """Up to ``limit`` deliveries, waiting at most ``timeout_s`` for the first; an empty list when none came.

        Once closed, by whichever thread, it raises :class:`RuntimeError` that says so.
        """

    def ack(self, delivery: Delivery) -> None:
        """Done with it: it does not come back once this reaches the broker, at the latest when closed."""

    def nack(self, delivery: Delivery, *, delay_s: float = 0.0) -> None:
        """Not done with it: it comes back after ``delay_s`` at the earliest, with what came after it in its partition.

        Other partitions go on meanwhile.
        """

    def close(self) -> None:
        """Leave the group; what was acked stays acked, what was not is delivered to another member.

        May be called from another thread: a ``receive`` that waits then returns an empty list, and ``ack`` and ``nack`` do
        nothing from then on. Called again, it does nothing.
        """


class Broker(Protocol):
    """A connection to a broker. ``publish`` and ``subscribe`` may be called from several threads."""

    @property
    def url(self) -> str:
        """Its address without credentials, for messages to people."""

    @property
    def capabilities(self) -> Capabilities: ...

    def publish(self, messages: Sequence[Message], *, delay_s: float = 0.0) -> None:
        """Return only when every message is confirmed durable, in order per topic and key.

        Raises :class:`NotConfirmed` that names those refused, or :class:`BrokerUnavailable` when nothing answered and
        the outcome of all is unknown: publishing them all again, in the same order, is then right. ``messages`` may build
        its items as they are asked for: it is walked once, and indexed only for those that fail. With ``delay_s`` they are
        delivered that much later, without order; :class:`NotOffered` without ``delayed_delivery``.
        """

    def subscribe(
        self,
        topics: Sequence[str],
        *,
        group: str,
        dead_letters: DeadLetters | None = None,
        only: Mapping[str, str] | None = None,
    ) -> Subscription:
        """Join ``group`` where it stood. A new group begins at the topics' beginning, or now: see ``replay_by_offset``.

        With ``dead_letters`` the broker moves what failed too often; ``only`` takes messages that carry these headers, and
        no others. Both belong to the group and are fixed by its first subscription. Raises :class:`UnknownTopic`,
        :class:`NotOffered` for an option that is not among the broker's capabilities, and :class:`ValueError` for dead
        letters that would go to one of ``topics``.
        """

    def create_topic(self, name: str, *, partitions: int = 3) -> None:
        """Make the topic if it is not there; a no-op when it is, with however many partitions.

        Pub/Sub, which orders keys alone, has no partitions to make.
        """

    def lag(self, topics: Sequence[str], *, group: str) -> dict[tuple[str, int], int]:
        """Events published and not yet acked by ``group``, per topic and partition: every partition is listed.

        Raises :class:`UnknownTopic`, :class:`NotOffered` without ``lag``, and without ``replay_by_offset``
        :class:`UnknownGroup` for a group that never came.
        """

    def replay(self, topic: str) -> Iterator[Delivery]:
        """All the topic holds from its beginning to its end at the moment of the call, in order per partition.

        Raises :class:`UnknownTopic`, and :class:`NotOffered` without ``replay_by_offset``.
        """

    def rewind(self, topics: Sequence[str], *, group: str, to: datetime) -> None:
        """Have ``group`` receive again all that was published at ``to`` or later, acked or not; nobody may be in it now.

        ``to`` carries its UTC offset. Raises :class:`UnknownTopic`, :class:`NotOffered` without ``replay_by_time``, and
        without ``replay_by_offset`` :class:`UnknownGroup` for a group that never came.
        """

    def close(self) -> None:
        """Close what was subscribed here and let go of the broker; anything not confirmed by then was never promised.

        May be called from another thread. Every call after that raises :class:`RuntimeError` that says that the broker is
        closed; only closing again does nothing.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
