"""Clocks of nodes jump by an hour or two: those of relays and consumers, again and again, of Postgres, and of the broker.

A clock is wrong from a program's start on, so whose clock jumps is started again: relays and consumers in mid-stream, by
SIGKILL, Postgres and the broker in order, between two bursts. Writers give their events times that are off as well.
Promise: times may be odd; nothing is lost, nothing applied twice, and each key stays in order. There is no control.

A broker's clock is never wrong together with a relay's: Kafka refuses what comes from more than an hour ahead, by default,
and what is refused stands in the outbox until the clocks agree.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import psycopg

from reference.delivery import outbox
from reference.evidence.campaign.addresses import Addresses
from reference.evidence.campaign.bursts import Tell, bursts
from reference.evidence.campaign.row import Row
from reference.evidence.campaign.shop import ORDERS, Shop
from reference.evidence.campaign.worker import Worker
from reference.evidence.campaign.writers import order
from reference.evidence.checker import Anomaly
from reference.evidence.history import History
from reference.evidence.recorder import committing
from reference.orders import shop as orders
from reference.stack import shift_clocks, shifted_clock, stop, up

__all__ = ["NODES", "clock_shifted"]

RELAY, CONSUMER, POSTGRES, BROKER = "relay", "consumer", "postgres", "broker"
NODES: Final = (RELAY, POSTGRES, CONSUMER, BROKER, *(3 * (RELAY, CONSUMER)))  # in turn
HOURS: Final = (-1, 0, 1)


def clock_shifted(
    at: Addresses, *, events: int = 10_000, faults: int = 50, seed: int = 1, tell: Tell = lambda number: None
) -> Row:  # fmt: skip
    """Two relays and two consumers; a fault is a clock that is another than it was."""
    started = time.monotonic()
    jumps = dict.fromkeys(NODES, 0)
    with Shop(at, name="clock shifted", consumers=2, seed=seed, write=amend_at_odd_times) as shop:
        clocks = _Clocks(shop)

        def before(number: int, draw: random.Random) -> None:
            shop.assemble()
            clocks.mend_broker()
            if (node := NODES[number % len(NODES)]) in (POSTGRES, BROKER):
                clocks.shift_service(node, draw)

        def strike(number: int, draw: random.Random) -> None:
            node = NODES[number % len(NODES)]
            if node in (RELAY, CONSUMER):
                clocks.shift_worker(draw.choice(shop.relays if node == RELAY else shop.consumers), draw)
            shop.strike(f"clock of a {node} shifted")
            jumps[node] += 1

        recoveries = bursts(shop, events=events, faults=faults, seed=seed, strike=strike, before=before, tell=tell)
        verdict = shop.verdict()
        where, able = shop.broker.url, shop.broker.capabilities
    return Row(
        experiment="clocks off by an hour", broker=where, faults=sum(jumps.values()), seconds=time.monotonic() - started,
        verdict=verdict, wrong=shop.complaints, recoveries_s=recoveries, duplicates_expected=False,
        tolerated=frozenset() if able.ordered_by_key else frozenset({Anomaly.OUT_OF_ORDER}),
        note="clocks that jumped: " + ", ".join(f"{node} {count}" for node, count in jumps.items()),
    )  # fmt: skip


def amend_at_odd_times(conn: psycopg.Connection[Any], draw: random.Random, history: History) -> None:
    """One order, one event, whose time is an hour off, or right."""
    event = orders.amend(conn, order(draw, ORDERS), quantity=1)
    event = replace(event, time=event.time + timedelta(hours=draw.choice(HOURS)))
    outbox.append(conn, event)
    with committing(history, event):
        conn.commit()


class _Clocks:
    """By how many hours whose clock is off."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._workers: dict[Worker, int] = dict.fromkeys([*shop.relays, *shop.consumers], 0)
        self._services = {POSTGRES: 0, BROKER: 0}

    def shift_worker(self, worker: Worker, draw: random.Random) -> None:
        self._workers[worker] = _another(self._workers[worker], draw)
        worker.restart(environment=shifted_clock(hours=self._workers[worker]))

    def shift_service(self, node: str, draw: random.Random) -> None:
        """Raises :class:`RuntimeError` where Postgres, asked for the time, does not have the new one."""
        if node == BROKER:
            for relay in self._shop.relays:
                relay.restart()
                self._workers[relay] = 0
        self._services[node] = _another(self._services[node], draw)
        self._start_again(node)

    def mend_broker(self) -> None:
        if self._services[BROKER]:
            self._services[BROKER] = 0
            self._start_again(BROKER)

    def _start_again(self, node: str) -> None:
        shop, names = self._shop, {POSTGRES: POSTGRES, BROKER: self._shop.service}
        shift_clocks({names[one]: hours for one, hours in self._services.items() if hours}, home=shop.at.home)
        stop(names[node], home=shop.at.home)
        up([names[node]], home=shop.at.home)
        if node == BROKER and not shop.broker.capabilities.durable:
            shop.begin_anew()  # nothing is lost: all there was has been applied
        if node == POSTGRES:
            _demand(shop.at.dsn, hours=self._services[node])


def _another(hours: int, draw: random.Random) -> int:
    return draw.choice([other for other in HOURS if other != hours])


def _demand(dsn: str, *, hours: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        row = conn.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    if row is None or abs(row[0] - 3600 * hours - time.time()) > 1800:
        raise RuntimeError(f"the clock of Postgres should be off by {hours} h, and is not")
