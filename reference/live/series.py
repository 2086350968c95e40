"""Lag, rates and faults over time.

Records enter; :class:`Series` and :class:`Fault` s of the last ``window_s`` seconds leave. Promises bounded memory: time
is kept in bins of :data:`GRAIN_S`, and bins that have left the window are dropped.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from reference.evidence.history import Record

__all__ = ["Fault", "Series", "Timeline"]

GRAIN_S = 0.05
_STEPS = (2, 4, 10, 20, 40, 100, 200, 400, 1200, 2400, 6000, 12000)  # in grains: 0.1 s, 0.2 s, 0.5 s … ten minutes
_MOST_FAULTS = 200
_RATES = {"publish": "published", "deliver": "delivered", "apply": "applied"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line: (seconds since the start, value) in time order."""

    name: str
    points: tuple[tuple[float, float], ...]


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
        self._kept = int(window_s / GRAIN_S) + _step((0.0, window_s), bins=40) + 1  # the window, from a whole bin on
        self._last = 0.0
        self._counts: dict[str, Counter[int]] = {name: Counter() for name in _RATES.values()}
        self._depths: dict[tuple[str, int | None], dict[int, float]] = {}
        self._now: dict[tuple[str, int | None], float] = {}
        self._faults: list[Fault] = []

    def add(self, record: Record) -> None:
        if self.start is None:
            self.start = record.at
        at = record.at - self.start
        self._last = max(self._last, at)
        grain = int(at // GRAIN_S)
        if record.op == "lag" and record.value is not None:
            self._lag((record.group, record.partition), grain, record.value)
        elif record.op == "fault" and record.phase != "invoke":
            self._faults = [*self._faults, Fault(note=record.note, at=round(at, 3))][-_MOST_FAULTS:]
        elif record.phase == "ok" and record.op in _RATES:
            counts = self._counts[_RATES[record.op]]
            counts[grain] += 1
            self._forget(counts)

    def span(self, now: float | None) -> tuple[float, float]:
        """The seconds shown: up to ``now``, or to the last record; from the start while the window is not yet full."""
        end = self._last if now is None else max(self._last, now - (self.start or 0.0))
        return (round(max(0.0, end - self._window_s), 3), round(end, 3))

    def faults(self, span: tuple[float, float]) -> tuple[Fault, ...]:
        return tuple(fault for fault in self._faults if fault.at >= span[0])

    def lag(self, span: tuple[float, float]) -> tuple[Series, ...]:
        """The deepest sample of each bin, a line per partition, and per group if there are several."""
        step, several = _step(span, bins=120), len({group for group, _ in self._depths}) > 1
        queues = sorted(self._depths, key=lambda q: (q[0], -1 if q[1] is None else q[1]))
        return tuple(Series(name=_name(*queue, several), points=_peaks(self._depths[queue], step, span)) for queue in queues)

    @property
    def lag_now(self) -> int | None:
        """The deepest partition's last sample; ``None`` when nobody samples."""
        return int(max(self._now.values())) if self._now else None

    def rates(self, span: tuple[float, float], settled: bool) -> tuple[Series, ...]:
        """Events a second; while things move, the bin that is still filling is left out, since it would seem a fall."""
        step = _step(span, bins=40)
        low, high = _bins(span, step)
        high -= 0 if settled or high == low else 1
        return tuple(Series(name=n, points=_per_second(counts, step, (low, high))) for n, counts in self._counts.items())

    def _lag(self, queue: tuple[str, int | None], grain: int, value: float) -> None:
        depths = self._depths.setdefault(queue, {})
        depths[grain] = max(value, depths.get(grain, value))
        self._now[queue] = value
        self._forget(depths)

    def _forget(self, bins: dict[int, float] | Counter[int]) -> None:
        """Only when half of them can go, so that it costs nothing on average."""
        if len(bins) > 2 * self._kept:
            oldest = self._last // GRAIN_S - self._kept
            for grain in [g for g in bins if g < oldest]:
                del bins[grain]


def _name(group: str, partition: int | None, several: bool) -> str:
    queue = "queue" if partition is None else f"partition {partition}"
    return f"{group} {queue}" if several else queue


def _step(span: tuple[float, float], *, bins: int) -> int:
    """Grains a bin: the least that needs no more than ``bins``."""
    grains = (span[1] - span[0]) / GRAIN_S
    return next((step for step in _STEPS if grains / step <= bins), _STEPS[-1])


def _bins(span: tuple[float, float], step: int) -> tuple[int, int]:
    return int(span[0] / GRAIN_S // step), int(span[1] / GRAIN_S // step)


def _peaks(depths: dict[int, float], step: int, span: tuple[float, float]) -> tuple[tuple[float, float], ...]:
    low, high = _bins(span, step)
    peaks: dict[int, float] = {}
    for grain, value in depths.items():
        place = grain // step
        if low <= place <= high:
            peaks[place] = max(value, peaks.get(place, 0.0))
    return tuple((_middle(place, step, span), peaks[place]) for place in sorted(peaks))


def _per_second(counts: Counter[int], step: int, bins: tuple[int, int]) -> tuple[tuple[float, float], ...]:
    sums: Counter[int] = Counter()
    for grain, count in counts.items():
        sums[grain // step] += count
    seconds = step * GRAIN_S
    return tuple((round((b + 0.5) * seconds, 3), round(sums[b] / seconds, 2)) for b in range(bins[0], bins[1] + 1))


def _middle(place: int, step: int, span: tuple[float, float]) -> float:
    return round(min(max((place + 0.5) * step * GRAIN_S, span[0]), span[1]), 3)
