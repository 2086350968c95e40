"""Where everything stands in the still picture: the verdict above, the charts at the left, the strip at the right; in a
narrow one, and where the strip needs the room, one below the other.

A snapshot and the names of panels enter, a :class:`Scene` of shapes leaves. Promises: equal snapshots give equal scenes;
with the panels ``verdict`` and ``strip`` alone, no time is in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from reference.live import banner
from reference.live.lanes import SLOTS
from reference.live.plots import PLOTS, Plot, plots
from reference.live.shapes import Rect, Shape, moved
from reference.live.snapshot import Snapshot
from reference.live.strip import Strip

__all__ = ["PANELS", "WIDTH", "Panel", "Scene", "compose", "known"]

Panel = Literal["verdict", "lag", "rates", "repeats", "strip"]
PANELS: Final[tuple[Panel, ...]] = get_args(Panel)
WIDTH: Final = 960.0
_EDGE: Final = 16
_BETWEEN: Final = 24
_WIDE: Final = 700


@dataclass(frozen=True, slots=True)
class Scene:
    """``title`` and ``text`` say in words what the picture shows."""

    width: float
    height: float
    shapes: tuple[Shape, ...]
    title: str
    text: str


def known(panels: Sequence[str]) -> None:
    """Raise :class:`ValueError` for a panel that does not exist."""
    if unknown := set(panels) - set(PANELS):
        raise ValueError(f"no panel {', '.join(sorted(unknown))}; there are {', '.join(PANELS)}")


def charted(snapshot: Snapshot, panels: Sequence[Panel]) -> list[Plot]:
    """The charts among the panels. Lag is left out where nobody samples it, and all of them while nothing has happened yet."""
    flowing = any(value for series in snapshot.rates for _, value in series.points)
    if not (snapshot.keys or snapshot.lag or snapshot.faults or flowing):
        return []
    return [plot for plot in PLOTS if plot in panels and (plot != "lag" or snapshot.lag)]


def compose(snapshot: Snapshot, panels: Sequence[Panel] = PANELS, *, width: float = WIDTH) -> Scene:
    """Raises :class:`ValueError` for a panel that does not exist."""
    known(panels)
    drawing = _Drawing(snapshot, panels, width)
    shapes = (Rect(0, 0, width, drawing.height, "paper"), *drawing.shapes)
    return Scene(width, drawing.height, shapes, banner.sentence(snapshot)[1], str(snapshot.verdict))


class _Drawing:
    def __init__(self, snapshot: Snapshot, panels: Sequence[Panel], width: float) -> None:
        self._snapshot, self._edge = snapshot, _EDGE if width > _WIDE else 8
        inner, top = width - 2 * self._edge, 8.0
        self.shapes: list[Shape] = []
        if "verdict" in panels:
            self.shapes += banner.banner(snapshot, self._edge, top, width=inner)
            top += banner.height(snapshot, width=inner)
        chosen = charted(snapshot, panels)
        longest = max((len(lane.marks) for lane in snapshot.lanes), default=0)
        beside = bool(chosen) and "strip" in panels and width > _WIDE and longest <= SLOTS
        column = (inner - _BETWEEN) / 2 if beside else inner
        bottoms = [top + 8]
        if chosen:
            bottoms.append(self._charts(top + 14, column, chosen))
        if "strip" in panels:
            x, y = (self._edge + column + _BETWEEN, top) if beside else (self._edge, bottoms[-1] if chosen else top)
            bottoms.append(self._strip(x, y + 14, column))
        self.height = round(max(bottoms), 1)

    def _charts(self, y: float, width: float, chosen: Sequence[Plot]) -> float:
        block = plots(self._snapshot, chosen, width=width)
        self.shapes += self._moved(block.shapes, self._edge, y)
        return y + block.height

    def _strip(self, x: float, y: float, width: float) -> float:
        strip = Strip(self._snapshot, width=width)
        self.shapes += self._moved(strip.shapes(), x, y)
        return y + strip.height

    @staticmethod
    def _moved(shapes: Sequence[Shape] | Iterator[Shape], x: float, y: float) -> Iterator[Shape]:
        return (moved(shape, x, y) for shape in shapes)
