"""Checks of lab 1. Each takes the lab and the learner's function, and begins a new experiment of its own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg

from checks.report import Report, judged
from reference.brokers import Broker, Delivery, Message
from reference.delivery.consumer import Handler
from reference.event import Event
from reference.evidence.faults import Crash
from reference.lab import Lab
from reference.orders import shop

__all__ = ["idempotent", "key", "relay"]

Conn = psycopg.Connection[Any]
RunOnce = Callable[[Conn, Broker, str], None]


def relay(lab: Lab, run_once: RunOnce) -> Report:
    """Forty events, a crash around every call that reaches the database or the broker, and one late commit."""
    return judged(lambda: _relay(lab, run_once))


def _relay(lab: Lab, run_once: RunOnce) -> Report:
    lab.begin()
    lab.backlog(orders=8, changes=5)
    for dies_at in range(1, 7):
        _until_crash(lab, run_once, dies_at)
    _late_commit(lab, run_once)
    for _ in range(3):
        _call(lab, run_once)
    return _relay_report(lab)


def _until_crash(lab: Lab, run_once: RunOnce, dies_at: int) -> None:
    """The answer's process dies just before its ``dies_at``-th call to the database or the broker; a new one takes over."""
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls == dies_at:
            raise Crash("killed")

    with suppress(Crash):
        _call(lab, run_once, count)


def _call(
    lab: Lab, run_once: RunOnce, count: Callable[[], None] = lambda: None, publishing: Callable[[], None] = lambda: None
) -> None:
    with psycopg.connect(lab.dsn, autocommit=True) as conn:
        run_once(_Mortal(conn, count), _MortalBroker(lab.broker, count, publishing), lab.topic)  # type: ignore[arg-type]


def _late_commit(lab: Lab, run_once: RunOnce) -> None:
    """A writer that drew its number first commits while the answer is publishing."""
    with psycopg.connect(lab.dsn) as slow, psycopg.connect(lab.dsn) as quick:
        shop.place_order(slow, "late-1")
        shop.place_order(quick, "early-1")
        quick.commit()
        _call(lab, run_once, publishing=slow.commit)


def _relay_report(lab: Lab) -> Report:
    verdict, left = lab.judge(), lab.count("outbox")
    lost = max(0, verdict.lost - left)  # what still waits in the outbox is late, not lost
    found = f"{verdict.delivered} of {verdict.acknowledged} events published · lost {lost} · {left} rows left in the outbox"
    if not verdict.delivered:
        return Report(False, found, "start with outbox.pending(conn): it returns the rows nobody has carried yet")
    if lost:
        return Report(False, found, "delete only rows whose publish has returned, and no row that you did not read")
    strangers = sum(_event(d).key != (d.key or b"").decode() for d in lab.broker.replay(lab.topic))
    if strangers:
        return Report(False, f"{found} · {strangers} under a key of their own", "an order's events share event.key")
    if verdict.out_of_order:
        found += f" · out of order {verdict.out_of_order}"
        return Report(False, found, "publish the rows in the order in which pending() gives them")
    if left:
        return Report(False, found, "what was published must go from the outbox, or it is published for ever")
    return Report(True, f"{found} · {verdict.duplicates} duplicates, for the inbox to absorb")


def _event(delivery: Delivery) -> Event:
    return Event.from_wire(delivery.headers, delivery.value)


class _Mortal:
    """A connection that may die before any statement."""

    def __init__(self, conn: Conn, count: Callable[[], None]) -> None:
        self._conn, self._count = conn, count

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        self._count()
        return self._conn.execute(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)


class _MortalBroker:
    """A broker connection that may die before it publishes; ``publishing`` happens while it does."""

    def __init__(self, broker: Broker, count: Callable[[], None], publishing: Callable[[], None]) -> None:
        self._broker, self._count, self._publishing = broker, count, publishing

    def publish(self, messages: Sequence[Message]) -> None:
        self._count()
        self._broker.publish(messages)
        self._publishing()


def idempotent(lab: Lab, handler: Handler) -> Report:
    """Events come once, twice or three times, and every third has an attempt that is rolled back."""
    return judged(lambda: _idempotent(lab, handler))


def _idempotent(lab: Lab, handler: Handler) -> Report:
    lab.begin()
    events = _events(lab)
    for number, event in enumerate(events):
        if number % 3 == 0:
            _rolled_back(lab, handler, event)
        for _ in range(1 + number % 3):
            with lab.conn.transaction():
                handler(lab.conn, event)
    counts = dict(lab.conn.execute("SELECT event_id, count(*) FROM ledger GROUP BY event_id").fetchall())
    missing, twice = sum(e.id not in counts for e in events), sum(n > 1 for n in counts.values())
    found = f"{len(events)} events, delivered up to three times · not applied {missing} · applied twice {twice}"
    if twice:
        return Report(False, found, "let inbox.claim(conn, event.id, consumer=…) decide before you book")
    if missing:
        return Report(False, found, "claim and book must stand or fall together: both on conn, in the caller's transaction")
    return Report(True, found)


def _rolled_back(lab: Lab, handler: Handler, event: Event) -> None:
    with suppress(Crash), lab.conn.transaction():
        handler(lab.conn, event)
        raise Crash("killed before the commit")


def key(lab: Lab, choose: Callable[[Event], str]) -> Report:
    """Where do an order's events end up, and is more than one partition used?"""
    return judged(lambda: _key(lab, choose))


def _key(lab: Lab, choose: Callable[[Event], str]) -> Report:
    lab.begin(partitions=3)
    lab.broker.publish([Message(lab.topic, choose(e), e.to_value(), e.to_headers()) for e in _events(lab)])
    places: dict[str, set[int]] = {}
    for delivery in lab.broker.replay(lab.topic):
        order_id = _event(delivery).subject
        places.setdefault(order_id, set()).add(delivery.partition)
    torn, used = sum(len(p) > 1 for p in places.values()), len(set().union(*places.values()))
    found = f"{len(places)} orders · {torn} of them spread over several partitions · {used} of 3 partitions used"
    if torn:
        return Report(
            False, found, "two events of one order in two partitions have no order: what do all events of an order share?"
        )
    if used < 3:
        return Report(False, found, "one key for everything is one queue for everything: nothing can be shared out")
    return Report(True, found)


def _events(lab: Lab) -> list[Event]:
    """Sixty events of twelve orders, in commit order."""
    with lab.conn.transaction():
        events = [shop.place(lab.conn, f"order-{n:02}") for n in range(12)]
        events += [shop.amend(lab.conn, f"order-{n % 12:02}", quantity=n) for n in range(1, 49)]
    # Ids that are the same in every run, so that what an answer does with them is too.
    return [replace(e, id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{e.subject}/{e.sequence}"))) for e in events]
