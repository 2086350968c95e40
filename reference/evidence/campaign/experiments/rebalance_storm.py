"""A consumer joins or leaves every few seconds, in order or by SIGKILL, while events flow at a steady pace.

Each time the group shares its partitions out anew, often before it has done with the last time. Promise: nothing lost,
nothing applied twice, each key in order. A member that comes counts once it has been delivered something, so that every
join really moved something; until then the next one waits. The long form has five seconds between two changes. There is no
control: what goes wrong without an inbox when members die, the killed consumers show.
"""

from __future__ import annotations

import random
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from reference.evidence.campaign.addresses import Addresses
from reference.evidence.campaign.bursts import Tell
from reference.evidence.campaign.flow import Flow
from reference.evidence.campaign.row import Row
from reference.evidence.campaign.shop import Shop
from reference.evidence.campaign.worker import Worker
from reference.evidence.checker import Anomaly, check
from reference.evidence.history import Record

__all__ = ["rebalance_storm", "waits"]

PER_S: Final = 20.0  # events
FEWEST: Final = 2
MOST: Final = 6  # members, and as many partitions, so that there is one for everybody
WITHIN_S: Final = 60.0  # for a member that comes: far beyond the session of one that was killed
JOINS, LEAVES, KILLED = "joins", "leaves", "is killed"


def rebalance_storm(
    at: Addresses, *, events: int = 10_000, faults: int = 100, seed: int = 1, tell: Tell = lambda number: None
) -> Row:
    """``faults`` changes, one after each ``events / faults`` events; more flow while a member is awaited."""
    started = time.monotonic()
    with Shop(at, name="rebalance storm", consumers=FEWEST, partitions=MOST, seed=seed) as shop:
        shop.assemble()
        done, moments = Counter[str](), list[float]()
        with Flow(shop.writers, per_s=PER_S):
            for number, change in enumerate(changes(faults, seed=seed)):
                shop.begun(shop.writers.ended + events // faults)
                moments.append(shop.strike(f"a consumer {change[0]}"))
                done[change[0]] += _change(shop, *change)
                tell(number + 1)
        shop.caught_up()
        records = shop.records()
        where, ordered = shop.broker.url, shop.broker.capabilities.ordered_by_key
    return Row(
        experiment="rebalance storm", broker=where, faults=done.total(), seconds=time.monotonic() - started,
        verdict=check(records), wrong=shop.complaints, recoveries_s=waits(records, moments), duplicates_expected=False,
        tolerated=frozenset() if ordered else frozenset({Anomaly.OUT_OF_ORDER}),
        note=f"{done[JOINS]} joined, {done[LEAVES]} left, {done[KILLED]} were killed; a member heard of a handover"
        f" {_handovers(records)} times; recovery is the longest that an event waited from commit to ack",
    )  # fmt: skip


def changes(count: int, *, seed: int) -> list[tuple[str, int]]:
    """What happens, and to which of the members there are then: never fewer than two of them, never more than six."""
    draw, members, found = random.Random(seed), FEWEST, []
    for _ in range(count):
        joins = members == FEWEST or (members < MOST and draw.random() < 1 / 2)
        found.append((JOINS, 0) if joins else (draw.choice((LEAVES, KILLED)), draw.randrange(members)))
        members += 1 if joins else -1
    return found


def _change(shop: Shop, what: str, which: int) -> bool:
    """Make it happen, and say whether it did: a member that comes, when it was delivered something."""
    if what == JOINS:
        return _takes_part(shop, shop.join())
    leaver = shop.consumers[which]
    leaver.stop() if what == LEAVES else leaver.kill()
    shop.part_with(leaver)
    return True


def _takes_part(shop: Shop, member: Worker) -> bool:
    deadline = time.monotonic() + WITHIN_S
    while not any(record.op == "deliver" for record in shop.told_by(member)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _handovers(records: Iterable[Record]) -> int:
    return sum(record.op == "assign" for record in records)


def waits(records: Iterable[Record], moments: Sequence[float]) -> tuple[float, ...]:
    """For each of these moments, the longest time that an event waited for its ack from then on, or from its commit.

    Counted are those that waited at that moment, and those committed before the next one.
    """
    committed: dict[str, float] = {}
    acked: dict[str, float] = {}
    for record in records:
        if record.op == "commit" and record.phase == "ok":
            committed.setdefault(record.event, record.at)
        elif record.op == "ack":
            acked.setdefault(record.event, record.at)
    longest = [0.0] * len(moments)
    for event, at in acked.items():
        since = committed.get(event, at)
        for place in range(max(0, bisect_right(moments, since) - 1), bisect_right(moments, at)):
            longest[place] = max(longest[place], at - max(since, moments[place]))
    return tuple(longest)
