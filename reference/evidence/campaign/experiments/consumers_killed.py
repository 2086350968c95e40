"""Consumers that die by SIGKILL between effect and commit, and between commit and ack, while others of their group live on.

Two deployments of one service, each a group of its own with several members, share one inbox: every event reaches both, and
both try to apply it. Then there is one deployment, in which what a dead consumer had acked nobody else applies. Promise:
applied once, each key in order, and every deployment receives everything. The controls are killed alike: without an inbox,
what was committed and not acked is applied again; asking first and remembering afterwards lets both deployments through.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from reference.evidence.campaign.addresses import Addresses
from reference.evidence.campaign.bursts import Tell, check_size
from reference.evidence.campaign.row import Control, Row
from reference.evidence.campaign.shop import Shop
from reference.evidence.campaign.worker import Worker
from reference.evidence.checker import Anomaly, Verdict

__all__ = ["POINTS", "consumers_killed", "wrong_inbox"]

POINTS: Final = ("applied", "committed")
GROUPS: Final = 2
MEMBERS: Final = 3  # of each group: as many as the topic has partitions
KILLS_A_BURST: Final = 10
CONTROLLED: Final = 100  # events of each control, a chance
CHANCES: Final = 10
CHANCE_S: Final = 5.0


def consumers_killed(
    at: Addresses, *, events: int = 10_000, faults: int = 200, seed: int = 1, tell: Tell = lambda number: None
) -> Row:
    """Half of the deaths among two deployments, and half in one, where nobody else applies what a dead one has acked."""
    check_size(events=events, faults=faults)
    started = time.monotonic()
    hits: Counter[str] = Counter()
    recoveries: list[float] = []
    verdict, wrong = Verdict(), tuple[str, ...]()
    for groups, share in ((GROUPS, faults // 2), (1, faults - faults // 2)):
        kept = events * share // faults
        with Shop(at, name="consumers killed", groups=groups, consumers=MEMBERS, seed=seed) as shop:
            before = hits.total()
            doom = Doom(shop, share, within=max(1, kept // (share + len(shop.consumers))), seed=seed + groups,
                        tell=lambda count, before=before: tell(before + count))  # type: ignore[misc]  # fmt: skip
            doom.carry_out(kept, bursts=max(1, share // KILLS_A_BURST))
            shop.until(shop.received_by_all)
            verdict += shop.verdict()
            where, ordered = shop.broker.url, shop.broker.capabilities.ordered_by_key
        hits.update(doom.hits)
        recoveries += doom.recoveries
        wrong += shop.complaints
    few = min(faults, 4)
    return Row(
        experiment="consumers killed after effect, and after commit", broker=where, faults=hits.total(),
        seconds=time.monotonic() - started, verdict=verdict, wrong=wrong, recoveries_s=tuple(recoveries),
        controls={
            "no inbox": wrong_inbox(at, "no inbox", groups=1, faults=few, seed=seed),
            "check then put": wrong_inbox(at, "check then put", groups=GROUPS, faults=few, seed=seed),
        },
        tolerated=frozenset() if ordered else frozenset({Anomaly.OUT_OF_ORDER}),
        note="killed after: " + ", ".join(f"{point} {count}" for point, count in hits.items())
        + f"; {GROUPS} groups of {MEMBERS} on one inbox, and one group alone",
    )  # fmt: skip


def wrong_inbox(at: Addresses, claim: str, *, groups: int, faults: int, seed: int) -> Control:
    """The same with another way to tell a redelivery, until an event is seen applied twice, or it has had every chance."""
    with Shop(at, name=claim, groups=groups, consumers=2, claim=claim, seed=seed) as shop:
        doom = Doom(shop, faults, within=CONTROLLED // 10, seed=seed)
        doom.begin()
        for chance in range(1, CHANCES + 1):
            shop.writers.allow(chance * CONTROLLED)
            if shop.until(lambda: (doom.reap() or True) and shop.books.applied_twice() > 0, CHANCE_S):
                break
        return Control(verdict=shop.verdict(), must=Anomaly.APPLIED_TWICE)


@dataclass(slots=True)
class Doom:
    """Has the consumers of ``shop`` die until there were ``kills`` deaths, at points and passes drawn from ``seed``.

    Some more may have been told their end by then. Each is told when it is started: which point it will not get beyond, when
    it passes it for the first to the ``within``-th time.
    """

    shop: Shop
    kills: int
    within: int
    seed: int
    tell: Tell = lambda number: None
    hits: dict[str, int] = field(default_factory=lambda: dict.fromkeys(POINTS, 0))
    recoveries: list[float] = field(default_factory=list)
    _told: dict[Worker, str] = field(default_factory=dict)
    _lives: int = 0
    _struck: list[float] = field(default_factory=list)

    def begin(self) -> None:
        """Have all of them leave in good order, and come back to die."""
        for consumer in self.shop.consumers:
            consumer.stop()
            self._start(consumer)

    def carry_out(self, events: int, *, bursts: int) -> None:
        """Have ``events`` committed, in bursts that each end when all has been applied, whoever dies meanwhile."""
        self.begin()
        for burst in range(bursts):
            self.shop.writers.allow(events * (burst + 1) // bursts)
            self.shop.until(self.reap)
            self.recoveries += [time.monotonic() - struck for struck in self._struck]
            self._struck.clear()

    def reap(self) -> bool:
        """Start again whoever died; says whether all that was committed has been applied."""
        for consumer, point in list(self._told.items()):
            if consumer.code == -signal.SIGKILL:
                self.hits[point] += 1
                self._struck.append(self.shop.strike(f"consumer killed: {point}"))
                self.tell(sum(self.hits.values()))
                self._start(consumer)
        return self.shop.writers.idle and self.shop.books.behind() == 0

    def _start(self, consumer: Worker) -> None:
        self._told.pop(consumer, None)
        if sum(self.hits.values()) >= self.kills:
            consumer.start()
            return
        draw = random.Random(f"{self.seed}-{self._lives}")
        point, nth = POINTS[self._lives % len(POINTS)], draw.randint(1, self.within)
        self._lives += 1
        self._told[consumer] = point
        consumer.start(kill=f"{point}:{nth}")
