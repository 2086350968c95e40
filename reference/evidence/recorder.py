"""Thin recorders around a broker, a consumer and a writer: what they do is written into a history, nothing is changed.

Killed at any line, the history holds a prefix of what was done by each process; see :mod:`reference.evidence.history`.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

import psycopg

from reference.brokers import Broker, BrokerUnavailable, DeadLetters, Delivery, Message, NotConfirmed, NotOffered, Subscription
from reference.brokers.through import BrokerThrough, SubscriptionThrough
from reference.delivery.consumer import Point
from reference.event import Event
from reference.evidence.history import History, Operation, Phase, Record

__all__ = ["LagProbe", "RecordingBroker", "RecordingSubscription", "applied", "committing", "told"]

_MEMBERS = itertools.count(1)
DIGITS: Final = 19  # of a number that counts something: a header may hold any, and Python refuses to read thousands


class RecordingBroker(BrokerThrough):
    """A broker whose publishes, deliveries and acks are recorded. Promises what the broker inside promises."""

    def __init__(self, inner: Broker, history: History) -> None:
        super().__init__(inner)
        self._history = history

    def publish(self, messages: Sequence[Message], *, delay_s: float = 0.0) -> None:
        """Every message is ``invoke`` first, and then ``ok``, ``fail`` when refused, or ``info`` when nobody knows.

        Nothing is told of one without an id: nobody could say later which it was.
        """
        self._tell("invoke", messages)
        try:
            self._inner.publish(messages, delay_s=delay_s)
        except NotConfirmed as error:
            self._tell("ok", messages, failed=frozenset(error.failures))
            raise
        except BrokerUnavailable:
            self._tell("info", messages)
            raise
        self._tell("ok", messages)

    def _tell(self, phase: Phase, messages: Sequence[Message], *, failed: frozenset[int] = frozenset()) -> None:
        for index, message in enumerate(messages):
            ended: Phase = "fail" if index in failed else phase
            if event := _id(message.headers):
                self._history.add(Record(op="publish", phase=ended, event=event, key=message.key, topic=message.topic))

    def subscribe(
        self,
        topics: Sequence[str],
        *,
        group: str,
        dead_letters: DeadLetters | None = None,
        only: Mapping[str, str] | None = None,
    ) -> Subscription:
        """The group's joining is told as well: from when on, and of which topics, it is owed events."""
        inner = self._inner.subscribe(topics, group=group, dead_letters=dead_letters, only=only)
        numbered = self.capabilities.replay_by_offset
        recording = RecordingSubscription(inner, self._history, group=group, numbered=numbered)
        note = "filtered" if only else "earliest" if numbered else "latest"
        for topic in topics:
            self._history.add(Record(op="join", topic=topic, group=group, process=recording.process, note=note))
        return recording


class RecordingSubscription(SubscriptionThrough):
    """A subscription whose deliveries, acks and nacks are recorded, under ``group`` or the broker's name for it.

    Two broker groups that are one consumer, as during a cutover or a replay, are told apart from two consumers by that.
    ``numbered`` says that offsets are places in a log, and not this member's own count. Each member is a ``process`` of its
    own in the history, named here unless it is given.
    """

    def __init__(
        self, inner: Subscription, history: History, *, group: str = "", numbered: bool = False, process: str = ""
    ) -> None:
        super().__init__(inner)
        self._history, self._group, self._numbered = history, group, numbered
        self.process = process or f"{os.getpid()}-member-{next(_MEMBERS)}"
        self._handovers = inner.handovers

    @property
    def handovers(self) -> int:
        return self._inner.handovers

    def receive(self, limit: int = 100, timeout_s: float = 1.0) -> list[Delivery]:
        deliveries = self._inner.receive(limit, timeout_s)
        if self.handovers != self._handovers:
            self._handovers = self.handovers
            self._history.add(Record(op="assign", group=self._group, process=self.process))
        for delivery in deliveries:
            self._tell("deliver", delivery)
        return deliveries

    def ack(self, delivery: Delivery) -> None:
        self._inner.ack(delivery)
        self._tell("ack", delivery)

    def nack(self, delivery: Delivery, *, delay_s: float = 0.0) -> None:
        self._tell("nack", delivery)
        self._inner.nack(delivery, delay_s=delay_s)

    def _tell(self, op: Operation, delivery: Delivery) -> None:
        self._history.add(
            told(delivery, op=op, group=self._group or delivery.group, process=self.process, numbered=self._numbered)
        )  # fmt: skip


class LagProbe:
    """Samples a group's lag in a thread of its own, ``hz`` times a second, while its ``with`` block runs, and at its end."""

    def __init__(self, broker: Broker, topics: Sequence[str], history: History, *, group: str, hz: float = 8.0) -> None:
        self._broker, self._topics, self._history, self._group, self._hz = broker, tuple(topics), history, group, hz
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag-probe", daemon=True)

    def sample(self) -> int:
        """Record every partition's lag now; return their sum."""
        lag = self._broker.lag(self._topics, group=self._group)
        for (_, partition), depth in sorted(lag.items()):
            self._history.add(Record(op="lag", partition=partition, group=self._group, value=depth))
        return sum(lag.values())

    def _run(self) -> None:
        while not self._stop.wait(1 / self._hz):
            self._look()

    def _look(self) -> None:
        try:
            self.sample()
        except (BrokerUnavailable, LookupError, NotOffered) as error:  # a broker that is away is a gap in the picture
            self._history.add(Record(op="lag", phase="fail", group=self._group, note=str(error)))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._look()  # what is said of the end is true of the end


@contextmanager
def committing(history: History, event: Event) -> Iterator[None]:
    """Around the commit of the transaction that writes ``event``: it happened, or it did not, or nobody knows.

    Nobody knows when the writer dies in the middle, and when the database goes away before it has answered.
    """

    def tell(phase: Phase) -> None:
        history.add(Record(op="commit", phase=phase, event=event.id, key=event.key, seq=event.sequence))

    tell("invoke")
    try:
        yield
    except Exception as error:
        tell("info" if _unanswered(error) else "fail")
        raise
    except BaseException:
        tell("info")
        raise
    tell("ok")


def _unanswered(error: Exception) -> bool:
    """A session that ended while it was committing: terminated, shut down, or cut off without a word."""
    if not isinstance(error, psycopg.Error):
        return False
    return isinstance(error, psycopg.OperationalError) and (error.sqlstate is None or error.sqlstate[:2] in ("08", "57"))


def applied(history: History, *, group: str) -> Callable[[Point, Event], None]:
    """For ``Consumer(at=…)``: an effect counts once its transaction has committed; a skipped redelivery does not."""
    ends: dict[Point, tuple[Operation, Phase]] = {
        "received": ("apply", "invoke"),
        "committed": ("apply", "ok"),
        "skipped": ("skip", "ok"),
        "ignored": ("apply", "fail"),
    }

    def at(point: Point, event: Event) -> None:
        if point in ends:
            op, phase = ends[point]
            history.add(Record(op=op, phase=phase, event=event.id, key=event.key, seq=event.sequence, group=group))

    return at


def told(
    delivery: Delivery, *, op: Operation = "deliver", group: str = "", process: str = "", numbered: bool = False
) -> Record:  # fmt: skip
    """The record of one delivery, or of its ack; bytes that are no event are recorded under the place where they were found."""
    headers = dict(delivery.headers)
    sequence = headers.get("ce_sequence")
    return Record(
        op=op, event=_id(delivery.headers) or delivery.where, key=(delivery.key or b"").decode(errors="replace"),
        seq=int(sequence) if sequence and len(sequence) < DIGITS and sequence.isdigit() else None, topic=delivery.topic,
        partition=delivery.partition, offset=delivery.offset if numbered else None,
        group=group or delivery.group, process=process, attempt=delivery.attempt,
    )  # fmt: skip


def _id(headers: Sequence[tuple[str, bytes | str | None]]) -> str:
    value = next((value for name, value in headers if name in ("ce_id", "id")), None)
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""
