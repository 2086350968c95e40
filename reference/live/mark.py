"""What the strip of events by key is made of: pure data, equal when it looks equal."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Lane", "Mark", "State"]


class State(StrEnum):
    """What is known of an event. The last four are broken promises."""

    COMMITTED = "committed"
    DELIVERED = "delivered"
    APPLIED = "applied"
    PARKED = "parked"
    DEAD = "dead letter"
    LOST = "lost"
    OUT_OF_ORDER = "out of order"
    UNEXPECTED = "unexpected"
    APPLIED_TWICE = "applied twice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One event, the ``number``-th record of its history being its first.

    ``deliveries`` and ``applications`` count the group that saw most; ``story`` is (seconds, what).
    """

    event: str
    number: int = 0
    seq: int | None
    state: State
    deliveries: int = 0
    applications: int = 0
    story: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One key and all its ``events``; ``marks`` are those shown, ``skipped`` how many are left out before each of them.

    ``slots`` is the room that they take. ``aside``: in which ways some of them were set aside.
    """

    key: str
    events: int
    marks: tuple[Mark, ...]
    skipped: tuple[int, ...]
    slots: int = 0
    aside: frozenset[State] = frozenset()
