"""Many writers whose transactions overlap in every way that misleads a relay, with relays under way.

A transaction amends one order or several. Some draw their transaction id long before they lock a row; some stay open for
seconds once they have drawn their position in the outbox; some roll back. Promise: what was committed arrives, once, each
key in order; what was rolled back never does. Of the controls, the relay that remembers the last position must lose, and
the one that goes by transaction ids must reorder.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Final

import psycopg

from reference.evidence.campaign.addresses import Addresses
from reference.evidence.campaign.bursts import Tell, check_size
from reference.evidence.campaign.experiments.relays_killed import published
from reference.evidence.campaign.row import Control, Row
from reference.evidence.campaign.shop import Shop
from reference.evidence.campaign.worker import Worker
from reference.evidence.campaign.writers import order
from reference.evidence.checker import Anomaly
from reference.evidence.history import History, Phase, Record
from reference.evidence.victim import carry_wrongly
from reference.orders import shop as orders

__all__ = ["Interleaving", "interleaved_commits", "wrong_relay"]

WRITERS: Final = 32
KEYS: Final = 200  # a transaction that stays open keeps everybody waiting who wants one of its orders
AT_ONCE: Final = 3
OPEN_S: Final = (1.0, 5.0)
FEW_KEYS: Final = 40
CONTROLLED: Final = 200  # transactions of each control
LESS_OPEN_S: Final = (0.1, 0.5)  # for the controls, which need no long ones to go wrong
ROLLED_BACK: Final = 2  # for each that stays open


@dataclass(slots=True)
class Interleaving:
    """The nature of each of ``count`` transactions, whichever writer comes to it: drawn from the seed and its number.

    Of the ``faults``, which lie anywhere among them, one in three stays open for ``open_s`` seconds, and the others roll
    back: ``kinds``, by number. A third of all draw their transaction id first. ``ended`` has the kinds of those that are over.
    """

    count: int
    faults: int
    seed: int
    open_s: tuple[float, float] = OPEN_S
    keys: int = KEYS
    kinds: dict[int, str] = field(init=False)
    ended: list[str] = field(default_factory=list)
    _number: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        struck = random.Random(self.seed).sample(range(self.count), self.faults)
        self.kinds = {n: "rolled back" if i % (1 + ROLLED_BACK) else "held open" for i, n in enumerate(struck)}

    def __call__(self, conn: psycopg.Connection[Any], _: random.Random, history: History) -> None:
        number = next(self._number)
        kind, draw = self.kinds.get(number), random.Random(f"{self.seed}-{number}")
        early, before_s, after_s = draw.random() < 1 / 3, 0.0, 0.0
        if kind == "held open":
            open_s, share = draw.uniform(*self.open_s), draw.random() if early else 0.0
            before_s, after_s = open_s * share, open_s * (1 - share)
        if early:
            conn.execute("SELECT pg_current_xact_id()")
        time.sleep(before_s)
        # In one order for everybody, or two would wait for each other until the database ends one of them.
        keys = sorted({order(draw, self.keys) for _ in range(draw.randint(1, AT_ONCE))})
        events = [orders.amend_order(conn, key, quantity=1) for key in keys]
        time.sleep(after_s)
        commits = [Record(op="commit", event=event.id, key=event.key, seq=event.sequence) for event in events]
        _tell(history, commits, "invoke")
        conn.rollback() if kind == "rolled back" else conn.commit()
        _tell(history, commits, "fail" if kind == "rolled back" else "ok")
        if kind is not None:
            self.ended.append(kind)


def interleaved_commits(
    at: Addresses, *, events: int = 10_000, faults: int = 1_500, seed: int = 1, tell: Tell = lambda number: None
) -> Row:
    """Two relays, and ``events`` transactions of :data:`WRITERS` writers. A fault is one that stays open, or rolls back."""
    check_size(events=events, faults=faults)
    started = time.monotonic()
    plan = Interleaving(events, faults, seed)
    with Shop(at, name="interleaved commits", write=plan, writers=WRITERS, orders=KEYS, seed=seed) as shop:
        shop.writers.allow(events)
        for number in range(1, faults + 1):
            shop.until(lambda number=number: len(plan.ended) >= number or shop.writers.idle)  # type: ignore[misc]
            tell(number)
        shop.caught_up()
        verdict = shop.verdict()
        where, ordered = shop.broker.url, shop.broker.capabilities.ordered_by_key
    kinds = Counter(plan.ended)
    return Row(
        experiment="interleaved commits", broker=where, faults=len(plan.ended), seconds=time.monotonic() - started,
        verdict=verdict, wrong=shop.complaints, duplicates_expected=False,
        controls={
            "last id": wrong_relay(at, "last id", must=Anomaly.LOST, seed=seed),
            "transaction id": wrong_relay(at, "transaction id", must=Anomaly.OUT_OF_ORDER, seed=seed),
        },
        tolerated=frozenset() if ordered else frozenset({Anomaly.OUT_OF_ORDER}),
        note=f"{events} transactions of {WRITERS} writers, " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()),
    )  # fmt: skip


def wrong_relay(at: Addresses, design: str, *, must: Anomaly, seed: int) -> Control:
    """One relay of another design and a few hundred such transactions, less long open ones, over fewer orders."""
    plan = Interleaving(CONTROLLED, CONTROLLED // 5, seed, open_s=LESS_OPEN_S, keys=FEW_KEYS)
    with Shop(at, name=design, relays=0, write=plan, writers=WRITERS, seed=seed) as shop:
        carrying: dict[str, Any] = {"dsn": at.dsn, "broker": at.broker, "route": shop.topic, "history": shop.directory}
        shop.relays.append(Worker(carry_wrongly, **carrying, design=design).start())
        shop.writers.allow(CONTROLLED)
        shop.until(lambda: shop.writers.idle and _last(shop) in (sent := published(shop)) and shop.books.applied(sent))
        return Control(verdict=shop.verdict(), must=must)


def _last(shop: Shop) -> str:
    """The event behind which such a relay, which deletes nothing, finds nothing more."""
    with psycopg.connect(shop.at.dsn) as conn:
        row = conn.execute("SELECT id::text FROM outbox ORDER BY position DESC LIMIT 1").fetchone()
    return row[0] if row else ""


def _tell(history: History, commits: list[Record], phase: Phase) -> None:
    for commit in commits:
        history.add(replace(commit, phase=phase))
