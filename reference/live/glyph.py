"""How one event looks: a mark enters, shapes leave, at the origin and in full size. Every state differs in shape or letter,
not only in colour.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from reference.live.mark import Mark, State
from reference.live.shapes import Line, Rect, Shape, label

__all__ = ["SIZE", "Look", "glyph", "look"]

SIZE: Final = 12
Look = tuple[State, int, int]  # a state, how often it was delivered, and how often applied, as far as that is told


def look(mark: Mark) -> Look:
    """What of a mark is seen: equal looks are the same shapes."""
    return mark.state, min(mark.deliveries, 10), min(mark.applications, 9)


@lru_cache(maxsize=512)
def glyph(seen: Look) -> tuple[Shape, ...]:
    return tuple(_shapes(*seen))


def _shapes(state: State, deliveries: int, applications: int) -> Iterator[Shape]:
    repeated, digit = deliveries > 1, str(deliveries) if deliveries < 10 else "+"
    if state is State.APPLIED_TWICE:
        yield Rect(-1, -1, SIZE + 2, SIZE + 2, "bad", "", 0.0, 2)
        yield label(6, 9, f"{max(applications, 2)}×", fill="onmark", bold=True, size=8.5, anchor="middle")
    elif state is State.OUT_OF_ORDER:
        yield Line((-0.5, 12, 6, 0, 12.5, 12), fill="bad")
        if repeated:
            yield label(6, 11, digit, fill="onmark", bold=True, size=7, anchor="middle")
    elif state is State.LOST:
        yield Rect(0.8, 0.8, SIZE - 1.6, SIZE - 1.6, "paper", "bad", 1.6, 3, 2.4)
    elif state is State.UNEXPECTED:
        yield Rect(0.6, 0.6, SIZE - 1.2, SIZE - 1.2, "bad-wash", "bad", 1.0, 6)
        yield label(6, 9.3, "?", fill="bad-ink", bold=True, size=9, anchor="middle")
    elif state is State.PARKED:
        yield Rect(0.8, 0.8, SIZE - 1.6, SIZE - 1.6, "paper", "parked", 1.6, 3)
        yield label(6, 9.2, "P", fill="parked", bold=True, size=8.5, anchor="middle")
    elif state is State.DEAD:
        yield Rect(0, 0, SIZE, SIZE, "dead", "", 0.0, 3)
        yield Line((3.5, 3.5, 8.5, 8.5), "onmark", 1.6)
        yield Line((8.5, 3.5, 3.5, 8.5), "onmark", 1.6)
    elif state is State.COMMITTED:
        yield Rect(0.7, 0.7, SIZE - 1.4, SIZE - 1.4, "paper", "committed", 1.4, 3)
    elif repeated:
        yield Rect(0.2, 0.2, SIZE - 0.4, SIZE - 0.4, state.value, "warn", 2.4, 3)
        yield label(6, 9.3, digit, fill=f"on-{state.value}", bold=True, size=9, anchor="middle")
    else:
        yield Rect(0, 0, SIZE, SIZE, state.value, "", 0.0, 3)
