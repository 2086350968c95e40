"""The strip: one lane a key, one mark an event, in commit order. A snapshot enters, shapes leave; no times in them.

What an event's own times were is in the hits, which the board shows and the picture leaves out.
"""

from __future__ import annotations

from collections.abc import Iterator

from reference.live.lanes import GAP
from reference.live.mark import Lane, Mark, State
from reference.live.shapes import Hit, Line, Rect, Shape, label, text_width
from reference.live.snapshot import Snapshot

__all__ = ["glyph", "height", "hits", "strip"]

SIZE = 12
PITCH = 15.5
ROW = 24
_NAME = 71  # at most, for a key
_HEAD = 34
_LEGEND = (
    ("committed", State.COMMITTED, 0),
    ("delivered", State.DELIVERED, 1),
    ("applied", State.APPLIED, 1),
    ("redelivered", State.APPLIED, 2),
    ("lost", State.LOST, 0),
    ("out of order", State.OUT_OF_ORDER, 1),
    ("applied twice", State.APPLIED_TWICE, 1),
    ("never committed", State.UNEXPECTED, 1),
)
_SET_ASIDE = (("parked", State.PARKED, 1), ("dead letter", State.DEAD, 1))


def height(snapshot: Snapshot, *, width: float, rows: int = 0) -> float:
    return _HEAD + ROW * max(_grid(snapshot, width)[1], rows) + 20 * _legend_rows(snapshot, width) + 8


def strip(snapshot: Snapshot, x: float, y: float, *, width: float, rows: int = 0) -> Iterator[Shape]:
    """``rows`` is the least room for lanes, so that a board does not grow while keys appear."""
    yield label(x, y + 12, "Events by key, in commit order", bold=True, size=13)
    yield label(x + width, y + 12, _how_many(snapshot), fill="soft", size=11, anchor="end")
    for lane, left, top in _places(snapshot, x, y, width):
        yield label(left, top + 10, _short(lane.key), fill="soft", size=11)
        for mark, skipped, at in _marks(lane, left, _name(snapshot)):
            if skipped:
                yield label(at - 4, top + 9.5, f"+{skipped}", fill="soft", size=9, anchor="end")
            yield from glyph(mark, at, top)
    bottom = y + _HEAD + ROW * max(_grid(snapshot, width)[1], rows) + 6
    yield from _legend(snapshot, x, bottom, width)


def hits(snapshot: Snapshot, x: float, y: float, *, width: float) -> Iterator[Hit]:
    """What each mark tells when pointed at: its key and number, its state, its story."""
    for lane, left, top in _places(snapshot, x, y, width):
        for mark, _, at in _marks(lane, left, _name(snapshot)):
            number = f" #{mark.seq}" if mark.seq is not None else ""
            yield Hit(at - 2, top - 6, PITCH, ROW, f"{lane.key}{number} · {mark.state.value}", mark.story)


def glyph(mark: Mark, x: float, y: float) -> Iterator[Shape]:
    """One event. Every state differs in shape or letter, not only in colour."""
    state, repeated = mark.state, mark.deliveries > 1
    if state is State.APPLIED_TWICE:
        yield Rect(x - 1, y - 1, SIZE + 2, SIZE + 2, "bad", "", 0.0, 2)
        yield label(x + 6, y + 9, f"{min(mark.applications, 9)}×" if mark.applications > 1 else "2×", fill="onmark", bold=True,
                    size=8.5, anchor="middle")  # fmt: skip
    elif state is State.OUT_OF_ORDER:
        yield Line((x - 0.5, y + 12, x + 6, y, x + 12.5, y + 12), fill="bad")
        if repeated:
            yield label(x + 6, y + 11, _digit(mark), fill="onmark", bold=True, size=7, anchor="middle")
    elif state is State.LOST:
        yield Rect(x + 0.8, y + 0.8, SIZE - 1.6, SIZE - 1.6, "paper", "bad", 1.6, 3, 2.4)
    elif state is State.UNEXPECTED:
        yield Rect(x + 0.6, y + 0.6, SIZE - 1.2, SIZE - 1.2, "bad-wash", "bad", 1.0, 6)
        yield label(x + 6, y + 9.3, "?", fill="bad-ink", bold=True, size=9, anchor="middle")
    elif state is State.PARKED:
        yield Rect(x + 0.8, y + 0.8, SIZE - 1.6, SIZE - 1.6, "paper", "parked", 1.6, 3)
        yield label(x + 6, y + 9.2, "P", fill="parked", bold=True, size=8.5, anchor="middle")
    elif state is State.DEAD:
        yield Rect(x, y, SIZE, SIZE, "dead", "", 0.0, 3)
        yield Line((x + 3.5, y + 3.5, x + 8.5, y + 8.5), "onmark", 1.6)
        yield Line((x + 8.5, y + 3.5, x + 3.5, y + 8.5), "onmark", 1.6)
    elif state is State.COMMITTED:
        yield Rect(x + 0.7, y + 0.7, SIZE - 1.4, SIZE - 1.4, "paper", "committed", 1.4, 3)
    elif repeated:
        yield Rect(x + 0.2, y + 0.2, SIZE - 0.4, SIZE - 0.4, state.value, "warn", 2.4, 3)
        yield label(x + 6, y + 9.3, _digit(mark), fill=f"on-{state.value}", bold=True, size=9, anchor="middle")
    else:
        yield Rect(x, y, SIZE, SIZE, state.value, "", 0.0, 3)


def _digit(mark: Mark) -> str:
    return str(mark.deliveries) if mark.deliveries < 10 else "+"


def _how_many(snapshot: Snapshot) -> str:
    shown = len(snapshot.lanes)
    if shown < snapshot.keys:
        return f"{shown} of {snapshot.keys:,} keys, trouble first"
    return "1 key" if shown == 1 else f"{shown} keys"


def _short(key: str) -> str:
    """The end of a key tells more than its beginning."""
    return (key if len(key) <= 10 else f"…{key[-9:]}") or "no key"


def _name(snapshot: Snapshot) -> float:
    longest = max((len(_short(lane.key)) for lane in snapshot.lanes), default=0)
    return min(_NAME, round(text_width("x" * longest, 11) + 10, 1))


def _slots(lane: Lane) -> int:
    return len(lane.marks) + GAP * sum(1 for skipped in lane.skipped if skipped)


def _grid(snapshot: Snapshot, width: float) -> tuple[int, int, float]:
    """Columns, rows and the width of a column: short lanes stand beside each other."""
    longest = max((_slots(lane) for lane in snapshot.lanes), default=1)
    columns = max(1, int((width + 14) // (_name(snapshot) + longest * PITCH + 14)))
    return columns, -(-len(snapshot.lanes) // columns), (width + 14) / columns


def _places(snapshot: Snapshot, x: float, y: float, width: float) -> Iterator[tuple[Lane, float, float]]:
    columns, _, column = _grid(snapshot, width)
    for i, lane in enumerate(snapshot.lanes):
        yield lane, round(x + column * (i % columns), 1), y + _HEAD + ROW * (i // columns)


def _marks(lane: Lane, left: float, name: float) -> Iterator[tuple[Mark, int, float]]:
    at = left + name
    for mark, skipped in zip(lane.marks, lane.skipped, strict=True):
        at += GAP * PITCH if skipped else 0
        yield mark, skipped, round(at, 1)
        at += PITCH


def _entries(snapshot: Snapshot) -> tuple[tuple[str, State, int], ...]:
    states = {mark.state for lane in snapshot.lanes for mark in lane.marks}
    return (*_LEGEND, *(entry for entry in _SET_ASIDE if entry[1] in states))


def _legend_rows(snapshot: Snapshot, width: float) -> int:
    return -(-len(_entries(snapshot)) // (8 if width > 700 else 4))


def _legend(snapshot: Snapshot, x: float, y: float, width: float) -> Iterator[Shape]:
    columns = 8 if width > 700 else 4
    for i, (name, state, deliveries) in enumerate(_entries(snapshot)):
        left, top = round(x + width / columns * (i % columns), 1), y + 20 * (i // columns)
        yield from glyph(Mark(event="", seq=None, state=state, deliveries=deliveries), left, top)
        yield label(left + 18, top + 10, name, fill="soft", size=11)
