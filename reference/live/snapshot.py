"""From records to everything the board and the picture show, as data.

Records enter (:mod:`reference.evidence.history`), a :class:`Snapshot` leaves. Promises: the same records give the same
snapshot; its verdict is the one :func:`reference.evidence.checker.check` gives; folding records in as they come gives
the same as all at once, at a constant cost a record, so that a board can ask many times a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reference.evidence.checker import Verdict
from reference.evidence.history import History, Record
from reference.live.lanes import lanes
from reference.live.ledger import Ledger
from reference.live.mark import Lane, Mark, State
from reference.live.series import Fault, Series, Timeline

__all__ = ["Fault", "Lane", "Mark", "Sampler", "Series", "Snapshot", "State", "snapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is known at one moment. Times are seconds since the first record; ``span`` is the stretch of time shown.

    ``settled``: everything had the time to arrive, so what did not is lost. ``lag_now`` is the deepest partition's last
    sample, ``verdict.max_lag`` the deepest of all. ``keys`` counts all keys, ``lanes`` holds some of them.
    """

    verdict: Verdict
    settled: bool
    span: tuple[float, float]
    lag: tuple[Series, ...]
    lag_now: int | None
    rates: tuple[Series, ...]
    faults: tuple[Fault, ...]
    lanes: tuple[Lane, ...]
    keys: int

    def __repr__(self) -> str:
        return f"<snapshot of {self.keys} keys: {self.verdict}>"


class Sampler:
    """Folds a growing history; :meth:`snapshot` may be asked for at any time, from one thread at a time."""

    def __init__(self, *, window_s: float = 60.0, keys: int = 12) -> None:
        self._window_s, self._keys = window_s, keys
        self._folded, self._last = 0, Record(op="fault")
        self._begin()

    def fold(self, records: Iterable[Record]) -> None:
        """Take these records in, after all earlier ones."""
        for record in records:
            self._ledger.add(record)
            self._timeline.add(record)
            self._folded, self._last = self._folded + 1, record

    def follow(self, history: History) -> bool:
        """Take in what the history gained since the last call; says whether that was anything.

        When records were merged in before those already taken, everything is folded again.
        """
        new = history.since(max(0, self._folded - 1))
        if self._folded and (not new or new[0] is not self._last):
            self._begin()
            new = history.since(0)
            self.fold(new)
            return True
        new = new[1:] if self._folded else new
        self.fold(new)
        return bool(new)

    def snapshot(self, *, now: float | None = None, settled: bool = True, keep: Sequence[str] = ()) -> Snapshot:
        """What is known now. ``now`` is on the clock of the records and defaults to the last of them; ``keep`` names
        keys to leave in their place, for a board that should not jump."""
        verdict = self._ledger.verdict()
        span = self._timeline.span(now)
        return Snapshot(
            verdict=verdict,
            settled=settled,
            span=span,
            lag=self._timeline.lag(span),
            lag_now=self._timeline.lag_now,
            rates=self._timeline.rates(span, settled),
            faults=self._timeline.faults(span),
            lanes=lanes(self._ledger, keys=self._keys, keep=keep, settled=settled, start=self._timeline.start or 0.0),
            keys=sum(1 for row in self._ledger.rows.values() if row.shown),
        )

    def _begin(self) -> None:
        self._ledger, self._timeline = Ledger(), Timeline(window_s=self._window_s)
        self._folded, self._last = 0, Record(op="fault")


def snapshot(
    records: Iterable[Record],
    *,
    now: float | None = None,
    window_s: float = 60.0,
    keys: int = 12,
    settled: bool = True,
) -> Snapshot:
    """Everything known from these records; pass ``settled=False`` while events may still be on their way."""
    sampler = Sampler(window_s=window_s, keys=keys)
    sampler.fold(records)
    return sampler.snapshot(now=now, settled=settled)
