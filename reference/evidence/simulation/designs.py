"""What is simulated: the relay and the consumer as they are, and beside them designs that must be seen failing.

The controls are those of :mod:`reference.evidence.controls`, line for line. A fault that would end a control, or have it begin
anew, is left out where it would hide what is wrong with the design itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import psycopg

from reference.brokers import BrokerUnavailable, NotConfirmed
from reference.delivery.consumer import Claim
from reference.delivery.held import HeldKeys
from reference.delivery.relay import Relay
from reference.evidence.controls.inboxes import check_then_put, no_inbox
from reference.evidence.controls.relays import LastIdRelay, MarkFirstRelay, SkipLockedRelay, TransactionIdRelay
from reference.evidence.simulation.faults import FAULTS
from reference.evidence.simulation.machine import DSN, Stop
from reference.evidence.simulation.scheduler import Process

if TYPE_CHECKING:
    from reference.evidence.simulation.world import World

__all__ = ["CONSUMER", "DESIGNS", "Design"]

CONSUMER: Final = "warehouse"


class _Step(Protocol):
    def run_once(self) -> int: ...


Make = Callable[..., _Step]


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """``relay`` is what a relay's process does; ``claim`` takes the inbox's place. ``wrong`` says what is, in a few words.

    ``mortal``: faults may hit its relays; ``faults`` names those that happen at all. ``relays`` and ``consumers`` say how many
    there are at least.
    """

    name: str
    relay: Callable[[World, Process], None]
    wrong: str = ""
    claim: Claim | None = None
    mortal: bool = True
    faults: Sequence[str] = tuple(FAULTS)
    relays: int = 1
    consumers: int = 1


def carry(world: World, process: Process) -> None:
    """``eda relay``, as it is."""
    machine, draw = world.machine(process), world.draw
    relay = Relay(
        DSN, world.client(process), route=world.log.topic, lanes=draw.choice(world.lanes), page=world.page,
        lease_s=world.lease_s, machine=machine,
        at=lambda point: process.scheduler.note(process.name, f"· {point}"),
    )  # fmt: skip
    relay.held = HeldKeys(retry_s=1.0, clock=machine.clock)
    relay.run(Stop(process))


def _control(make: Make, **options: Any) -> Callable[[World, Process], None]:
    """Ask it for step after step, whatever happens."""

    def carry_on(world: World, process: Process) -> None:
        stop = Stop(process)
        conn = world.machine(process).connect(DSN, autocommit=True)
        relay = make(conn, world.client(process), route=world.log.topic, **options)
        while True:
            try:
                if not relay.run_once():
                    stop.wait(0.1)
            except (BrokerUnavailable, NotConfirmed):
                stop.wait(0.1)

    return carry_on


def _mark_first(world: World, process: Process) -> None:
    """It keeps nothing in memory, so it may die as the real one may."""
    stop = Stop(process)
    while True:
        try:
            _control(MarkFirstRelay, page=world.page)(world, process)
        except psycopg.OperationalError:
            stop.wait(0.1)


# Faults of single processes, which pass by those that are not mortal.
_SINGLE: Final = ("crash", "freeze", "connection breaks", "sessions terminated", "delivered again", "handler fails")

DESIGNS: Final[dict[str, Design]] = {
    design.name: design
    for design in (
        Design(name="relay", relay=carry),
        Design(name="last-id", relay=_control(LastIdRelay), wrong="loses", mortal=False, faults=_SINGLE),
        Design(name="transaction-id", relay=_control(TransactionIdRelay), wrong="reorders", mortal=False, faults=_SINGLE),
        Design(
            name="skip-locked", relay=_control(SkipLockedRelay, page=2), wrong="reorders", mortal=False, faults=_SINGLE, relays=2
        ),
        Design(name="mark-first", relay=_mark_first, wrong="loses"),
        Design(name="no-inbox", relay=carry, wrong="applies twice", claim=no_inbox),
        Design(name="check-then-put", relay=carry, wrong="applies twice", claim=check_then_put(CONSUMER), consumers=2),
    )
}
