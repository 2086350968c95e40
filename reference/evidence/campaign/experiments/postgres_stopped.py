"""Postgres stops at once, without goodbyes, and recovers; or ends every session of the shop. Turn and turn about.

A writer that was committing does not know whether it has: the database is asked afterwards. Promise: writers, relays and
consumers come back by themselves; what was committed is published, and applied once, each key in order. There is no
control: a design that does not survive this was lost before.
"""

from __future__ import annotations

import random
import time
from typing import Final

from reference.evidence.campaign.addresses import Addresses
from reference.evidence.campaign.bursts import Tell, bursts
from reference.evidence.campaign.row import Row
from reference.evidence.campaign.shop import Shop
from reference.evidence.checker import Anomaly
from reference.evidence.faults import services

__all__ = ["postgres_stopped"]

STOPPED: Final = "stopped at once"
TERMINATED: Final = "sessions terminated"


def postgres_stopped(
    at: Addresses, *, events: int = 10_000, faults: int = 20, seed: int = 1, tell: Tell = lambda number: None
) -> Row:  # fmt: skip
    """Two relays and two consumers; the first fault is an immediate stop."""
    started = time.monotonic()
    struck = {STOPPED: 0, TERMINATED: 0}
    sessions = 0
    with Shop(at, name="postgres stopped", consumers=2, seed=seed) as shop:

        def strike(number: int, _: random.Random) -> None:
            nonlocal sessions
            if number % 2:
                sessions += services.terminate_backends(at.dsn, history=shop.history)
                struck[TERMINATED] += 1
            else:
                services.restart("postgres", mode="immediate", home=at.home, history=shop.history)
                struck[STOPPED] += 1

        shop.assemble()
        recoveries = bursts(shop, events=events, faults=faults, seed=seed, strike=strike, tell=tell)
        verdict, unheard = shop.verdict(), shop.unheard()
        where, able = shop.broker.url, shop.broker.capabilities
    counts = ", ".join(f"{what} {count}" for what, count in struck.items())
    return Row(
        experiment="Postgres stopped at once, sessions terminated", broker=where, faults=sum(struck.values()),
        seconds=time.monotonic() - started, verdict=verdict, wrong=shop.complaints, recoveries_s=recoveries,
        tolerated=frozenset() if able.ordered_by_key else frozenset({Anomaly.OUT_OF_ORDER}),
        note=f"{counts} ({sessions} in all); commits cut off {shop.writers.failures.total()}, of which {unheard} had happened",
    )  # fmt: skip
