"""The disk under Postgres fills up while everybody works, is drained, and Postgres is brought back.

The disk is a tmpfs of its own, filled with one large file; in turn until a table cannot grow, which ends transactions, and
until the log cannot, which ends the server with a panic. Promise: what was committed is published and applied once, each
key in order, and everybody goes on when there is room again. There is no control.
"""

from __future__ import annotations

import random
import time
from contextlib import suppress
from typing import Final

import psycopg

from reference.evidence.campaign.addresses import Addresses
from reference.evidence.campaign.bursts import Tell, bursts
from reference.evidence.campaign.row import Row
from reference.evidence.campaign.shop import Shop
from reference.evidence.checker import Anomaly
from reference.evidence.faults import services
from reference.stack.home import Home

__all__ = ["disk_full"]

FULL_S: Final = 60.0
REFUSED: Final = "DiskFull"  # psycopg's name for what a writer hears when a table cannot grow
PANIC: Final = "PANIC:"
LOOK_S: Final = 0.02
MORE: Final = 20  # events


def disk_full(
    at: Addresses, *, events: int = 5_000, faults: int = 5, seed: int = 1, tell: Tell = lambda number: None
) -> Row:  # fmt: skip
    """Two relays and two consumers; a fault counts when somebody met the full disk."""
    started = time.monotonic()
    met = {"a table could not grow": 0, "the log could not grow": 0}
    with Shop(at, name="disk full", consumers=2, seed=seed) as shop:

        def strike(number: int, _: random.Random) -> None:
            with services.disk_full(home=at.home, history=shop.history):
                if number % 2:
                    met["the log could not grow"] += panicked(at)
                else:
                    met["a table could not grow"] += refused(shop)

        shop.assemble()
        recoveries = bursts(shop, events=events, faults=faults, seed=seed, strike=strike, tell=tell)
        verdict = shop.verdict()
        where, able = shop.broker.url, shop.broker.capabilities
    return Row(
        experiment="disk full under Postgres", broker=where, faults=sum(met.values()), seconds=time.monotonic() - started,
        verdict=verdict, wrong=shop.complaints, recoveries_s=recoveries, duplicates_expected=False,
        tolerated=frozenset() if able.ordered_by_key else frozenset({Anomaly.OUT_OF_ORDER}),
        note=", ".join(f"{what} {count}" for what, count in met.items())
        + f"; transactions refused {shop.writers.failures[REFUSED]}, cut off {shop.writers.failures.total()}",
    )  # fmt: skip


def refused(shop: Shop) -> bool:
    """Have writers go on until one is refused for want of room; says whether one was."""
    before = shop.writers.failures[REFUSED]

    def step() -> bool:
        if shop.writers.idle:  # quicker than the disk was full
            shop.writers.allow(shop.writers.allowed + MORE)
        return shop.writers.failures[REFUSED] > before

    return shop.until(step, FULL_S)


def panicked(at: Addresses) -> bool:
    """Have Postgres begin one segment of its log after the other until there is no room for the next; says whether it died."""
    log = Home.open(at.home).log("postgres")
    before, deadline = log.read_text().count(PANIC), time.monotonic() + FULL_S
    while not (died := log.read_text().count(PANIC) > before) and time.monotonic() < deadline:
        with suppress(psycopg.OperationalError), psycopg.connect(at.dsn, autocommit=True, connect_timeout=5) as conn:
            conn.execute("SELECT pg_switch_wal()")
            conn.execute("SELECT pg_logical_emit_message(true, 'campaign', 'a record for the next segment')")
        time.sleep(LOOK_S)
    return died
