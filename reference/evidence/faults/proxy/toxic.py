"""A toxic: what a network does to a connection, as :mod:`.way` asks for it.

Bytes enter with the time they came; the same bytes leave in order, in pieces that are due later, or the connection ends.
Nothing here waits or talks.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar, Literal, NamedTuple, Self

__all__ = ["Piece", "Stream", "Toxic"]

Stream = Literal["upstream", "downstream"]  # to the server, or from it


class Piece(NamedTuple):
    """Bytes, and the loop's time before which they do not go on."""

    data: bytes
    due: float


@dataclass(slots=True)
class Toxic:
    """As it was asked for; on each connection a copy of its own is in force, with a chance of its own.

    Times are in milliseconds (``_ms``) or microseconds (``_us``), as in Toxiproxy. Raises :class:`ValueError` for a number
    that makes no sense.
    """

    kind: ClassVar[str]
    positive: ClassVar[frozenset[str]] = frozenset()  # attributes that may not be 0
    draw: random.Random = field(default_factory=random.Random, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in self.attributes():
            value = getattr(self, name)
            least = "more than 0" if name in self.positive else "0 or more"
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{self.kind}: {name} is a number, not {value!r}")
            if value < 0 or (value == 0 and name in self.positive):
                raise ValueError(f"{self.kind}: {name} is {least}, not {value:g}")

    @classmethod
    def attributes(cls) -> tuple[str, ...]:
        return tuple(one.name for one in fields(cls) if one.init)

    def on(self, draw: random.Random) -> Self:
        """For one connection: its own counts, and its own chance."""
        copy = replace(self)
        copy.draw = draw
        return copy

    @property
    def holds(self) -> bool:
        """Whether nothing passes while it is in force."""
        return False

    @property
    def spent(self) -> bool:
        """Whether the connection is to end now."""
        return False

    @property
    def ends_after_s(self) -> float | None:
        """So long after it came into force the connection ends, whatever passes; ``None`` where it does not."""
        return None

    @property
    def resets(self) -> bool:
        """Whether the end is a reset, or an orderly close."""
        return False

    @property
    def close_after_s(self) -> float:
        """So long after one side has closed the other hears of it."""
        return 0.0

    def plan(self, pieces: list[Piece]) -> list[Piece]:
        """When what goes on, and in which pieces. It may be asked again for what was not sent meanwhile."""
        return pieces

    def sent(self, piece: Piece) -> None:
        """This one went on."""
