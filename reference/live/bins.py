"""Values over time, gathered into as many bins as a line has room for.

Values enter by grain of time, points leave. Promises bounded memory, and that what is asked again while nothing but the
last bin has changed costs next to nothing: a board asks many times a second.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Final

__all__ = ["GRAIN_S", "Bins", "largest", "step", "total"]

GRAIN_S: Final = 0.05
_STEPS: Final = (2, 4, 10, 20, 40, 100, 200, 400, 1200, 2400, 6000, 12000)  # in grains: 0.1 s, 0.2 s, 0.5 s … ten minutes
Points = tuple[tuple[float, float], ...]
Span = tuple[float, float]


def largest(known: float, value: float) -> float:
    return max(known, value)


def total(known: float, value: float) -> float:
    return known + value


def step(span: Span, *, bins: int) -> int:
    """Grains a bin: the least that needs no more than ``bins``."""
    grains = (span[1] - span[0]) / GRAIN_S
    return next((step for step in _STEPS if grains / step <= bins), _STEPS[-1])


class Bins:
    """``gather`` makes one value of two in the same bin; ``kept`` grains, and at most as many again, are remembered."""

    def __init__(self, gather: Callable[[float, float], float], *, kept: int) -> None:
        self._gather, self._kept = gather, kept
        self._grains: dict[int, float] = {}
        self._newest = 0
        self._before: float | None = None  # the value of the newest grain that was dropped
        self._step = 0
        self._places: list[int] = []  # of the bins of that step that have a value, ascending, and
        self._points: list[tuple[float, float]] = []  # each of them at its middle

    def __len__(self) -> int:
        return len(self._grains)

    def add(self, grain: int, value: float) -> None:
        known = self._grains.get(grain)
        self._grains[grain] = value if known is None else self._gather(known, value)
        if self._step:
            self._put(grain // self._step, value)
        self._newest = max(self._newest, grain)
        if len(self._grains) > 2 * self._kept:  # only when half of them can go, so that it costs nothing on average
            self._forget()

    def points(self, span: Span, *, bins: int) -> Points:
        """Each bin that has a value, at its middle."""
        found = self._within(span, step(span, bins=bins))
        if found:  # the bins at both ends reach over the span
            found[0] = (max(found[0][0], span[0]), found[0][1])
            found[-1] = (min(found[-1][0], span[1]), found[-1][1])
        return tuple(found)

    def per_second(self, span: Span, *, bins: int, filling: bool) -> Points:
        """Every bin, also the empty ones; the last, which is still ``filling``, only when asked for."""
        wide = step(span, bins=bins)
        low, high = _between(span, wide)
        high -= 0 if filling or high == low else 1
        seconds, counts = wide * GRAIN_S, dict(self._within(span, wide))
        middles = [_middle(place, wide) for place in range(low, high + 1)]
        return tuple([(at, counts.get(at, 0.0) / seconds) for at in middles])

    def staircase(self, span: Span, *, bins: int) -> Points:
        """A value that holds until the next: a step where it changes, from zero on, to the end of the span."""
        stairs = self.points(span, bins=bins)
        earlier = bisect_left(self._places, _between(span, self._step)[0])
        points = [(span[0], self._points[earlier - 1][1] if earlier else self._before or 0.0)]
        for at, value in stairs:
            points += [(at, points[-1][1]), (at, value)]
        return (*points, (span[1], points[-1][1]))

    def _within(self, span: Span, wide: int) -> list[tuple[float, float]]:
        if wide != self._step:
            self._step, self._places, self._points = wide, [], []
            for grain, value in self._grains.items():
                self._put(grain // wide, value)
        low, high = _between(span, wide)
        return self._points[bisect_left(self._places, low) : bisect_right(self._places, high)]

    def _put(self, place: int, value: float) -> None:
        """Nearly always into the last bin, or behind it."""
        places, points = self._places, self._points
        at = len(places) - 1 if places and places[-1] == place else bisect_left(places, place)
        if at < len(places) and places[at] == place:
            points[at] = (points[at][0], self._gather(points[at][1], value))
        else:
            places.insert(at, place)
            points.insert(at, (_middle(place, self._step), value))

    def _forget(self) -> None:
        oldest = self._newest - self._kept
        old = [grain for grain in self._grains if grain < oldest]
        self._before = self._grains[max(old)]
        for grain in old:
            del self._grains[grain]
        self._step = 0


def _middle(place: int, wide: int) -> float:
    return (place + 0.5) * wide * GRAIN_S


def _between(span: Span, wide: int) -> tuple[int, int]:
    return int(span[0] / GRAIN_S // wide), int(span[1] / GRAIN_S // wide)
