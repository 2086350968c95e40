"""What befalls the simulated: each kind of fault by its name, and when a seed has which of them happen.

A fault hits the process that was about to go on, between two of its steps; so over many seeds it hits everywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from reference.evidence.simulation.log import SESSION_S
from reference.evidence.simulation.scheduler import Thread

if TYPE_CHECKING:
    from reference.evidence.simulation.world import World

__all__ = ["FAULTS", "Faults"]


def crash(world: World, thread: Thread) -> None:
    """Its sessions end at once, or when the server notices; the broker notices later; it is started again."""
    process, draw = thread.process, world.draw
    world.crash(process, noticed_in_s=draw.choice([0.0, draw.uniform(0, world.lease_s)]), again_in_s=draw.uniform(0.05, 1.0))


def freeze(world: World, thread: Thread) -> None:
    """For up to twice its lease: it wakes as one who knows nothing of it."""
    process, scheduler = thread.process, world.scheduler
    process.frozen_until = scheduler.now + world.draw.uniform(0.05, 2 * world.lease_s)
    scheduler.later(SESSION_S, lambda: world.log.lose(process) if process.frozen else None)


def break_connection(world: World, thread: Thread) -> None:
    """Its next statement loses the connection, carried out or not."""
    thread.process.breaks = world.draw.choice(["before", "after"])


def restart_database(world: World, _: Thread) -> None:
    """Every session ends, and for a while there is nobody to connect to."""
    database = world.database
    for session in list(database.sessions):
        database.end(session, "shutdown")
    database.down_until = world.scheduler.now + world.draw.uniform(0, 0.5)


def terminate_sessions(world: World, thread: Thread) -> None:
    """Somebody ends the process's sessions."""
    for session in [session for session in world.database.sessions if session.process is thread.process]:
        world.database.end(session, "shutdown")


def leave_unanswered(_: World, thread: Thread) -> None:
    """The broker takes some of what the process publishes next, and says nothing."""
    thread.process.unanswered = True


def broker_away(world: World, _: Thread) -> None:
    world.log.down_until = world.scheduler.now + world.draw.uniform(0, 1.0)


def deliver_again(world: World, _: Thread) -> None:
    world.log.repeat()


def refuse(world: World, _: Thread) -> None:
    """The broker will not take one of the events that are there, for a while."""
    if rows := world.database.waiting():
        event = world.draw.choice(rows).row[1]
        world.log.refused[event] = world.scheduler.now + world.draw.uniform(0.1, 3.0)


def fail_handler(world: World, _: Thread) -> None:
    world.failing += world.draw.randint(1, 3)


FAULTS: Final[dict[str, Callable[[World, Thread], None]]] = {
    "crash": crash,
    "freeze": freeze,
    "connection breaks": break_connection,
    "sessions terminated": terminate_sessions,
    "database restarts": restart_database,
    "broker says nothing": leave_unanswered,
    "broker away": broker_away,
    "delivered again": deliver_again,
    "event refused": refuse,
    "handler fails": fail_handler,
}


class Faults:
    """How many there will be, of which kinds, and how close together, is drawn once; the rest at every step."""

    def __init__(self, world: World, draw: random.Random) -> None:
        self._world, self._draw = world, draw
        self._left = draw.choice([0, 1, 2, 3, 5, 8])
        kinds = list(world.design.faults)
        self._kinds = draw.sample(kinds, draw.randint(1, len(kinds)))
        self._rate = draw.choice([0.005, 0.02, 0.1])
        self.hit = 0

    def __call__(self, thread: Thread) -> None:
        if self._left and thread.process.mortal and self._draw.random() < self._rate:
            self._left -= 1
            self.hit += 1
            self._world.moved_at = self._world.scheduler.now  # what was hit has all the time again to come back
            kind = self._kinds[int(self._draw.random() * len(self._kinds))]
            self._world.scheduler.note(thread.name, f"FAULT: {kind}, before it {thread.what}")
            FAULTS[kind](self._world, thread)
