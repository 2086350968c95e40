"""The board as a still picture: a snapshot, or several side by side, enter, one self-contained SVG leaves.

Promises: the same snapshot gives the same text, letter by letter, so that nbval may compare it; no script, no style
sheet, no font and no identifier in it, so that GitHub, nbconvert and JupyterLab show the same and two pictures on a page
do not disturb each other; a ground of its own, so that a dark page does not swallow it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from reference.live.palette import LIGHT
from reference.live.scene import PANELS, WIDTH, Panel, Scene, compose
from reference.live.shapes import Line, Rect, Run, Shape, Text, label, moved
from reference.live.snapshot import Snapshot

__all__ = ["Picture", "SideBySide", "svg"]

_HEAD = 24
_FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"


def svg(snapshot: Snapshot, panels: Sequence[Panel] = PANELS) -> str:
    """The picture, 960 units wide. With ``verdict`` and ``strip`` alone it depends on counts and order, and on no time."""
    return _written(compose(snapshot, panels))


def _written(scene: Scene) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {scene.width:g} {scene.height:g}" width="100%" role="img"'
        f' style="max-width:{scene.width:g}px" font-family={quoteattr(_FONT)}>'
        f"<title>{escape(scene.title)}</title><desc>{escape(scene.text)}</desc>"
    )
    return "\n".join([head, *(_draw(shape) for shape in scene.shapes), "</svg>"])


class Picture:
    """A picture that a notebook shows as SVG, and whose plain text is the verdict. ``data`` is what it shows."""

    def __init__(self, data: Snapshot, panels: Sequence[Panel] = PANELS) -> None:
        self.data = data
        self.svg = svg(data, panels)

    def __repr__(self) -> str:
        return str(self.data.verdict)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"image/svg+xml": self.svg, "text/plain": repr(self)}


class SideBySide:
    """Several snapshots in one picture, each with its name above it and the same panels."""

    def __init__(self, data: Mapping[str, Snapshot], panels: Sequence[Panel] = PANELS) -> None:
        self.data = dict(data)
        scenes = {name: compose(one, panels, width=WIDTH / len(self.data)) for name, one in self.data.items()}
        self.svg = _written(_beside(scenes))

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {one.verdict}" for name, one in self.data.items())

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"image/svg+xml": self.svg, "text/plain": repr(self)}


def _beside(scenes: Mapping[str, Scene]) -> Scene:
    height = max(scene.height for scene in scenes.values()) + _HEAD
    shapes: list[Shape] = [Rect(0, 0, WIDTH, height, "paper")]
    for i, (name, scene) in enumerate(scenes.items()):
        x = i * scene.width
        shapes.append(label(x + 8, 18, name, bold=True, size=14))
        shapes += (moved(shape, x, _HEAD) for shape in scene.shapes[1:])  # the ground is there already
    words = [f"{name}: {scene.title}" for name, scene in scenes.items()]
    texts = [f"{name}: {scene.text}" for name, scene in scenes.items()]
    return Scene(WIDTH, height, tuple(shapes), "; ".join(words), "; ".join(texts))


def _draw(shape: Shape) -> str:
    if isinstance(shape, Rect):
        return _rect(shape)
    return _line(shape) if isinstance(shape, Line) else _text(shape)


def _rect(rect: Rect) -> str:
    at = f'x="{rect.x:g}" y="{rect.y:g}" width="{rect.w:g}" height="{rect.h:g}"'
    radius = f' rx="{rect.radius:g}"' if rect.radius else ""
    return f"<rect {at}{radius}{_paint(rect.fill, rect.stroke, rect.width, rect.dash)}/>"


def _line(line: Line) -> str:
    pairs = zip(line.points[::2], line.points[1::2], strict=True)
    points = " ".join(f"{x:g},{y:g}" for x, y in pairs)
    tag = "polygon" if line.fill else "polyline"
    return f'<{tag} points="{points}"{_paint(line.fill, line.stroke, line.width, line.dash)}/>'


def _text(text: Text) -> str:
    anchor = "" if text.anchor == "start" else f' text-anchor="{text.anchor}"'
    head = f'<text x="{text.x:g}" y="{text.y:g}" font-size="{text.size:g}"{anchor} xml:space="preserve"'
    if len(text.runs) == 1:
        return f"{head}{_ink(text.runs[0])}>{escape(text.runs[0].words)}</text>"
    return f"{head}>{''.join(f'<tspan{_ink(run)}>{escape(run.words)}</tspan>' for run in text.runs)}</text>"


def _ink(run: Run) -> str:
    return f' fill="{LIGHT[run.fill]}"' + (' font-weight="700"' if run.bold else "")


def _paint(fill: str, stroke: str, width: float, dash: float) -> str:
    return "".join(_attributes(fill, stroke, width, dash))


def _attributes(fill: str, stroke: str, width: float, dash: float) -> Iterator[str]:
    yield f' fill="{LIGHT[fill] if fill else "none"}"'
    if stroke:
        yield f' stroke="{LIGHT[stroke]}"' + (f' stroke-width="{width:g}"' if width != 1 else "")
    if dash:
        yield f' stroke-dasharray="{dash:g}"'
