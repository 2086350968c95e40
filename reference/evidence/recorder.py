"""Thin recorders around a broker, a consumer and a writer: what they do is written into a history, nothing is changed.

Killed at any line, the history holds a prefix of what was done by each process; see :mod:`reference.evidence.history`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import Self

from reference.brokers import (
    Broker,
    BrokerUnavailable,
    Capabilities,
    DeadLetters,
    Delivery,
    Message,
    NotConfirmed,
    NotOffered,
    Subscription,
)
from reference.delivery.consumer import Point
from reference.event import Event
from reference.evidence.history import History, Record

__all__ = ["LagProbe", "RecordingBroker", "applied", "committing"]


class RecordingBroker:
    """A broker whose publishes, deliveries and acks are recorded. Promises what the broker inside promises."""

    def __init__(self, inner: Broker, history: History) -> None:
        self._inner, self._history = inner, history

    @property
    def url(self) -> str:
        return self._inner.url

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    def publish(self, messages: Sequence[Message], *, delay_s: float = 0.0) -> None:
        """Every message is ``ok``, ``fail`` when refused, or ``info`` when nobody knows."""
        failed: frozenset[int] = frozenset()
        unknown = False
        try:
            self._inner.publish(messages, delay_s=delay_s)
        except NotConfirmed as error:
            failed = frozenset(error.failures)
            raise
        except BrokerUnavailable:
            unknown = True
            raise
        finally:
            for index, message in enumerate(messages):
                phase = "info" if unknown else "fail" if index in failed else "ok"
                self._history.add(Record(op="publish", phase=phase, event=_id(message.headers), key=message.key))  # type: ignore[arg-type]

    def subscribe(
        self,
        topics: Sequence[str],
        *,
        group: str,
        dead_letters: DeadLetters | None = None,
        only: Mapping[str, str] | None = None,
    ) -> Subscription:
        inner = self._inner.subscribe(topics, group=group, dead_letters=dead_letters, only=only)
        return RecordingSubscription(inner, self._history)

    def create_topic(self, name: str, *, partitions: int = 3) -> None:
        self._inner.create_topic(name, partitions=partitions)

    def lag(self, topics: Sequence[str], *, group: str) -> dict[tuple[str, int], int]:
        return self._inner.lag(topics, group=group)

    def replay(self, topic: str) -> Iterator[Delivery]:
        return self._inner.replay(topic)

    def rewind(self, topics: Sequence[str], *, group: str, to: datetime) -> None:
        self._inner.rewind(topics, group=group, to=to)

    def close(self) -> None:
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class RecordingSubscription:
    """A subscription whose deliveries and acks are recorded, under ``group`` or the broker's name for it.

    Two broker groups that are one consumer, as during a cutover or a replay, are told apart from two consumers by that.
    """

    def __init__(self, inner: Subscription, history: History, *, group: str = "") -> None:
        self._inner, self._history, self._group = inner, history, group

    def receive(self, limit: int = 100, timeout_s: float = 1.0) -> list[Delivery]:
        deliveries = self._inner.receive(limit, timeout_s)
        for delivery in deliveries:
            self._history.add(delivered(delivery, group=self._group))
        return deliveries

    def ack(self, delivery: Delivery) -> None:
        self._inner.ack(delivery)
        group = self._group or delivery.group
        self._history.add(Record(op="ack", event=_id(delivery.headers), group=group, partition=delivery.partition))

    def nack(self, delivery: Delivery, *, delay_s: float = 0.0) -> None:
        self._inner.nack(delivery, delay_s=delay_s)

    def close(self) -> None:
        self._inner.close()


class LagProbe:
    """Samples a group's lag in a thread of its own, ``hz`` times a second, while its ``with`` block runs."""

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


@contextmanager
def committing(history: History, event: Event) -> Iterator[None]:
    """Around the transaction that writes ``event``: committed, or not, or the writer died and nobody knows."""
    history.add(Record(op="commit", phase="invoke", event=event.id, key=event.key, seq=event.sequence))
    try:
        yield
    except Exception:
        history.add(Record(op="commit", phase="fail", event=event.id, key=event.key, seq=event.sequence))
        raise
    except BaseException:
        history.add(Record(op="commit", phase="info", event=event.id, key=event.key, seq=event.sequence))
        raise
    history.add(Record(op="commit", phase="ok", event=event.id, key=event.key, seq=event.sequence))


def applied(history: History, *, group: str) -> Callable[[Point, Event], None]:
    """For ``Consumer(at=…)``: an effect counts once its transaction has committed; a skipped redelivery does not."""

    def at(point: Point, event: Event) -> None:
        if point == "committed":
            history.add(Record(op="apply", event=event.id, key=event.key, seq=event.sequence, group=group))

    return at


def delivered(delivery: Delivery, *, group: str = "") -> Record:
    """The record of one delivery; bytes that are no event are recorded under the place where they were found."""
    headers = dict(delivery.headers)
    sequence = headers.get("ce_sequence")
    return Record(
        op="deliver", event=_id(delivery.headers) or delivery.where, key=(delivery.key or b"").decode(errors="replace"),
        seq=int(sequence) if sequence and sequence.isdigit() else None,
        partition=delivery.partition, offset=delivery.offset, group=group or delivery.group,
    )  # fmt: skip


def _id(headers: Sequence[tuple[str, bytes | str | None]]) -> str:
    value = next((value for name, value in headers if name in ("ce_id", "id")), None)
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""
