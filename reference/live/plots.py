"""The charts one below the other, over one time axis. A snapshot and the names of charts enter, a block of shapes leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from reference.live import charts, faults
from reference.live.shapes import Hit, Shape
from reference.live.snapshot import Snapshot

__all__ = ["PLOTS", "Block", "Plot", "plots"]

Plot = Literal["lag", "rates", "repeats"]
PLOTS: Final[tuple[Plot, ...]] = get_args(Plot)
_DRAWN: Final[dict[Plot, Callable[..., Iterator[Shape]]]] = {
    "lag": charts.lag, "rates": charts.rates, "repeats": charts.repeats,
}  # fmt: skip
_TALL: Final = {1: 250, 2: 118, 3: 84}
_ABOVE: Final = 24  # from a chart's top to its plot
_FAULTS: Final = 24  # above the first stand the names of the faults
_NAMES: Final = 15  # and above others, where there is no room beside the title, the names of the lines
_BELOW: Final = {"lag": 34, "rates": 30, "repeats": 30}  # below the lag stand the names of its lines


@dataclass(frozen=True, slots=True)
class Block:
    """Shapes from the origin on, and the places that tell more when pointed at."""

    width: float
    height: float
    shapes: tuple[Shape, ...]
    hits: tuple[Hit, ...]


def plots(snapshot: Snapshot, chosen: Sequence[Plot], *, width: float) -> Block:
    """One or more of :data:`PLOTS`, in that order."""
    frames = list(_frames(snapshot, chosen, width))
    shapes: list[Shape] = []
    hits: list[Hit] = []
    for plot, (title_y, frame) in zip(chosen, frames, strict=True):
        shapes += _DRAWN[plot](snapshot, frame, title_y=title_y)
        hits += faults.hits(snapshot, frame)
    first, last = frames[0][1], frames[-1][1]
    shapes += faults.names(snapshot, first, rows=(first.y - 18, first.y - 5))
    axis = last if chosen[-1] != "lag" else charts.Frame(last.x, last.y, last.width, last.height + 18, last.span)
    shapes += charts.seconds(axis)
    return Block(width, axis.bottom + 24, tuple(shapes), tuple(hits))


def _frames(snapshot: Snapshot, chosen: Sequence[Plot], width: float) -> Iterator[tuple[float, charts.Frame]]:
    y = 0.0
    for i, plot in enumerate(chosen):
        frame = charts.Frame(0, y + _ABOVE, width, _TALL[len(chosen)], snapshot.span)
        down = (0 if i else _FAULTS) + (0 if frame.roomy or plot == "lag" else _NAMES)
        frame = replace(frame, y=frame.y + down)
        yield y + 12, frame
        y = frame.bottom + _BELOW[plot]
