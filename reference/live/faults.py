"""Faults on the time axis: what was broken on purpose, and when. A snapshot enters, shapes leave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

from reference.live.charts import Frame
from reference.live.shapes import Hit, Shape, label, line, text_width
from reference.live.snapshot import Snapshot

__all__ = ["hits", "names"]

_LONGEST = 32
_SIZE = 10.5


def names(snapshot: Snapshot, frame: Frame, *, rows: Sequence[float]) -> Iterator[Shape]:
    """Each name once, above the plot at its first line, on the first of ``rows``, downwards, where it covers nothing.

    Its line reaches up to the name, with a gap where the name of another fault stands between.
    """
    times = Counter(fault.note for fault in snapshot.faults if fault.note)
    taken: list[list[tuple[float, float]]] = [[] for _ in rows]
    for fault in snapshot.faults:
        if fault.note not in times:
            continue
        words = _words(fault.note, times[fault.note])
        x, (left, right, anchor) = frame.at(fault.at), _beside(frame.at(fault.at), words, frame)
        row = next((i for i in range(len(rows)) if _free(taken[i], left - 4, right + 4)), None)
        if row is None or left < frame.x:
            continue
        del times[fault.note]
        taken[row].append((min(left, x), max(right, x)))
        clear = all(_free(below, x - 2, x + 2) for below in taken[row + 1 :])
        for below in taken[row + 1 :] if clear else ():
            below.append((x, x))
        yield line([(x, rows[row] - 9), (x, frame.y if clear else rows[row] + 3)], "fault", width=1.2, dash=3)
        yield label(left if anchor == "start" else right, rows[row], words, fill="fault", size=_SIZE, anchor=anchor)


def hits(snapshot: Snapshot, frame: Frame) -> Iterator[Hit]:
    for fault in snapshot.faults:
        yield Hit(frame.at(fault.at) - 4, frame.y, 8, frame.height, fault.note, ((fault.at, "fault"),))


def _words(note: str, times: int) -> str:
    short = note if len(note) <= _LONGEST else f"{note[: _LONGEST - 1]}…"
    return f"{short} ×{times}" if times > 1 else short


def _beside(x: float, words: str, frame: Frame) -> tuple[float, float, Literal["start", "end"]]:
    """Right of its line, or left of it at the right edge."""
    width = text_width(words, _SIZE)
    return (x + 4, x + 4 + width, "start") if x + 4 + width <= frame.right else (x - 4 - width, x - 4, "end")


def _free(taken: Sequence[tuple[float, float]], left: float, right: float) -> bool:
    return all(right < low or left > high for low, high in taken)
