"""Experiments that kill, on the real broker and the real database, each beside a control that must be seen failing.

What enters is a seed and a size; what leaves is a row of counts from the checker. Same seed, same faults: which relay is
killed and after how long is drawn from it. The processes are started here and none outlives its experiment.
"""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any, Final, Self

import psycopg

from reference.brokers import Subscription, connect
from reference.delivery import outbox
from reference.delivery.consumer import Consumer
from reference.event import Event
from reference.evidence.checker import Verdict, check
from reference.evidence.controls.relays import SkipLockedRelay
from reference.evidence.history import History, Operation
from reference.evidence.recorder import RecordingBroker, applied, committing
from reference.evidence.victim import carry
from reference.orders import handlers, shop

__all__ = ["Row", "relays_killed"]

ORDERS: Final = 40
WRITERS: Final = 4
LANES: Final = 4
PATIENCE_S: Final = 60.0  # with both relays alive: far beyond a lease, a redelivery and a broker's reconnection


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One experiment's figures on one broker, whose address is ``broker``.

    ``ordered`` says whether that broker promises order at all. ``verdict`` is of the design under test, ``control`` of the
    one that must fail.
    """

    experiment: str
    broker: str
    faults: int
    seconds: float
    ordered: bool
    verdict: Verdict
    control: Verdict

    @property
    def broken(self) -> bool:
        """Something happened that the design promises against; order counts only where the broker promises it."""
        verdict = self.verdict
        wrong = verdict.lost + verdict.unexpected + verdict.applied_twice + (verdict.out_of_order if self.ordered else 0)
        return wrong > 0 or verdict.applied < verdict.acknowledged

    @property
    def unproved(self) -> str:
        """Why a run in which nothing broke proves nothing either, in a few words; empty when it does prove something."""
        if not self.verdict.duplicates:
            return "no kill hit between publish and delete: more --kills"
        return "the control was not seen failing: more --events" if self.control.clean else ""

    @property
    def outcome(self) -> str:
        """``held``, ``broken``, or ``inconclusive`` for the reason that :attr:`unproved` gives."""
        if self.broken:
            return "broken"
        return "inconclusive" if self.unproved else "held"

    @property
    def held(self) -> bool:
        """The promise held, duplicates were really caused, and the control was seen failing."""
        return self.outcome == "held"


def relays_killed(
    dsn: str,
    broker_url: str,
    *,
    events: int = 20_000,
    kills: int = 200,
    seed: int = 1,
    tell: Callable[[int], None] = lambda n: None,
) -> Row:
    """Two relays over four lanes, one of them killed with SIGKILL again and again while four writers commit.

    Every kill falls into a burst of commits, which begins when what was before it has been applied: so there is a relay at
    work, however slowly relays start on this broker, and it has something to do. What has not arrived when nothing has
    moved for :data:`PATIENCE_S` counts as lost. The control is two relays that skip each other's locked rows, not even
    killed. ``dsn`` must be a database of its own; ``tell`` hears of every kill. Raises :class:`ValueError` when there are
    fewer events than kills.
    """
    if events < kills:
        raise ValueError(f"{kills} kills need at least as many events, not {events}")
    started = time.monotonic()
    draw = random.Random(seed)
    with _Shop(dsn, broker_url, "killed") as shop_:
        where, ordered = shop_.broker.url, shop_.broker.capabilities.ordered_by_key
        relays = [_start(dsn, broker_url, shop_.topic) for _ in range(2)]
        try:
            for n in range(kills):
                begun, allowed = events * n // kills, events * (n + 1) // kills
                victim, moment = draw.randrange(len(relays)), draw.randint(begun + 1, allowed)
                shop_.reach("apply", begun)
                shop_.allow(allowed)
                shop_.reach("commit", moment)
                time.sleep(draw.uniform(0, 0.05))  # anywhere in a round
                relays[victim].kill()
                relays[victim].join()
                relays[victim] = _start(dsn, broker_url, shop_.topic)
                tell(n + 1)
            shop_.finish(events)
        finally:
            for relay in relays:
                relay.kill()
                relay.join()
    verdict = check(shop_.history)
    control = _skip_locked(dsn, broker_url, events=max(1_000, min(events, 2_000)))  # fewer may pass by luck
    return Row(
        experiment="relays killed", broker=where, faults=kills, seconds=round(time.monotonic() - started, 1),
        ordered=ordered, verdict=verdict, control=control,
    )  # fmt: skip


def _skip_locked(dsn: str, broker_url: str, *, events: int) -> Verdict:
    """Two relays at once, each taking the next page of rows the other has not locked."""
    with _Shop(dsn, broker_url, "control") as shop_:
        shop_.allow(events)
        shop_.reach("commit", events)  # from a backlog the two take neighbouring pages at once
        with _threads(2, lambda stop: _skip_until(dsn, broker_url, shop_.topic, stop)):
            shop_.finish(events)
    return check(shop_.history)


def _skip_until(dsn: str, broker_url: str, topic: str, stop: threading.Event) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn, connect(broker_url) as broker:
        slow = random.Random(0)  # now and then a relay is late with its page, as any process may be
        relay = SkipLockedRelay(conn, broker, page=5, route=topic, at=lambda _: time.sleep(slow.uniform(0, 0.005)))
        while not stop.is_set():
            relay.run_once() or stop.wait(0.001)


def _start(dsn: str, broker_url: str, topic: str) -> BaseProcess:
    # A fork server has the imports done: a new relay is at work in some hundredths of a second, not in one.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["reference.evidence.victim"])
    process = context.Process(target=carry, kwargs={"dsn": dsn, "broker": broker_url, "route": topic, "lanes": LANES, "page": 50})
    process.start()
    return process


class _Shop:
    """Writers that amend orders as fast as they are allowed to, and a consumer with an inbox that books each event."""

    def __init__(self, dsn: str, broker_url: str, name: str) -> None:
        self.history = History()
        self.topic = f"campaign-{name}-{time.time_ns()}"
        self._dsn, self.broker = dsn, connect(broker_url)
        self._allowed, self._claimed = 0, 0
        self._counted, self._counts = 0, Counter[str]()
        self._turn = threading.Condition()
        self._stop = threading.Event()
        self._work: list[threading.Thread] = []

    def allow(self, events: int) -> None:
        """Let the writers go on until ``events`` have been begun in all."""
        with self._turn:
            self._allowed = events
            self._turn.notify_all()

    def finish(self, events: int) -> None:
        """Let the rest be written, and wait until everything committed has been applied."""
        self.allow(events)
        self.reach("apply", events)

    def count(self, operation: Operation) -> int:
        """How many such operations have ended well so far."""
        fresh = self.history.since(self._counted)
        self._counted += len(fresh)
        self._counts.update(record.op for record in fresh if record.phase == "ok")
        return self._counts[operation]

    def reach(self, operation: Operation, count: int) -> None:
        """Wait for so many of these, or until nothing has been committed or applied for :data:`PATIENCE_S`."""
        moved, deadline = -1, 0.0
        while self.count(operation) < count:
            if (now := self.count("commit") + self.count("apply")) > moved:
                moved, deadline = now, time.monotonic() + PATIENCE_S
            elif time.monotonic() > deadline:
                return
            time.sleep(0.005)

    def __enter__(self) -> Self:
        self.broker.create_topic(self.topic)
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            conn.execute(outbox.schema())
            conn.execute(shop.schema())
            conn.execute("TRUNCATE outbox, inbox, orders, ledger")
            for n in range(ORDERS):
                shop.place(conn, f"order-{n}")
        # Before the first event: not every broker keeps a message for a group that has never been there.
        subscription = RecordingBroker(self.broker, self.history).subscribe([self.topic], group=self.topic)
        self._work = [threading.Thread(target=self._write, args=(n,)) for n in range(WRITERS)]
        self._work.append(threading.Thread(target=self._consume, args=(subscription,)))
        for thread in self._work:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.allow(self._allowed)
        for thread in self._work:
            thread.join()
        self.broker.close()

    def _write(self, writer: int) -> None:
        draw = random.Random(writer)
        with psycopg.connect(self._dsn) as conn:
            while self._may_write():
                _amend(conn, f"order-{draw.randrange(ORDERS)}", self.history)

    def _may_write(self) -> bool:
        with self._turn:
            self._turn.wait_for(lambda: self._claimed < self._allowed or self._stop.is_set())
            self._claimed += 1
            return not self._stop.is_set()

    def _consume(self, subscription: Subscription) -> None:
        at = applied(self.history, group=self.topic)
        with Consumer(subscription, self._dsn, {"OrderAmended": _book}, name="warehouse", at=at) as consumer:
            consumer.run(self._stop)


def _amend(conn: psycopg.Connection[Any], order_id: str, history: History) -> None:
    # The sequence is known only once the row is locked, so the event comes first and its commit is recorded around it.
    event = shop.amend_order(conn, order_id, quantity=1)
    with committing(history, event):
        conn.commit()


def _book(conn: psycopg.Connection[Any], event: Event) -> None:
    handlers.book(conn, event, consumer="warehouse", account="amended", amount=1)


@contextmanager
def _threads(count: int, work: Callable[[threading.Event], None]) -> Iterator[None]:
    stop = threading.Event()
    threads = [threading.Thread(target=work, args=(stop,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
