"""One experiment on every broker: the same shop, the same seeds, the same faults. What differs then is the broker."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import quantiles
from typing import Any, Final

import pandas as pd

from reference.brokers import Capabilities
from reference.delivery.consumer import Point
from reference.event import Event
from reference.evidence import faults
from reference.evidence.history import History
from reference.lab.progress import progress
from reference.lab.scenes import killed_relay
from reference.lab.session import Lab
from reference.orders import shop

__all__ = ["same_faults", "which_one_when"]

KILLS: Final = 3
CALM_CHANGES: Final = 200
COUNTS: Final = ("committed", "lost", "duplicates", "applied twice", "out of order")
PACE_S: Final = 0.01


def same_faults(lab: Lab, *, seed: int = 7, history: History | None = None) -> dict[str, Any]:
    """Relay killed three times after it published, warehouse crashed four times before it acked; then a calm stretch.

    Returns the checker's counts over all of it, and the milliseconds from commit to booked in the calm stretch. ``history`` is
    where it is recorded, for who watches it.
    """
    lab.begin(history=history)
    lab.backlog()
    crash = faults.crash("committed", every=50, seed=seed)

    def at(point: Point, _: Event) -> None:
        if point == crash.name and crash.fired < 4:
            crash()

    with lab.warehouse(at=at, batch=10):
        for _ in range(KILLS):
            killed_relay(lab, "published")
        with lab.relay():
            lab.settle()
            committed = _calm(lab)
            lab.settle()
    verdict = lab.judge()
    applied = {record.event: record.at for record in lab.history.done("apply")}
    cuts = quantiles((1000 * (applied[event] - at) for event, at in committed.items()), n=100, method="inclusive")
    counted = (verdict.acknowledged, verdict.lost, verdict.duplicates, verdict.applied_twice, verdict.out_of_order)
    return {
        **dict(zip(COUNTS, counted, strict=True)),
        "median ms": round(cuts[49], 1),
        "p99 ms": round(cuts[98], 1),
    }


def _calm(lab: Lab) -> dict[str, float]:
    """Changes at an even pace, and when each was committed."""
    committed = {}
    start = time.monotonic()
    with progress("changed at an even pace", total=CALM_CHANGES) as told:
        for n in range(CALM_CHANGES):
            time.sleep(max(0.0, start + n * PACE_S - time.monotonic()))
            with lab.conn.transaction():
                event = shop.amend_order(lab.conn, f"order-{n % 20 + 1:02}", quantity=1)
            committed[event.id] = time.monotonic()
            told.to(n + 1)
    return committed


WISHES: Final = {
    "each key in order": "ordered_by_key",
    "read history again, from any place": "replay_by_offset",
    "set a group back to a time": "replay_by_time",
    "say how far a group is behind": "lag",
    "count attempts": "redelivery_count",
    "put dead letters aside by itself": "dead_letters",
    "deliver later": "delayed_delivery",
    "deliver only what matches": "filters",
    "leave out aborted transactions": "transactions",
    "survive a kill": "durable",
}


def which_one_when(brokers: Mapping[str, Capabilities], measured: pd.DataFrame) -> pd.DataFrame:
    """What you may wish of a broker and which of these do it, as their ``Capabilities`` have it; below, what was measured.

    ``measured`` has a row a broker and the columns that :func:`same_faults` returns.
    """

    def answer(able: Capabilities, wish: str) -> str:
        return "yes" if getattr(able, wish) else "not the emulator" if wish in able.emulator_gaps else "no"

    table = {name: [answer(able, wish) for wish in WISHES.values()] for name, able in brokers.items()}
    wishes = pd.DataFrame(table, index=pd.Index(WISHES, name="you want it to"))
    return pd.concat([wishes, measured[["median ms", "p99 ms"]].astype(str).T])
