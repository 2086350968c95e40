"""Lag, rates, repetitions and faults over time.

Records enter; :class:`Series` and :class:`Fault` s of the last ``window_s`` seconds leave. Promises bounded memory: time
is kept in grains of :data:`GRAIN_S`, and grains that have left the window are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from reference.evidence.history import Record
from reference.live.bins import GRAIN_S, Bins, largest, step, total

__all__ = ["Fault", "Series", "Timeline"]

_MOST_FAULTS: Final = 200
_FINE, _COARSE = 60, 40  # bins of a line, and of a rate: more are not seen apart
_RATES: Final = {"publish": "published", "deliver": "delivered", "apply": "applied"}
_REPEATS: Final = ("duplicates", "applied twice")
Queue = tuple[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line: (seconds since the start, value) in time order. At the seconds in ``gaps`` nobody knew the value."""

    name: str
    points: tuple[tuple[float, float], ...]
    gaps: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something broken on purpose, ``at`` seconds since the start."""

    note: str
    at: float


class Timeline:
    """Fold records in with :meth:`add`; zero seconds is the first record's time."""

    def __init__(self, *, window_s: float) -> None:
        self.start: float | None = None
        self._window_s = window_s
        self._kept = int(window_s / GRAIN_S) + step((0.0, window_s), bins=_COARSE) + 1  # the window, from a whole bin on
        self._last = 0.0
        self._counts = {name: Bins(total, kept=self._kept) for name in _RATES.values()}
        self._repeats = {name: Bins(largest, kept=self._kept) for name in _REPEATS}
        self._depths: dict[Queue, Bins] = {}
        self._now: dict[Queue, float] = {}
        self._unknown: dict[str, Bins] = {}  # by group: when it could not be sampled
        self._faults: list[Fault] = []

    def add(self, record: Record) -> None:
        if self.start is None:
            self.start = record.at
        at, op = record.at - self.start, record.op
        self._last = max(self._last, at)
        if op in _RATES:
            if record.phase == "ok":
                self._counts[_RATES[op]].add(int(at // GRAIN_S), 1)
        elif op == "lag":
            if record.value is not None:
                self._lag((record.group, record.partition), int(at // GRAIN_S), record.value)
            elif record.phase == "fail":
                self._nobody_knows(record.group, int(at // GRAIN_S))
        elif op == "fault" and record.phase != "invoke":
            self._faults = [*self._faults, Fault(note=record.note, at=round(at, 3))][-_MOST_FAULTS:]

    def repeated(self, record: Record, *, again: int, twice: int) -> None:
        """How many deliveries, and how many effects, have been repetitions so far, as of this record."""
        grain = int((record.at - (self.start or 0.0)) // GRAIN_S)
        for name, count in zip(_REPEATS, (again, twice), strict=True):
            self._repeats[name].add(grain, count)

    def span(self, now: float | None) -> tuple[float, float]:
        """The seconds shown: up to ``now``, or to the last record; from the start while the window is not yet full."""
        end = self._last if now is None else max(self._last, now - (self.start or 0.0))
        return (round(max(0.0, end - self._window_s), 3), round(end, 3))

    def faults(self, span: tuple[float, float]) -> tuple[Fault, ...]:
        return tuple(fault for fault in self._faults if fault.at >= span[0])

    def lag(self, span: tuple[float, float]) -> tuple[Series, ...]:
        """The deepest sample of each bin, a line per partition, and per group if there are several, gaps with them."""
        several = len({group for group, _ in self._depths}) > 1
        queues = sorted(self._depths, key=lambda q: (q[0], -1 if q[1] is None else q[1]))
        unknown = {group: when.points(span, bins=_FINE) for group, when in self._unknown.items()}
        found = list[Series]()
        for queue in queues:
            points = self._line(queue, span)
            known = {at for at, _ in points}  # one sample that failed beside others that did not tears no hole
            gaps = tuple(at for at, _ in unknown.get(queue[0], ()) if at not in known)
            found.append(Series(name=_name(*queue, several), points=points, gaps=gaps))
        return tuple(found)

    def _line(self, queue: Queue, span: tuple[float, float]) -> tuple[tuple[float, float], ...]:
        """It ends where the queue is now, and not at the deepest of its last bin."""
        points, now = self._depths[queue].points(span, bins=_FINE), self._now.get(queue)
        return points if now is None or not points or points[-1][1] == now else (*points, (span[1], now))

    @property
    def lag_now(self) -> int | None:
        """The deepest partition's last sample; ``None`` where nobody samples, or the last sample failed."""
        return int(max(self._now.values())) if self._now else None

    def rates(self, span: tuple[float, float], settled: bool) -> tuple[Series, ...]:
        """Events a second; while things move, the bin that is still filling is left out, since it would seem a fall."""
        return tuple(
            Series(name=name, points=counts.per_second(span, bins=_COARSE, filling=settled))
            for name, counts in self._counts.items()
        )

    def repeats(self, span: tuple[float, float]) -> tuple[Series, ...]:
        """Deliveries beyond an event's first to a group, and effects beyond its first, counted up from the start."""
        return tuple(Series(name=name, points=counts.staircase(span, bins=_FINE)) for name, counts in self._repeats.items())

    def _lag(self, queue: Queue, grain: int, value: float) -> None:
        depths = self._depths.get(queue)
        if depths is None:
            depths = self._depths[queue] = Bins(largest, kept=self._kept)
        depths.add(grain, value)
        self._now[queue] = value

    def _nobody_knows(self, group: str, grain: int) -> None:
        """Any more, how far the group is behind."""
        self._now = {queue: depth for queue, depth in self._now.items() if queue[0] != group}
        if group not in self._unknown:
            self._unknown[group] = Bins(largest, kept=self._kept)
        self._unknown[group].add(grain, 1)


def _name(group: str, partition: int | None, several: bool) -> str:
    queue = "queue" if partition is None else f"partition {partition}"
    return f"{group} {queue}" if several else queue
