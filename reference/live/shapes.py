"""The three shapes a picture is made of. Colours are parts in :mod:`reference.live.palette`, lengths are in units of
which the picture is 960 wide. Two painters know them: :mod:`reference.live.picture` and ``board.js``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Self

__all__ = ["Hit", "Line", "Rect", "Run", "Shape", "Text", "label", "line", "moved", "scaled", "text_width"]


class Rect(NamedTuple):
    """``dash`` is the length of dashes and gaps, 0 for none; no colour is an empty string."""

    x: float
    y: float
    w: float
    h: float
    fill: str = ""
    stroke: str = ""
    width: float = 1.0
    radius: float = 0.0
    dash: float = 0.0


class Line(NamedTuple):
    """Through ``points`` x, y, x, y …; with a ``fill`` it is closed."""

    points: tuple[float, ...]
    stroke: str = ""
    width: float = 1.0
    dash: float = 0.0
    fill: str = ""


class Run(NamedTuple):
    """Words in one colour."""

    words: str
    fill: str = "ink"
    bold: bool = False


class Text(NamedTuple):
    """``runs`` follow each other; ``y`` is the base line; ``anchor`` says which end ``x`` is."""

    x: float
    y: float
    runs: tuple[Run, ...]
    size: float = 12.0
    anchor: Literal["start", "middle", "end"] = "start"

    def plus(self, words: str, fill: str = "ink", *, bold: bool = False) -> Self:
        return self._replace(runs=(*self.runs, Run(words, fill, bold)))


Shape = Rect | Line | Text


class Hit(NamedTuple):
    """A place that tells more when pointed at."""

    x: float
    y: float
    w: float
    h: float
    title: str
    story: tuple[tuple[float, str], ...]


def label(
    x: float,
    y: float,
    words: str,
    *,
    fill: str = "ink",
    bold: bool = False,
    size: float = 12.0,
    anchor: Literal["start", "middle", "end"] = "start",
) -> Text:
    return Text(x, y, (Run(words, fill, bold),), size, anchor)


def line(points: Sequence[tuple[float, float]], stroke: str, *, width: float = 1.0, dash: float = 0.0) -> Line:
    return Line(tuple(round(v, 1) for point in points for v in point), stroke, width, dash)


def scaled(shape: Shape, by: float) -> Shape:
    """The same, so many times as large, about the origin."""
    if isinstance(shape, Line):
        return shape._replace(points=tuple(round(v * by, 1) for v in shape.points), width=round(shape.width * by, 2))
    x, y = round(shape.x * by, 1), round(shape.y * by, 1)
    if isinstance(shape, Text):
        return shape._replace(x=x, y=y, size=round(shape.size * by, 1))
    return shape._replace(
        x=x, y=y, w=round(shape.w * by, 1), h=round(shape.h * by, 1), width=round(shape.width * by, 2),
        radius=round(shape.radius * by, 1), dash=round(shape.dash * by, 1),
    )  # fmt: skip


def moved(shape: Shape, x: float, y: float) -> Shape:
    """The same at another place."""
    if isinstance(shape, Line):
        by = (x, y)
        return shape._replace(points=tuple(round(v + by[i % 2], 1) for i, v in enumerate(shape.points)))
    return shape._replace(x=round(shape.x + x, 1), y=round(shape.y + y, 1))


def text_width(words: str, size: float) -> float:
    """A generous guess, since nobody knows the reader's font."""
    return len(words) * size * 0.58
