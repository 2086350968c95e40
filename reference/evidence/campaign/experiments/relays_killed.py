"""Relays that die by SIGKILL at each named point of a round, again and again, while writers commit.

The points are those between which a relay can be torn: it has read a page; half of it is with the broker; all of it is;
the rows are deleted and the deletion is not committed; it is. Promise: nothing lost, nothing applied twice, each key in
order. The control does without an outbox: a process commits, and publishes, and is killed in between as often.
"""

from __future__ import annotations

import random
import signal
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from reference.evidence.campaign.addresses import Addresses
from reference.evidence.campaign.bursts import Tell, bursts, check_size
from reference.evidence.campaign.row import Control, Row
from reference.evidence.campaign.shop import Shop
from reference.evidence.campaign.worker import Worker
from reference.evidence.checker import Anomaly
from reference.evidence.history import read
from reference.evidence.victim import SENT, write_twice

__all__ = ["POINTS", "relays_killed"]

POINTS: Final = ("read", SENT, "published", "deleted", "marked")
PAGE: Final = 10  # small, so that a burst has several pages for each relay


def relays_killed(
    at: Addresses,
    *,
    events: int = 20_000,
    faults: int = 200,
    seed: int = 1,
    points: Sequence[str] = POINTS,
    tell: Tell = lambda number: None,
) -> Row:
    """Two relays over four lanes, both doomed in each burst, until every point was hit as often as the others."""
    check_size(events=events, faults=faults)
    started = time.monotonic()
    hits = dict.fromkeys(points, 0)
    plan = deque(points[n % len(points)] for n in range(faults))
    size, recoveries = max(1, 2 * events // faults), tuple[float, ...]()
    with Shop(at, name="relays killed", seed=seed, page=PAGE) as shop:
        doomed: dict[Worker, str] = {}

        def doom(_: int, draw: random.Random) -> None:
            for relay in shop.relays:
                if plan:
                    doomed[relay] = plan.popleft()
                    relay.restart(kill=f"{doomed[relay]}:{draw.randint(1, 2)}")

        def reap() -> bool:
            """Start again whoever died; says whether both did, or all is done and who still lives will not."""
            for relay, point in list(doomed.items()):
                if relay.code == -signal.SIGKILL:
                    hits[point] += 1
                    del doomed[relay]
                    shop.strike(f"relay killed: {point}")
                    tell(sum(hits.values()))
                    relay.start()
            return not doomed or (shop.writers.idle and shop.books.behind() == 0)

        def strike(_: int, __: random.Random) -> None:
            shop.until(reap)
            for relay, point in doomed.items():  # it had no work: another burst, then
                plan.append(point)
                relay.restart()
            doomed.clear()

        while plan and len(recoveries) < 2 * faults:
            recoveries += bursts(
                shop, events=size, faults=1, seed=seed + len(recoveries), strike=strike, before=doom, after=shop.writers.allowed
            )
        shop.writers.allow(events)
        shop.caught_up()
        verdict = shop.verdict()
        where, ordered = shop.broker.url, shop.broker.capabilities.ordered_by_key
    return Row(
        experiment="relays killed at each named point", broker=where, faults=sum(hits.values()),
        seconds=time.monotonic() - started, verdict=verdict, wrong=shop.complaints, recoveries_s=recoveries,
        controls={"without an outbox": without_outbox(at, faults=min(faults, 20), seed=seed)},
        tolerated=frozenset() if ordered else frozenset({Anomaly.OUT_OF_ORDER}),
        note="killed after: " + ", ".join(f"{point} {count}" for point, count in hits.items()),
    )  # fmt: skip


def without_outbox(at: Addresses, *, faults: int, seed: int) -> Control:
    """A process that commits and then publishes, killed ``faults`` times in between; each time an event is lost."""
    draw = random.Random(seed)
    with Shop(at, name="without outbox", relays=0, seed=seed) as shop:
        writer = Worker(write_twice, dsn=at.dsn, broker=at.broker, topic=shop.topic, history=shop.directory)
        try:
            for number in range(faults):
                writer.restart(seed=number, kill=f"committed:{draw.randint(2, 6)}")
                shop.until(lambda: not writer.runs)
                shop.strike("writer killed")
        finally:
            writer.kill()
        shop.until(lambda: shop.books.applied(published(shop)))
        return Control(verdict=shop.verdict(), must=Anomaly.LOST)


def published(shop: Shop) -> list[str]:
    """The events that somebody published and heard confirmed: all that will ever arrive."""
    return [record.event for record in read(shop.directory) if record.op == "publish" and record.phase == "ok"]
