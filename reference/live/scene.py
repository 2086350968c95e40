"""Where everything stands: the one layout that the picture and the board share.

A snapshot and the names of panels enter, a :class:`Scene` of shapes leaves, and with it the places that tell more when
pointed at. Promises: equal snapshots give equal scenes; with the panels ``verdict`` and ``strip`` alone, no time is in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from reference.live import banner, charts, faults, strip
from reference.live.shapes import Hit, Rect, Shape
from reference.live.snapshot import Snapshot

__all__ = ["PANELS", "Panel", "Scene", "compose"]

Panel = Literal["verdict", "lag", "rates", "strip"]
PANELS: tuple[Panel, ...] = get_args(Panel)
WIDTH = 960
_EDGE = 16
_HALF = 452


@dataclass(frozen=True, slots=True)
class Scene:
    """``title`` and ``text`` say in words what the picture shows."""

    width: float
    height: float
    shapes: tuple[Shape, ...]
    hits: tuple[Hit, ...]
    title: str
    text: str


def compose(snapshot: Snapshot, panels: Sequence[Panel] = PANELS, *, rows: int = 0, hits: bool = False) -> Scene:
    """Raises :class:`ValueError` for a panel that does not exist. Lag is left out where nobody samples it.

    ``rows`` is the least room for lanes, so that a board does not grow while keys appear; ``hits`` asks for those too.
    """
    unknown = set(panels) - set(PANELS)
    if unknown:
        raise ValueError(f"no panel {', '.join(sorted(unknown))}; there are {', '.join(PANELS)}")
    drawing = _Drawing(snapshot, [p for p in panels if p != "lag" or snapshot.lag], rows, hits=hits)
    shapes = (Rect(0, 0, WIDTH, drawing.height, "paper"), *drawing.shapes)
    return Scene(WIDTH, drawing.height, shapes, tuple(drawing.hits), banner.sentence(snapshot)[1], str(snapshot.verdict))


class _Drawing:
    """Panels one after the other: the verdict above, the charts at the left, the strip at the right."""

    def __init__(self, snapshot: Snapshot, panels: Sequence[Panel], rows: int, *, hits: bool) -> None:
        self.shapes: list[Shape] = []
        self.hits: list[Hit] = []
        self._snapshot, self._rows, self._pointed = snapshot, rows, hits
        top = 8.0
        if "verdict" in panels:
            self.shapes += banner.banner(snapshot, _EDGE, top, width=WIDTH - 2 * _EDGE)
            top += banner.HEIGHT
        plots: list[Panel] = [panel for panel in panels if panel in ("lag", "rates")]
        both = bool(plots) and "strip" in panels
        bottoms = [top + 8]
        if "strip" in panels:
            bottoms.append(self._strip(top + 14, both))
        if plots:
            bottoms.append(self._charts(top + 14, _HALF if both else WIDTH - 2 * _EDGE, plots))
        self.height = round(max(bottoms), 1)

    def _strip(self, y: float, beside: bool) -> float:
        x, width = (WIDTH - _EDGE - _HALF, _HALF) if beside else (_EDGE, WIDTH - 2 * _EDGE)
        self.shapes += strip.strip(self._snapshot, x, y, width=width, rows=self._rows)
        if self._pointed:
            self.hits += strip.hits(self._snapshot, x, y, width=width)
        return y + strip.height(self._snapshot, width=width, rows=self._rows)

    def _charts(self, y: float, width: float, plots: Sequence[Panel]) -> float:
        frames = list(self._frames(y, width, plots))
        for panel, (title_y, frame) in zip(plots, frames, strict=True):
            self.shapes += (charts.lag if panel == "lag" else charts.rates)(self._snapshot, frame, title_y=title_y)
            if self._pointed:
                self.hits += faults.hits(self._snapshot, frame)
        first, last = frames[0][1], frames[-1][1]
        self.shapes += faults.names(self._snapshot, first, rows=(first.y - 18, first.y - 5))
        self.shapes += charts.seconds(last)
        return last.bottom + 24

    def _frames(self, y: float, width: float, plots: Sequence[Panel]) -> Iterator[tuple[float, charts.Frame]]:
        tall = 118 if len(plots) > 1 else 250
        for i, panel in enumerate(plots):
            yield y + 12, charts.Frame(_EDGE, y + (48 if i == 0 else 24), width, tall, self._snapshot.span)
            y += (48 if i == 0 else 24) + tall + (34 if panel == "lag" else 30)
