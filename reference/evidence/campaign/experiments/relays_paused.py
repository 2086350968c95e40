"""Four relays, killed by SIGKILL or frozen by SIGSTOP past their lease, at any moment, while writers commit.

A killed relay is started again at once. A frozen one looks alive to everybody but the database, which cuts it off when its
lease is over: its lanes go to the others, and it is woken in the middle of a later burst, as a zombie that still holds a
page and believes that it may publish it. Promise: nothing lost, nothing applied twice, each key in order; what the zombie
publishes again are duplicates. The control, two relays that skip each other's locked rows, is frozen for some tenths of a
second.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from reference.evidence.campaign.addresses import Addresses
from reference.evidence.campaign.bursts import Tell, bursts, check_size
from reference.evidence.campaign.row import Control, Row
from reference.evidence.campaign.shop import Shop
from reference.evidence.campaign.worker import Worker
from reference.evidence.campaign.writers import amend
from reference.evidence.checker import Anomaly
from reference.evidence.faults import pause, paused
from reference.evidence.victim import carry_wrongly

__all__ = ["relays_paused", "skip_locked"]

RELAYS: Final = 4
LANES: Final = 8
LEASE_S: Final = 1.5  # as short as a relay that looks once a second can live with
OVER_S: Final = 1.2 * LEASE_S
LAST: Final = 50  # events behind the last fault
NAPS_S: Final = (0.1, 0.3)
FEW_KEYS: Final = 5  # for the control, whose pages must meet


def relays_paused(
    at: Addresses, *, events: int = 50_000, faults: int = 100, seed: int = 1, tell: Tell = lambda number: None
) -> Row:
    """Four relays over eight lanes; in each burst one of them, drawn, is killed or frozen."""
    check_size(events=events, faults=faults)
    started = time.monotonic()
    hits = {"killed": 0, "frozen": 0}
    over_at = 0.0
    with Shop(at, name="relays paused", relays=RELAYS, seed=seed, lanes=LANES, lease_s=LEASE_S) as shop, ExitStack() as asleep:

        def strike(_: int, draw: random.Random) -> None:
            nonlocal over_at
            asleep.close()  # whoever slept past its lease goes on now, behind what the others have carried meanwhile
            victim, kind = draw.choice(shop.relays), draw.choice(("killed", "frozen"))
            hits[kind] += 1
            if kind == "killed":
                shop.strike("relay killed")
                victim.restart()
            else:
                asleep.enter_context(paused(victim.pid, history=shop.history, name="relay frozen"))
                over_at = time.monotonic() + OVER_S

        def past_the_lease(_: int, __: random.Random) -> None:
            shop.until(lambda: time.monotonic() >= over_at)

        last = min(LAST, events - faults)
        recoveries = bursts(
            shop, events=events - last, faults=faults, seed=seed, strike=strike, before=past_the_lease, tell=tell
        )  # fmt: skip
        past_the_lease(faults, random.Random(seed))
        asleep.close()
        shop.writers.allow(events)  # behind the last zombie, too, something happens
        shop.caught_up()
        verdict = shop.verdict()
        where, ordered = shop.broker.url, shop.broker.capabilities.ordered_by_key
    return Row(
        experiment="relays killed, or frozen past their lease", broker=where, faults=sum(hits.values()),
        seconds=time.monotonic() - started, verdict=verdict, wrong=shop.complaints, recoveries_s=recoveries,
        controls={"skip locked": skip_locked(at, events=max(300, min(events, 1_000)), faults=min(faults, 5), seed=seed)},
        tolerated=frozenset() if ordered else frozenset({Anomaly.OUT_OF_ORDER}),
        note=", ".join(f"{kind} {count}" for kind, count in hits.items()) + f"; lease {LEASE_S:g} s",
    )  # fmt: skip


def skip_locked(at: Addresses, *, events: int, faults: int, seed: int) -> Control:
    """Two relays that each take the next page of rows the other has not locked; frozen with one, a relay is overtaken."""
    with Shop(at, name="skip locked", relays=0, seed=seed, write=partial(amend, orders=FEW_KEYS)) as shop:
        carrying: dict[str, Any] = {"dsn": at.dsn, "broker": at.broker, "route": shop.topic, "history": shop.directory}
        shop.relays += [Worker(carry_wrongly, **carrying, design="skip locked").start() for _ in range(2)]

        def strike(_: int, draw: random.Random) -> None:
            pause(draw.choice(shop.relays).pid, for_s=draw.uniform(*NAPS_S), history=shop.history)

        bursts(shop, events=events, faults=faults, seed=seed, strike=strike)
        return Control(verdict=shop.verdict(), must=Anomaly.OUT_OF_ORDER)
