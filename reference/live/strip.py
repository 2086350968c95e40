"""The strip: one lane a key, one mark an event, in commit order. A snapshot enters, shapes leave; no times in them.

What an event's own times were is in its story, which the board shows and the picture leaves out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from reference.live.glyph import glyph, look
from reference.live.lanes import GAP
from reference.live.mark import Lane, Mark, State
from reference.live.shapes import Shape, label, moved, scaled, text_width
from reference.live.snapshot import Snapshot

__all__ = ["FULL", "Strip", "how_many", "title"]

FULL: Final = 15.5  # from one mark to the next, in full size
_PITCHES: Final = (FULL, 12.0, 10.0, 8.0, 6.0, 5.0, 4.0)  # few, so that not every event changes all places
ROW: Final = 24
_LEAST: Final = 12  # a row holds a line of text, however small its marks
_STEP: Final = 3  # rows
_NAME: Final = 71  # at most, for a key
_HEAD: Final = 34
_LEGEND: Final = (
    ("committed", State.COMMITTED, 0),
    ("delivered", State.DELIVERED, 1),
    ("applied", State.APPLIED, 1),
    ("duplicate", State.APPLIED, 2),
    ("lost", State.LOST, 0),
    ("out of order", State.OUT_OF_ORDER, 1),
    ("applied twice", State.APPLIED_TWICE, 1),
    ("unexpected", State.UNEXPECTED, 1),
)
_ALONE: Final = 22  # the height of a title without lanes
_SET_ASIDE: Final = (("parked", State.PARKED, 1), ("dead letter", State.DEAD, 1))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a lane begins: ``left`` that of its first mark."""

    name_x: float
    left: float
    top: float


class Strip:
    """A snapshot's lanes, laid out in ``width``.

    Marks are in full size as long as the longest lane has room, and smaller when it has not. A board has ``rows``: it grows
    up to so many in steps, so that it does not move with every key that appears. Without any lane there is one line.
    """

    def __init__(self, snapshot: Snapshot, *, width: float, rows: int = 0) -> None:
        self._snapshot, self.width = snapshot, width
        longest = max((lane.slots for lane in snapshot.lanes), default=1)
        self._name, self._entries = _name(snapshot), _entries(snapshot)
        self.pitch = next((pitch for pitch in _PITCHES if longest * pitch <= width - self._name), _PITCHES[-1])
        self.scale = round(self.pitch / FULL, 3)
        self.row = round(max(_LEAST, ROW * self.scale), 1)
        self._columns = max(1, int((width + 14) // (self._name + longest * self.pitch + 14)))
        self._column = (width + 14) / self._columns
        self._bottom = _HEAD + _room(-(-len(snapshot.lanes) // self._columns), self.row, most=ROW * rows)
        in_a_row = (8, 4, 3) if not rows else (4, 3, 3)  # a page may show a board smaller than this, but not its texts
        self._legend = in_a_row[0 if width > 700 else 1 if width > 400 else 2]
        self.height = self._bottom + 20 * -(-len(self._entries) // self._legend) + 8 if snapshot.lanes else _ALONE

    @property
    def signature(self) -> tuple[object, ...]:
        """What everything but the marks hangs on."""
        keys = tuple(lane.key for lane in self._snapshot.lanes)
        return keys, self._snapshot.keys, self.pitch, self._columns, self.height, self._entries

    def place(self, number: int) -> Place:
        """That of a lane."""
        x = round(self._column * (number % self._columns), 1)
        return Place(x, round(x + self._name, 1), round(_HEAD + self.row * (number // self._columns), 1))

    def ground(self) -> Iterator[Shape]:
        """Everything but the marks, from the origin on."""
        yield label(0, 12, "Events by key, in commit order", bold=True, size=13)
        if self.width > 400 or not self._snapshot.lanes:
            yield label(self.width, 12, how_many(self._snapshot), fill="soft", size=11, anchor="end")
        if not self._snapshot.lanes:
            return
        size = max(10.0, 11 * min(1.0, self.row / 14))
        for number, lane in enumerate(self._snapshot.lanes):
            place = self.place(number)
            yield label(place.name_x, round(place.top + 10 * self.scale, 1), _short(lane.key), fill="soft", size=size)
        for i, (name, state, deliveries) in enumerate(self._entries):
            left = round(self.width / self._legend * (i % self._legend), 1)
            top = self._bottom + 6 + 20 * (i // self._legend)
            yield from (moved(shape, left, top) for shape in glyph((state, deliveries, 0)))
            yield label(left + 18, top + 10, name, fill="soft", size=11)

    def shapes(self) -> Iterator[Shape]:
        """Everything, from the origin on."""
        yield from self.ground()
        for number, lane in enumerate(self._snapshot.lanes):
            place = self.place(number)
            at = place.left
            for mark, skipped in zip(lane.marks, lane.skipped, strict=True):
                if skipped:
                    at += GAP * self.pitch
                    yield self._gap(skipped, at, place.top)
                yield from (moved(scaled(shape, self.scale), round(at, 1), place.top) for shape in glyph(look(mark)))
                at += self.pitch

    def _gap(self, skipped: int, at: float, top: float) -> Shape:
        return label(
            round(at - 4 * self.scale, 1), round(top + 9.5 * self.scale, 1), f"+{skipped}", fill="soft",
            size=round(max(6.0, 9 * self.scale), 1), anchor="end",
        )  # fmt: skip


def title(lane: Lane, mark: Mark) -> str:
    """What a mark is called when it is pointed at."""
    number = f" #{mark.seq}" if mark.seq is not None else ""
    return f"{lane.key}{number} · {mark.state.value}"


def how_many(snapshot: Snapshot) -> str:
    """Which keys are shown."""
    shown = len(snapshot.lanes)
    if not shown:
        return "nothing yet"
    if shown < snapshot.keys:
        return f"{shown} of {snapshot.keys:,} keys, trouble first"
    return "1 key" if shown == 1 else f"{shown} keys"


def _room(rows: int, row: float, *, most: float) -> float:
    """Of a board, which grows in steps, up to ``most``; of a picture, which has no such room, as much as its rows take."""
    return max(row * rows, min(most, row * _STEP * -(-rows // _STEP)))


def _short(key: str) -> str:
    """The end of a key tells more than its beginning."""
    return (key if len(key) <= 10 else f"…{key[-9:]}") or "no key"


def _entries(snapshot: Snapshot) -> tuple[tuple[str, State, int], ...]:
    """Of the legend; what was set aside only where there is any."""
    states = frozenset[State]().union(*(lane.aside for lane in snapshot.lanes))
    return (*_LEGEND, *(entry for entry in _SET_ASIDE if entry[1] in states))


def _name(snapshot: Snapshot) -> float:
    longest = max((len(_short(lane.key)) for lane in snapshot.lanes), default=0)
    return min(_NAME, round(text_width("x" * longest, 11) + 10, 1))
