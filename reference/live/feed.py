"""What a board has to send: of one snapshot after the other, only what has changed.

Snapshots enter, frames leave: dictionaries of parts, each there only when it is new.

``banner``
    the verdict's tone, its sentence, its counts, and all of it as a text.
``charts``
    width, height, shapes, and the places that tell more when pointed at.
``strip``
    its ground: width, height, shapes, the distance of marks and of lanes, and their scale; the lanes follow anew.
``lanes``
    those with other marks than before: [number, left, top, gap in front, how many marks to drop at the front, how many of
    the rest to keep, and then for each further mark: the events left out before it, its look, the number of its event].
``looks``
    the shapes of each look that was not sent before.
``stories``
    by an event's number: what to call it, and [second, what happened].

Promises that frames, put together, show the last snapshot, and that a mark that did not change is not sent again. Shapes
are :mod:`~reference.live.shapes`, in lists that begin with their kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import eq, is_
from typing import Any, Final

from reference.live import banner, strip
from reference.live.glyph import Look, glyph, look
from reference.live.mark import Lane, Mark
from reference.live.plots import plots
from reference.live.scene import Panel, charted
from reference.live.shapes import Line, Rect, Shape
from reference.live.snapshot import Snapshot

__all__ = ["Feed"]

Frame = dict[str, Any]
_NO_MARKS: Final[tuple[Mark, ...]] = ()


class Feed:
    """``width`` is that of the charts and of the strip; ``rows`` the least room for lanes."""

    def __init__(self, panels: Sequence[Panel], *, width: float, rows: int) -> None:
        self._panels, self._width, self._rows = tuple(panels), width, rows
        self._looks: dict[Look, int] = {}
        self.forget()

    def forget(self) -> None:
        """The next frame tells everything; whoever has seen the frames before can go on with it as well."""
        self._banner: object = None
        self._ground: object = None
        self._lanes: dict[int, Lane] = {}
        self._told: set[int] = set()

    def frame(self, snapshot: Snapshot, *, charts: bool = True) -> Frame:
        """What is new in this snapshot; without ``charts``, they stay as they are."""
        told: Frame = {}
        if "verdict" in self._panels:
            self._tell_banner(snapshot, told)
        if charts and (chosen := charted(snapshot, self._panels)):
            block = plots(snapshot, chosen, width=self._width)
            told["charts"] = {
                "width": block.width, "height": round(block.height, 1), "shapes": _listed(block.shapes),
                "hits": block.hits, "label": f"{', '.join(chosen)} from {snapshot.span[0]:g} to {snapshot.span[1]:g} s",
            }  # fmt: skip
        if "strip" in self._panels:
            self._tell_strip(snapshot, told)
        return told

    def _tell_banner(self, snapshot: Snapshot, told: Frame) -> None:
        tone, words = banner.sentence(snapshot)
        shown = {"tone": tone, "words": words, "counts": banner.counts(snapshot), "text": str(snapshot.verdict)}
        if shown != self._banner:
            self._banner = told["banner"] = shown

    def _tell_strip(self, snapshot: Snapshot, told: Frame) -> None:
        laid = strip.Strip(snapshot, width=self._width, rows=self._rows)
        if (ground := laid.signature) != self._ground:
            self._ground = ground
            self._lanes.clear()
            told["strip"] = {
                "width": laid.width, "height": laid.height, "shapes": _listed(laid.ground()), "pitch": laid.pitch,
                "row": laid.row, "scale": laid.scale, "label": f"events by key, in commit order: {strip.how_many(snapshot)}",
            }  # fmt: skip
        lanes, stories = [], dict[str, Any]()
        for number, lane in enumerate(snapshot.lanes):
            before = self._lanes.get(number)
            if lane is not before:
                self._lanes[number] = lane
                place = laid.place(number)
                lanes.append([number, place.left, place.top, *self._difference(before, lane, stories, told)])
        if lanes:
            told |= {"lanes": lanes, "stories": stories}

    def _difference(self, before: Lane | None, lane: Lane, stories: dict[str, Any], told: Frame) -> list[Any]:
        old, old_gaps = (before.marks, before.skipped) if before else (_NO_MARKS, ())
        marks, gaps = lane.marks, lane.skipped
        first = marks[0].number if marks else -1
        drop = next((i for i, mark in enumerate(old) if mark.number == first), len(old))
        keep = _alike(is_, marks, old[drop:])
        keep = min(keep, 1 + _alike(eq, gaps[1:], old_gaps[drop + 1 :]))  # the first's own is always told
        known = set(map(id, old[drop + keep :]))
        rest: list[int] = []
        for mark, gap in zip(marks[keep:], gaps[keep:], strict=True):
            rest += (gap, self._look(mark, told), mark.number)
            if id(mark) not in known:
                stories[str(mark.number)] = (strip.title(lane, mark), mark.story)
        return [gaps[0] if gaps else 0, drop, keep, rest]

    def _look(self, mark: Mark, told: Frame) -> int:
        seen = look(mark)
        number = self._looks.setdefault(seen, len(self._looks))
        if number not in self._told:
            self._told.add(number)
            told.setdefault("looks", {})[str(number)] = _listed(glyph(seen))
        return number


def _alike(same: Callable[[Any, Any], bool], new: Sequence[Any], old: Sequence[Any]) -> int:
    """How many are the same at the front. There are thousands in a frame, and few that are not."""
    found = list(map(same, new, old))
    return len(found) if all(found) else found.index(False)


def _listed(shapes: Iterable[Shape]) -> list[list[Any]]:
    return [["rect" if isinstance(s, Rect) else "line" if isinstance(s, Line) else "text", *s] for s in shapes]
