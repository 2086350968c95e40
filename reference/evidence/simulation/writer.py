"""The writers: each changes aggregates under their locks and appends the events that tell of it, in one transaction.

Killed at any line: what was not committed never was, and whoever is started in its place writes the rest.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import psycopg

from reference.delivery import outbox
from reference.event import Event
from reference.evidence.simulation.machine import DSN, Stop
from reference.evidence.simulation.scheduler import Process
from reference.evidence.simulation.statements import CHANGE

if TYPE_CHECKING:
    from reference.evidence.simulation.world import World

__all__ = ["write"]

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)


class _ChangedItsMind(Exception):
    """A writer rolls back."""


def write(world: World, process: Process, left: list[int]) -> None:
    """``left[0]`` transactions of one to three events, some slow, some rolled back, some with their id drawn long before.

    A writer that is started again goes on with what is left.
    """
    stop, connect = Stop(process), world.machine(process).connect
    conn: psycopg.Connection[Any] | None = None
    while left[0]:
        try:
            conn = connect(DSN, autocommit=True) if conn is None or conn.closed else conn
            left[0] -= 1
            with conn.transaction():
                _change(world, conn, process, stop)
        except _ChangedItsMind:
            pass
        except psycopg.OperationalError:
            stop.wait(0.05)
    world.writing -= 1


def _change(world: World, conn: psycopg.Connection[Any], process: Process, stop: Stop) -> None:
    draw = world.draw
    if draw.random() < 0.2:
        conn.execute("SELECT pg_current_xact_id()")
    for _ in range(draw.choice([1, 1, 2, 3])):
        key = draw.choice(world.keys)
        row = conn.execute(CHANGE, (key,)).fetchone()
        assert row is not None
        event = _event(world, key, row[0])
        world.record(op="commit", phase="invoke", event=event.id, key=key, seq=event.sequence, process=process.name)
        outbox.append(conn, event)
        if draw.random() < 0.1:
            stop.wait(draw.uniform(0.05, 2.0))
    if draw.random() < 0.15:
        raise _ChangedItsMind


def _event(world: World, key: str, sequence: int) -> Event:
    n = len(world.events) + 1
    event = Event(
        id=f"00000000-0000-4000-8000-{n:012d}", type="OrderAmended", source=f"/{world.log.topic}", subject=key, sequence=sequence,
        time=EPOCH + timedelta(seconds=world.scheduler.now), data={"n": n},
    )  # fmt: skip
    world.events[event.id] = event
    return event
