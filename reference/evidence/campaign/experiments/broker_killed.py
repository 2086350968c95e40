"""The broker dies by SIGKILL in mid-stream and is started again on its old data, while writers, relays and consumers go on.

Promise: all of them come back by themselves; nothing confirmed is lost, nothing applied twice, each key in order. The
control does not await the broker's acks, under the same outages. A broker that is not durable comes back empty: there, what
it held is lost, and the topic has to be made again; everything committed once it is there again must be applied.
"""

from __future__ import annotations

import random
import time
from typing import Final

from reference.evidence.campaign.addresses import Addresses
from reference.evidence.campaign.bursts import Tell, bursts
from reference.evidence.campaign.row import Control, Row
from reference.evidence.campaign.shop import Shop
from reference.evidence.checker import Anomaly, Verdict
from reference.evidence.faults import services
from reference.stack import up

__all__ = ["broker_killed"]

TRIES: Final = 3
QUIET_S: Final = 6.0  # longer than a relay waits before it tries what it held back


def broker_killed(
    at: Addresses, *, events: int = 10_000, faults: int = 20, seed: int = 1, tell: Tell = lambda number: None
) -> Row:  # fmt: skip
    """Two relays and two consumers; a kill counts when something that was committed had not been applied."""
    started = time.monotonic()
    since, exposed = started, list[tuple[float, float]]()  # what was committed then may have been in a broker that died
    under_way = 0
    with Shop(at, name="broker killed", consumers=2, seed=seed) as shop:
        able = shop.broker.capabilities

        def strike(_: int, __: random.Random) -> None:
            nonlocal since, under_way
            under_way += shop.books.behind() > 0
            exposed.append((since, outage(shop)))
            if not able.durable:
                shop.write_off(QUIET_S)
            since = time.monotonic()

        shop.assemble()
        recoveries = bursts(shop, events=events, faults=faults, seed=seed, strike=strike, tell=tell)
        verdict = shop.verdict()
        lost_with_it = not able.durable and excused(shop, verdict, exposed)
    unordered = frozenset() if able.ordered_by_key else frozenset({Anomaly.OUT_OF_ORDER})
    return Row(
        experiment="broker SIGKILL and restart", broker=shop.broker.url, faults=under_way, seconds=time.monotonic() - started,
        verdict=verdict, wrong=shop.complaints, recoveries_s=recoveries, duplicates_expected=False,
        controls={"acks not awaited": acks_not_awaited(at, faults=min(faults, 2), events=events // faults, seed=seed)},
        tolerated=unordered | (frozenset({Anomaly.LOST}) if lost_with_it else frozenset()),
        note="" if able.durable else f"{able.notes['durable']}; what is lost was there when it was killed",
    )  # fmt: skip


def acks_not_awaited(at: Addresses, *, faults: int, events: int, seed: int) -> Control:
    """A relay that does not wait for the broker to confirm, and deletes; ``events`` around each fault, of which some are lost.

    A kill that comes when nothing is under way loses nothing: it is tried again, a few times.
    """
    for attempt in range(TRIES):
        control = _acks_not_awaited(at, faults=faults, events=events, seed=seed + attempt)
        if control.failed:
            break
    return control


def _acks_not_awaited(at: Addresses, *, faults: int, events: int, seed: int) -> Control:
    with Shop(at, name="acks not awaited", relays=1, seed=seed, acks="not awaited") as shop:

        def strike(_: int, __: random.Random) -> None:
            outage(shop)
            shop.write_off(QUIET_S)

        shop.assemble()
        bursts(shop, events=events * faults, faults=faults, seed=seed, strike=strike)
        return Control(verdict=shop.verdict(), must=Anomaly.LOST)


def outage(shop: Shop) -> float:
    """Kill the broker and start it again; return when it was dead. Where it forgets, topic and members are made anew."""
    services.kill(shop.service, home=shop.at.home, history=shop.history)
    dead = time.monotonic()
    up([shop.service], home=shop.at.home)
    if not shop.broker.capabilities.durable:
        shop.begin_anew()
    return dead


def excused(shop: Shop, verdict: Verdict, exposed: list[tuple[float, float]]) -> bool:
    """Whether each lost event had been committed in one of these spans: before a kill, and after the recovery before that."""
    begun = {record.event: record.at for record in shop.records() if record.op == "commit" and record.phase == "invoke"}
    return all(any(since <= begun[event] <= until for since, until in exposed) for event in verdict.events(Anomaly.LOST))
