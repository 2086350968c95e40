"""From records to everything the board and the picture show, as data.

Records enter (:mod:`reference.evidence.history`), a :class:`Snapshot` leaves. Promises: the same records give the same
snapshot; its verdict is the one :func:`reference.evidence.checker.check` gives; folding records in as they come gives
the same as all at once, at a constant cost a record, so that a board can ask many times a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reference.evidence.checker import Verdict
from reference.evidence.history import Record
from reference.live.eras import MOST
from reference.live.lanes import SLOTS, lanes
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
    repeats: tuple[Series, ...]
    faults: tuple[Fault, ...]
    lanes: tuple[Lane, ...]
    keys: int

    def __repr__(self) -> str:
        return f"<snapshot of {self.keys} keys: {self.verdict}>"


class Sampler:
    """Folds a growing history; :meth:`snapshot` may be asked for at any time, from one thread at a time.

    ``keys`` keys are shown, ``slots`` events of each. ``most``: memory is bounded, see :mod:`~reference.live.eras`.
    """

    def __init__(self, *, window_s: float = 60.0, keys: int = 12, slots: int = SLOTS, most: int = MOST) -> None:
        self._keys, self._slots = keys, slots
        self._ledger, self._timeline = Ledger(most=most), Timeline(window_s=window_s)

    def fold(self, records: Iterable[Record]) -> None:
        """Take these records in, after all earlier ones. Raises :class:`ValueError` that names a record that is none."""
        ledger, timeline, record = self._ledger, self._timeline, None
        try:
            for record in records:
                timeline.add(record)
                if ledger.add(record):
                    timeline.repeated(record, again=ledger.again, twice=ledger.twice)
        except (TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ValueError(f"not a record that could be judged: {record!r}: {error}") from error

    def snapshot(
        self, *, now: float | None = None, settled: bool = True, keep: Sequence[str] = (), charts: Snapshot | None = None
    ) -> Snapshot:
        """What is known now. ``now`` is on the clock of the records and defaults to the last of them.

        ``keep`` names keys to leave in their place, for a board that should not jump. ``charts``: an earlier snapshot, of which
        all that is over time is taken as it was, for a board that draws that less often.
        """
        told: dict[str, Any] = {
            "verdict": self._ledger.verdict(),
            "settled": settled,
            "lanes": lanes(
                self._ledger, keys=self._keys, slots=self._slots, keep=keep, settled=settled, start=self._timeline.start or 0.0
            ),
            "keys": sum(1 for row in self._ledger.rows.values() if row.shown),
        }
        return Snapshot(**told, **self._over_time(now, settled)) if charts is None else replace(charts, **told)

    def _over_time(self, now: float | None, settled: bool) -> dict[str, Any]:
        timeline, span = self._timeline, self._timeline.span(now)
        return {
            "span": span, "lag": timeline.lag(span), "lag_now": timeline.lag_now, "rates": timeline.rates(span, settled),
            "repeats": timeline.repeats(span), "faults": timeline.faults(span),
        }  # fmt: skip


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
