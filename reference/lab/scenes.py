"""Choreographies: two things at once, in an order somebody chose, so that a race is lost every time and not now and then.

Each scene runs on the real database and the real broker; only the moment at which each side moves is arranged.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

import psycopg

from reference.delivery.consumer import Claim, Point
from reference.event import Event
from reference.evidence import faults
from reference.evidence.history import Record
from reference.lab.progress import progress
from reference.lab.session import Lab
from reference.lab.waiting import DEADLINE_S, wait_until
from reference.orders import shop

__all__ = [
    "carry_until",
    "early_number",
    "killed_relay",
    "late_commit",
    "overtaking",
    "same_event_twice",
]


class Steps(Protocol):
    """Anything that carries events a step at a time: a relay, or a control."""

    def run_once(self) -> int: ...


def late_commit(lab: Lab, relay: Steps, *, times: int = 10) -> None:
    """One writer draws its position first and commits last; the relay looks in between."""
    with psycopg.connect(lab.dsn) as slow, psycopg.connect(lab.dsn) as quick:
        for n in range(times):
            shop.place_order(slow, f"slow-{n:02}")
            shop.place_order(quick, f"quick-{n:02}")
            quick.commit()
            relay.run_once()
            slow.commit()
            relay.run_once()


def early_number(lab: Lab, relay: Steps, *, times: int = 10) -> None:
    """One writer gets its transaction number first, by writing something else, and changes the order last."""
    with psycopg.connect(lab.dsn) as first, psycopg.connect(lab.dsn) as second:
        for n in range(times):
            order_id = f"order-{n:02}"
            first.execute("SELECT pg_current_xact_id()")
            shop.place_order(second, order_id)
            second.commit()
            shop.amend_order(first, order_id, quantity=2)
            first.commit()
            carry_until(lab, relay, published=2 * n + 2)


def carry_until(lab: Lab, relay: Steps, *, published: int) -> None:
    """Let the relay work until that many events are out."""

    def done() -> bool:
        relay.run_once()
        return told.to(len(lab.history.done("publish"))) >= published

    with progress("published", total=published) as told:
        wait_until(done, f"{published} events to be published")


def same_event_twice(lab: Lab, claim: Callable[[Callable[[], object]], Claim]) -> None:
    """Two deployments of one consumer, blue and green, read the same events at the same time and share the inbox.

    ``claim`` gets a meeting point to wait at, and makes the claim that both use: so both are always in mid-claim at once.
    """
    meeting = threading.Barrier(2, timeout=60)
    both = claim(meeting.wait)
    with lab.warehouse(group=f"{lab.topic}-blue", claim=both), lab.warehouse(group=f"{lab.topic}-green", claim=both):
        lab.settle(groups=[f"{lab.topic}-blue", f"{lab.topic}-green"])


def killed_relay(lab: Lab, point: str, *, page: int = 25) -> int:
    """Run a relay in a process of its own until SIGKILL hits it at ``point``: ``read``, ``published`` or ``marked``.

    Returns the exit code the operating system gives: -9.
    """
    command = [sys.executable, "-m", "reference.evidence.victim", "carry", "--dsn", lab.dsn, "--broker", lab.broker_url]
    command += ["--route", lab.topic, "--page", str(page), "--kill", f"{point}:1"]
    with progress("a relay runs until it is killed"):
        code = subprocess.run(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=DEADLINE_S, check=False
        ).returncode
    lab.history.add(Record(op="fault", note="relay killed"))
    return code


def overtaking(second: Callable[[], int]) -> Callable[[str], None]:
    """For a relay's ``at=``: the first time it has read its page, the second relay does a whole step of its own."""
    pending = [second]

    def at(point: str) -> None:
        if point == "read" and pending:
            pending.pop()()

    return at


def crashing_consumer(lab: Lab, *, crash_at: Point, every: int = 25, **promise: Any) -> dict[str, int]:
    """A hundred events for a warehouse that crashes at every ``every``-th pass of ``crash_at`` and is started again."""
    lab.begin(partitions=1)
    lab.backlog(orders=10, changes=10)
    crash = faults.crash(crash_at, every=every)

    def at(point: Point, _: Event) -> None:
        if point == crash_at:
            crash()

    with lab.relay(), lab.warehouse(at=at, batch=1, **promise):
        lab.settle()
    verdict = lab.judge()
    return {
        "events": verdict.acknowledged,
        "crashes": crash.fired,
        "never applied": verdict.acknowledged - verdict.applied,
        "applied twice": verdict.applied_twice,
    }
