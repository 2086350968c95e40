"""Members of a group that put aside what is no event: threads of this process, and what each message came to.

What enters is a topic in which messages have names, what leaves is a history of those names. Applied is what the inbox took
or knew; what is no event was put aside with a reason; what there is no handler for is passed over. One of these is the end
of each message, and only then it is acked. Threads, so that the broker may be one that lives in this process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Final, Self

from reference.brokers import Broker, Delivery, Subscription
from reference.brokers.through import SubscriptionThrough
from reference.delivery.consumer import Consumer, Point, Reject
from reference.event import Event
from reference.evidence.history import History, Operation, Record
from reference.evidence.recorder import told
from reference.evidence.victim import book

__all__ = ["REJECTED", "Name", "Readers"]

Name = Callable[[Delivery], str]
NAME: Final = "readers"
REJECTED: Final = "rejected: "
ENDS: Final[dict[Point, str]] = {"committed": "applied", "skipped": "applied before", "ignored": "ignored"}


class Readers:
    """Use as a context manager. ``ends`` has, by a message's name, what it came to; :data:`REJECTED` begins a reason.

    ``silent`` is the control: what is no event is acked, and nobody is told.
    """

    def __init__(
        self, broker: Broker, dsn: str, topic: str, *, name: Name, history: History, members: int = 2, silent: bool = False
    ) -> None:
        self.ends: dict[str, str] = {}
        self.acked: set[str] = set()
        self._dsn, self._silent = dsn, silent
        self._stop, self._failure = threading.Event(), ""
        numbered = broker.capabilities.replay_by_offset
        self._members = [
            _Member(broker.subscribe([topic], group=topic), self, name=name, history=history, numbered=numbered)
            for _ in range(members)
        ]
        self._threads = [
            threading.Thread(target=self._run, args=(member,), name=f"reader-{n}") for n, member in enumerate(self._members)
        ]

    @property
    def failure(self) -> str:
        """What ended a member; empty while all are at work."""
        return self._failure

    def _run(self, member: _Member) -> None:
        booking = {"OrderAmended": partial(book, NAME), "OrderPlaced": partial(book, NAME)}
        reject: Reject = member.forget if self._silent else member.reject
        try:
            with Consumer(member, self._dsn, booking, name=NAME, reject=reject, at=member.at) as consumer:
                consumer.run(self._stop)
        except Exception as error:  # told to whoever drives the experiment
            self._failure = f"{type(error).__name__}: {error}"

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


class _Member(SubscriptionThrough):
    """One member: its deliveries and acks go into the history, with what each message came to in between."""

    def __init__(self, inner: Subscription, readers: Readers, *, name: Name, history: History, numbered: bool) -> None:
        super().__init__(inner)
        self._readers, self._name, self._history, self._numbered = readers, name, history, numbered
        self._end = ""

    def receive(self, limit: int = 100, timeout_s: float = 1.0) -> list[Delivery]:
        deliveries = super().receive(limit, timeout_s)
        for delivery in deliveries:
            self._tell("deliver", delivery)
        return deliveries

    def at(self, point: Point, _: Event) -> None:
        self._end = ENDS.get(point, self._end)

    def reject(self, _: Delivery, reason: str) -> None:
        self._end = REJECTED + reason

    def forget(self, _delivery: Delivery, _reason: str) -> None:
        """Nobody is told."""

    def ack(self, delivery: Delivery) -> None:
        name = self._name(delivery)
        if self._end and self._readers.ends.setdefault(name, self._end) is self._end:
            self._tell("apply", delivery)
        self._end = ""
        super().ack(delivery)
        self._tell("ack", delivery)
        self._readers.acked.add(name)

    def _tell(self, op: Operation, delivery: Delivery) -> None:
        record: Record = told(delivery, op=op, numbered=self._numbered and op != "apply")
        # Its order is that of publishing: a sequence among the headers may be spoiled.
        self._history.add(replace(record, event=self._name(delivery), process=threading.current_thread().name, seq=None))
