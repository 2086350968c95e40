"""The labs' consumer: it books every event in the ledger, and is started again whenever it crashes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg

from reference.brokers import Subscription
from reference.delivery.consumer import Claim, Consumer, Point
from reference.event import Event
from reference.evidence.faults import Crash
from reference.evidence.history import History
from reference.evidence.recorder import RecordingSubscription, applied
from reference.lab.pausing import Pause
from reference.orders import handlers

__all__ = ["Warehouse"]


class Warehouse:
    """``claim`` replaces the inbox, ``ack_first`` acks before booking, ``at`` is the consumer's named points.

    ``subscribe`` joins the group, anew after each crash; ``wrap`` may put a fault between broker and consumer; ``batch``
    is how many deliveries are taken at a time, and so how many come again after a crash. ``numbered``: the broker's offsets
    are places in a log.
    """

    def __init__(
        self,
        subscribe: Callable[[], Subscription],
        dsn: str,
        history: History,
        pause: Pause,
        *,
        name: str,
        claim: Claim | None = None,
        ack_first: bool = False,
        at: Callable[[Point, Event], None] = lambda point, event: None,
        wrap: Callable[[Subscription], Subscription] = lambda subscription: subscription,
        batch: int = 100,
        numbered: bool = True,
    ) -> None:
        self._subscribe, self._dsn, self._history, self._pause, self._name = subscribe, dsn, history, pause, name
        self._claim, self._ack_first, self._at, self._wrap, self._batch = claim, ack_first, at, wrap, batch
        self._numbered = numbered
        self._record = applied(history, group=name)

    def run(self, stop: threading.Event) -> None:
        """Consume until ``stop`` is set, whatever crashes in between."""
        booking = dict.fromkeys(("OrderPlaced", "OrderAmended"), partial(_book, self._name))
        while not stop.is_set():
            inner = self._wrap(self._pause.guard(self._subscribe()))
            source = RecordingSubscription(inner, self._history, group=self._name, numbered=self._numbered)
            with Consumer(
                source, self._dsn, booking, name=self._name, claim=self._claim, ack_first=self._ack_first, at=self._passed
            ) as consumer:
                try:
                    consumer.run(stop, limit=self._batch)
                except Crash:
                    continue

    def _passed(self, point: Point, event: Event) -> None:
        self._record(point, event)
        self._at(point, event)


def _book(name: str, conn: psycopg.Connection[Any], event: Event) -> None:
    handlers.book(conn, event, consumer=name, account="orders", amount=event.data["quantity"])
