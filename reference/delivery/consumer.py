"""The consumer: from a broker's deliveries to effects in a database, each applied once.

What enters is a subscription and a dict of handlers; what leaves is committed transactions and acks. Killed at any line:
before the commit, nothing of the event is there and it comes back; between commit and ack it comes back and the inbox
skips it. Source: guide, Consumer Patterns; Handler Reliability Patterns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Literal, Self

import psycopg
import structlog

from reference.brokers import BrokerUnavailable, Delivery, Subscription
from reference.delivery import inbox
from reference.delivery.machine import HERE, Machine
from reference.event import Event, InvalidEvent

__all__ = ["Claim", "Consumer", "Handler", "Point", "Reject"]

Point = Literal["received", "applied", "committed", "skipped", "ignored", "acked"]
Handler = Callable[[psycopg.Connection[Any], Event], None]
Claim = Callable[[psycopg.Connection[Any], Event], bool]
Reject = Callable[[Delivery, str], None]

LONGEST_PAUSE_S: Final = 5.0

log = structlog.get_logger(__name__)


class Consumer:
    """Applies each event by the handler of its type, in one transaction with its inbox row, and then acks it.

    A type without a handler is acked and skipped: topics carry more than one consumer needs. A handler that raises rolls
    its transaction back and the delivery comes again, and with it its partition; other partitions go on. Bytes that are
    no event go to ``reject``, with the reason, and are acked only when it returns; without ``reject`` they hold their
    partition, for nothing may be lost in silence.

    ``claim`` replaces the inbox; ``ack_first`` acks before applying: at most once, for what may be lost.
    ``at`` is called with each point's name as an event passes it. ``machine`` is where it runs: a simulation's, or this one.
    """

    def __init__(
        self,
        subscription: Subscription,
        dsn: str,
        handlers: Mapping[str, Handler],
        *,
        name: str,
        reject: Reject | None = None,
        claim: Claim | None = None,
        ack_first: bool = False,
        at: Callable[[Point, Event], None] = lambda point, event: None,
        machine: Machine = HERE,
    ) -> None:
        self._subscription, self._dsn, self._handlers, self._name = subscription, dsn, handlers, name
        self._reject, self._ack_first, self._at, self._machine = reject, ack_first, at, machine
        self._claim = claim or (lambda conn, event: inbox.claim(conn, event.id, consumer=name))
        self._conn: psycopg.Connection[Any] | None = None
        self._failed: dict[tuple[str, int], int] = {}
        self._running, self._closed = threading.RLock(), threading.Event()

    def run(self, stop: threading.Event, *, limit: int = 100) -> None:
        """Consume until ``stop`` is set or the consumer is closed, ``limit`` deliveries at a time.

        A database or broker that goes away is named in the log and tried again. Raises :class:`RuntimeError` when somebody
        else closed the subscription, or its broker.
        """
        pause_s = 0.1
        with self._running:
            while not (stop.is_set() or self._closed.is_set()):
                try:
                    self.run_once(limit)
                    pause_s = 0.1
                except (BrokerUnavailable, psycopg.OperationalError) as error:
                    log.error("consumer.waiting", consumer=self._name, reason=str(error).strip(), retry_in_s=pause_s)
                    self._disconnect()
                    stop.wait(pause_s)
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                except RuntimeError:  # what a closed subscription says
                    if not self._closed.is_set():
                        raise

    def run_once(self, limit: int = 100, timeout_s: float = 0.5) -> tuple[int, int]:
        """Take one batch; return how many deliveries are done with and how many come again."""
        done = 0
        deliveries = self._subscription.receive(limit, timeout_s)
        standing: set[tuple[str, int]] = set()  # partitions that go no further in this batch
        for index, delivery in enumerate(deliveries):
            at = (delivery.topic, delivery.partition)
            if self._closed.is_set():  # meanwhile, by another thread: the rest comes to another member
                return done, len(deliveries) - done
            if at in standing:
                continue
            try:
                self._one(delivery)
                done += 1
                self._failed.pop(at, None)
            except Exception as error:
                if self._database_is_away(error):
                    for rest in reversed(deliveries[index:]):
                        self._subscription.nack(rest)
                    raise
                standing.add(at)
                self._hold(delivery, error)
        return done, len(deliveries) - done

    def _database_is_away(self, error: Exception) -> bool:
        """A handler's own timeout or deadlock is the handler's failure; only a session that is gone is everybody's."""
        return isinstance(error, psycopg.OperationalError) and (self._conn is None or self._conn.closed)

    def _hold(self, delivery: Delivery, error: Exception) -> None:
        """Have it come again, later each time it fails; its partition waits, the others do not."""
        at = (delivery.topic, delivery.partition)
        self._failed[at] = self._failed.get(at, 0) + 1
        delay_s = min(0.1 * 2 ** (self._failed[at] - 1), LONGEST_PAUSE_S)
        log.error("consumer.held", consumer=self._name, where=delivery.where, reason=f"{type(error).__name__}: {error}",
                  retry_in_s=delay_s, exc_info=error)  # fmt: skip
        self._subscription.nack(delivery, delay_s=delay_s)

    def _one(self, delivery: Delivery) -> None:
        try:
            event = Event.from_wire(delivery.headers, delivery.value)
        except InvalidEvent as error:
            if self._reject is None:
                raise
            self._reject(delivery, str(error))
            self._subscription.ack(delivery)
            return
        self._at("received", event)
        if self._ack_first:
            self._ack(delivery, event)
        self._apply(event)
        if not self._ack_first:
            self._ack(delivery, event)

    def _ack(self, delivery: Delivery, event: Event) -> None:
        self._subscription.ack(delivery)
        self._at("acked", event)

    def _apply(self, event: Event) -> None:
        handler = self._handlers.get(event.type)
        if handler is None:
            self._at("ignored", event)
            return
        conn = self._connected()
        with conn.transaction():
            first = self._claim(conn, event)
            if first:
                handler(conn, event)
                self._at("applied", event)
        self._at("committed" if first else "skipped", event)

    def _connected(self) -> psycopg.Connection[Any]:
        if self._conn is None or self._conn.closed:
            self._conn = self._machine.connect(self._dsn, autocommit=True, application_name=f"eda-consumer {self._name}")
        return self._conn

    def _disconnect(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def close(self) -> None:
        """Leave the group: what was acked stays acked, the rest is delivered to another member.

        From another thread it ends :meth:`run`, and waits for the event in hand.
        """
        self._closed.set()
        self._subscription.close()
        with self._running:
            self._disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
