"""Lag, rates and repetitions over one time axis, with the faults on it. A snapshot enters, shapes leave."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from reference.live.palette import PARTITIONS
from reference.live.series import Series
from reference.live.shapes import Line, Shape, Text, label, text_width
from reference.live.snapshot import Snapshot

__all__ = ["Frame", "lag", "rates", "repeats", "seconds"]

_Style = tuple[str, float, float]
_AXIS = 40  # room for the numbers at the left
# Colour, width and dash; delivered is wide so that it can be seen beneath applied, which usually covers it.
_RATES = {"published": ("committed", 1.6, 3.0), "delivered": ("delivered", 3.6, 0.0), "applied": ("applied", 1.6, 0.0)}
_REPEATS = {"duplicates": ("warn", 2.4, 0.0), "applied twice": ("bad", 2.4, 0.0)}
_ROUND = (2, 4, 5, 6, 8, 10)
_FEW = 8  # faults
_TICKS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800)


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a chart stands and which seconds it shows."""

    x: float
    y: float
    width: float
    height: float
    span: tuple[float, float]

    def at(self, second: float) -> float:
        share = (second - self.span[0]) / ((self.span[1] - self.span[0]) or 1.0)
        return round(self.x + _AXIS + (self.width - _AXIS) * min(max(share, 0.0), 1.0), 1)

    def through(self, points: Sequence[tuple[float, float]], *, top: float) -> tuple[float, ...]:
        """Where a line goes, x and y in turn; its points lie in the span, and ``top`` is the value at the upper edge."""
        low, bottom, by = self.span[0], self.bottom, self.height / top
        left, wide = self.x + _AXIS, (self.width - _AXIS) / ((self.span[1] - low) or 1.0)
        return tuple([round(v, 1) for at, value in points for v in (left + (at - low) * wide, bottom - value * by)])

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def roomy(self) -> bool:
        """Whether a title and the names of its lines go beside each other."""
        return self.width > 400

    @property
    def bottom(self) -> float:
        return self.y + self.height


def lag(snapshot: Snapshot, frame: Frame, *, title_y: float) -> Iterator[Shape]:
    now = "unknown" if snapshot.lag_now is None else f"{snapshot.lag_now:,}"
    deepest = f"deepest now {now} · worst {snapshot.verdict.max_lag:,}"
    said = "  events waiting, by partition" if frame.roomy else ""
    yield label(frame.x, title_y, "Lag", bold=True, size=13).plus(said, "soft")
    yield label(frame.right, title_y, deepest, fill="soft", size=11, anchor="end")
    styles = [(PARTITIONS[i % len(PARTITIONS)], 1.8, 0.0) for i in range(len(snapshot.lag))]
    yield from _plot(snapshot, frame, snapshot.lag, styles)
    yield _names(snapshot.lag, styles, Text(frame.x + _AXIS, frame.bottom + 16, (), 11), room=frame.width - _AXIS)


def rates(snapshot: Snapshot, frame: Frame, *, title_y: float) -> Iterator[Shape]:
    yield label(frame.x, title_y, "Events a second", bold=True, size=13)
    styles = [_RATES[series.name] for series in snapshot.rates]
    yield _names(snapshot.rates, styles, _beside(frame, title_y), room=frame.width)
    yield from _plot(snapshot, frame, snapshot.rates, styles)


def repeats(snapshot: Snapshot, frame: Frame, *, title_y: float) -> Iterator[Shape]:
    """The one may rise, and is harmless as long as the other stays where it is."""
    yield label(frame.x, title_y, "Repetitions", bold=True, size=13).plus("  so far" if frame.roomy else "", "soft")
    styles = [_REPEATS[series.name] for series in snapshot.repeats]
    yield _names(snapshot.repeats, styles, _beside(frame, title_y), room=frame.width)
    yield from _plot(snapshot, frame, snapshot.repeats, styles)


def seconds(frame: Frame) -> Iterator[Shape]:
    """The numbers under the last chart."""
    low, high = frame.span
    most = 6 if frame.roomy else 4
    step = next((step for step in _TICKS_S if (high - low) / step <= most), _TICKS_S[-1])
    for i in range(int(-(-low // step)), int(high // step) + 1):
        yield label(frame.at(i * step), frame.bottom + 15, f"{i * step:g} s", fill="soft", size=10.5, anchor="middle")


def _plot(snapshot: Snapshot, frame: Frame, series: Sequence[Series], styles: Sequence[_Style]) -> Iterator[Shape]:
    top = _top(max((value for one in series for _, value in one.points), default=0))
    for share in (0.0, 0.5, 1.0):
        y = round(frame.bottom - frame.height * share, 1)
        yield Line((frame.x + _AXIS, y, frame.right, y), "rule")
        yield label(frame.x + _AXIS - 6, y + 3.5, f"{top * share:,g}", fill="soft", size=10.5, anchor="end")
    yield from _faults(snapshot, frame)
    for one, (stroke, width, dash) in zip(series, styles, strict=True):
        for piece in _pieces(one):
            points = frame.through(piece, top=top)
            yield Line(points if len(points) > 2 else _dot(*points), stroke, width, dash)


def _dot(x: float, y: float) -> tuple[float, ...]:
    """A line to be seen, where there is one point alone."""
    return (round(x - 1.5, 1), y, round(x + 1.5, 1), y)


def _pieces(series: Series) -> Iterator[Sequence[tuple[float, float]]]:
    """What is one line: nothing is drawn through a gap."""
    first = 0
    for i, ((before, _), (after, _)) in enumerate(pairwise(series.points), 1):
        at = bisect_left(series.gaps, before)
        if at < len(series.gaps) and series.gaps[at] <= after:
            yield series.points[first:i]
            first = i
    if series.points:
        yield series.points[first:]


def _faults(snapshot: Snapshot, frame: Frame) -> Iterator[Line]:
    """A line each; of many, only the first of its name is a line and the others are ticks, or they would hide the plot."""
    seen: set[str] = set()
    for fault in snapshot.faults:
        x, whole = frame.at(fault.at), len(snapshot.faults) <= _FEW or fault.note not in seen
        seen.add(fault.note)
        yield Line((x, frame.y, x, frame.bottom if whole else frame.y + 9), "fault", 1.2, 3 if whole else 0)


def _top(value: float) -> float:
    """A round number at or above, with a round half."""
    scale = 1
    while value > 10 * scale:
        scale *= 10
    return next(m * scale for m in _ROUND if m * scale >= value)


def _beside(frame: Frame, title_y: float) -> Text:
    """Where the names of a chart's lines stand: beside its title, or below it."""
    return Text(frame.right, title_y, (), 11, "end") if frame.roomy else Text(frame.x, title_y + 15, (), 11)


def _names(series: Sequence[Series], styles: Sequence[_Style], text: Text, *, room: float) -> Text:
    """As many as fit, and how many more there are."""
    for i, (one, (stroke, _, _)) in enumerate(zip(series, styles, strict=True)):
        more, left = f"{'   ' if i else ''}● ", len(series) - i - 1
        said = "".join(run.words for run in text.runs) + more + one.name + (f"   +{left}" if left else "")
        if text_width(said, text.size) > room:
            return text.plus(f"{'   ' if i else ''}+{len(series) - i}", "soft")
        text = text.plus(more, stroke).plus(one.name, "soft")
    return text
