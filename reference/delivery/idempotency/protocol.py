"""What every idempotency store promises, and what none can.

An effect that is a row in the consumer's own database needs none of this: the inbox shares its transaction. A payment, a
mail or a file cannot, so its key goes through two states: *started*, by an owner, until its lease is over; and *done*, with
a result.

Promised, killed at any line: of all who begin a key only one at a time is told :class:`Begun` while its lease lasts; once
``finish`` has returned, everyone is told :class:`Done` with that result, and nobody can finish it with another; a key whose
owner died is free again when the lease is over, so no event is left unapplied.

Not promised: that the effect runs only once. Between ``begin`` and ``finish`` it is at least once: an owner may die after
the effect and before ``finish``, or outlive its lease while another begins. So the effect itself must be safe to run again:
hand the key on to whoever performs it (payment services take one), or write to a name made of the key. A lease longer than
the effect ever takes makes that rare; it does not make it impossible. Nor can a store promise more than it keeps: what a
Redis evicts or loses in a failover, and what is pruned before its last redelivery, is applied again.

Source: guide, Idempotency Storage Patterns. Its ``SET NX EX`` before the effect never applies an event whose consumer died in
between, and its HEAD before PUT is a race.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

__all__ = ["Answer", "Begun", "Busy", "Done", "IdempotencyStore", "LeaseLost"]


@dataclass(frozen=True, slots=True)
class Begun:
    """The key is the asker's until then, by the store's own clock: run the effect and finish."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Done:
    """The effect is done; this is what it returned."""

    result: str


@dataclass(frozen=True, slots=True)
class Busy:
    """Another owner has begun; unless it finishes, the key is free then, by the store's own clock."""

    until: datetime


Answer = Begun | Done | Busy


class LeaseLost(Exception):
    """The key is not this owner's any more: its lease was over and another took it, or its record is gone.

    The effect may have run twice, and this owner's result is not the one kept.
    """

    def __init__(self, key: str, owner: str) -> None:
        super().__init__(f"idempotency key {key!r} is no longer held by {owner!r}: its lease was over before it finished")
        self.key, self.owner = key, owner


class IdempotencyStore(Protocol):
    """Keys in one place, judged by that place's clock. ``owner`` must be of one attempt alone: a fresh UUID, no host's name.

    Every call may be repeated when its answer was lost: clients do that by themselves.
    """

    def begin(self, key: str, owner: str, *, lease: timedelta) -> Answer:
        """Take the key if it is free, or begun by nobody whose lease still lasts. By its own owner: the lease starts anew."""

    def finish(self, key: str, owner: str, *, result: str) -> None:
        """Keep the result for good. Late is allowed so long as no other took the key; else raises :class:`LeaseLost`.

        Finished already by this owner, it is a no-op: the first result stays.
        """

    def abandon(self, key: str, owner: str) -> None:
        """Free the key at once, when the effect has failed. A no-op when it is done, or no longer this owner's."""
