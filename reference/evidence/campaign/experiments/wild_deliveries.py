"""Deliveries as a bad day has them: one in ten comes twice, within fifty they are shuffled, one in ten is seconds late.

The faults stand between the broker and the consumer, so they are the same on every broker. Promise: nothing lost, nothing
applied twice. Order is what these faults take away, so that is tolerated, and what a consumer does about it is shown: a read
model that remembers each order's sequence shows the newest, where one that takes the last for the newest would not. The
control applies what comes, without an inbox.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, Final

import psycopg

from reference.evidence.campaign.addresses import Addresses
from reference.evidence.campaign.bursts import Tell, check_size
from reference.evidence.campaign.row import Control, Row
from reference.evidence.campaign.shop import Shop
from reference.evidence.checker import Anomaly
from reference.evidence.history import read

__all__ = ["wild_deliveries"]

WINDOW: Final = 50
LONGEST_S: Final = 5.0
EVENTS_A_SECOND: Final = 200  # a short run has shorter delays, or it would be nothing but waiting
CONTROLLED: Final = 20  # repetitions
SHORT_S: Final = 0.5
WAIT_S: Final = 10.0
CONSUMERS: Final = 2
NEWEST_SHOWN: Final = "SELECT order_id, sequence AS version FROM order_status"
LAST_APPLIED: Final = (
    "SELECT DISTINCT ON (order_id) order_id, made.version FROM ledger JOIN order_changes AS made USING (event_id, order_id)"
    " ORDER BY order_id, ledger.entry DESC"
)
TOLERATED: Final = frozenset({Anomaly.OUT_OF_ORDER})


def wild_deliveries(
    at: Addresses, *, events: int = 100_000, faults: int = 10_000, seed: int = 1, tell: Tell = lambda number: None
) -> Row:
    """``events`` deliveries to two consumers, and as often as ``faults`` go into ``events`` one comes twice; delays as often."""
    check_size(events=events, faults=faults)
    started = time.monotonic()
    every, delay_s = max(1, events // faults), min(LONGEST_S, events / EVENTS_A_SECOND)
    commits, told = events - events // (every + 1), 0
    with _shop(at, "wild deliveries", every=every, delay_s=delay_s, seed=seed, consumers=CONSUMERS) as shop:

        def arrived() -> bool:
            nonlocal told
            behind = shop.books.behind()
            for told in range(told + 1, faults * (shop.writers.ended - behind) // commits + 1):  # noqa: B020
                tell(told)
            return shop.writers.idle and behind == 0

        shop.writers.allow(commits)
        shop.until(arrived)
        shop.until(lambda: _handed_out(shop), 2 * delay_s + WAIT_S)
        verdict, struck, where = shop.verdict(), _struck(shop), shop.broker.url
        stale, naive = _stale(at.dsn, NEWEST_SHOWN), _stale(at.dsn, LAST_APPLIED)
    return Row(
        experiment="wild deliveries", broker=where, faults=sum(struck.values()), seconds=time.monotonic() - started,
        verdict=verdict, controls={"no inbox": no_inbox(at, every=every, seed=seed)}, tolerated=TOLERATED,
        missed=_missed(struck, twice=commits // every - CONSUMERS),  # each member counts for itself
        wrong=(*shop.complaints, *([f"stale in the read model {stale}"] if stale else [])),
        note=f"{verdict.acknowledged + verdict.duplicates} deliveries: "
        + ", ".join(f"{name} {count}" for name, count in sorted(struck.items()))
        + f", up to {delay_s:g} s. Order is what the faults take away: of a read model by sequence {stale} orders are stale,"
        f" of one that shows what came last {naive}",
    )  # fmt: skip


def no_inbox(at: Addresses, *, every: int, seed: int) -> Control:
    """The same for a consumer that takes every delivery for the first."""
    with _shop(at, "no inbox", every=every, delay_s=SHORT_S, seed=seed, consumers=1, claim="no inbox") as shop:
        shop.writers.allow(CONTROLLED * every)
        shop.caught_up()
        shop.until(lambda: shop.books.applied_twice() > 0, WAIT_S)
        return Control(verdict=shop.verdict(), must=Anomaly.APPLIED_TWICE)


def _shop(at: Addresses, name: str, *, every: int, delay_s: float, seed: int, **settings: Any) -> Shop:
    wild = {"twice_every": every, "shuffle": WINDOW, "delay_s": delay_s, "seed": seed, "shows": True}
    return Shop(at, name=name, seed=seed, consuming=wild, **settings)


def _struck(shop: Shop) -> Counter[str]:
    return Counter(record.note for record in read(shop.directory) if record.op == "fault")


def _missed(struck: Counter[str], *, twice: int) -> tuple[str, ...]:
    """The kinds of fault that struck too seldom: many of one must not stand for those of another."""
    least = {"deliver twice": max(1, twice), "shuffle": 1, "delay": 1}
    return tuple(f"{name} {struck[name]}" for name, count in least.items() if struck[name] < count)


def _handed_out(shop: Shop) -> bool:
    """Whether the repetitions, too, have arrived: a late one could still be applied."""
    received = sum(record.op == "deliver" for record in read(shop.directory))
    return received >= shop.books.committed() + _struck(shop)["deliver twice"]


def _stale(dsn: str, shown: str) -> int:
    """How many orders do not show their newest change."""
    with psycopg.connect(dsn) as conn:
        row = conn.execute(
            "SELECT count(*) FROM (SELECT order_id, max(version) AS newest FROM order_changes GROUP BY order_id) AS made"
            f" LEFT JOIN ({shown}) AS shown USING (order_id) WHERE shown.version IS DISTINCT FROM newest"
        ).fetchone()
    return int(row[0]) if row else 0
