"""The verdict on a history: counts, and the violations behind every count that should be zero."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final

from reference.evidence.checker.anomaly import Anomaly, Violation
from reference.evidence.history import present

__all__ = ["Verdict", "as_json"]

_ALWAYS_SHOWN: Final = (Anomaly.LOST, Anomaly.UNEXPECTED, Anomaly.APPLIED_TWICE, Anomaly.OUT_OF_ORDER)

_BEFORE: Final = (Anomaly.LOST, Anomaly.UNEXPECTED, Anomaly.ABORTED_READ)  # and behind these, the duplicates


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Counts of distinct events, but for ``duplicates``, which counts deliveries, and ``max_lag``.

    ``attempted``: writes begun; a write is the event's commit or, in a history without commits, its publish.
    ``acknowledged``: writes known to have happened. ``delivered`` and ``applied``: to, and by, at least one group.
    ``duplicates``: deliveries to one group beyond an event's first. ``recovered``: the write's outcome was unknown, and it
    turned out delivered. ``max_lag``: the highest depth sampled.

    The rest should be zero. ``lost``: committed, or confirmed by the broker, and not delivered to every group it was owed
    to: to each group of its topic that had joined. ``unexpected``: delivered, and never written. ``aborted_read``:
    delivered, though its write is known to have failed. ``applied_twice``: a group's effect happened more than once.
    ``unapplied``: acked by a group that applies events, and never applied. ``out_of_order``: first delivered, or first
    applied, behind a later event of its key. ``offset_inconsistent``: one place in a log, two events.
    ``nonmonotonic_poll`` and ``skipped_poll``: a reader went back without being sent back, or on past an event.
    ``unseen_tail``: stands in the log behind the last that a group read; one that was committed is also lost.

    ``violations`` has one entry an anomaly and a group, with the records that show it; :func:`check` alone fills it in.
    """

    attempted: int = 0
    acknowledged: int = 0
    delivered: int = 0
    applied: int = 0
    duplicates: int = 0
    recovered: int = 0
    max_lag: int = 0
    lost: int = 0
    unexpected: int = 0
    aborted_read: int = 0
    applied_twice: int = 0
    unapplied: int = 0
    out_of_order: int = 0
    offset_inconsistent: int = 0
    nonmonotonic_poll: int = 0
    skipped_poll: int = 0
    unseen_tail: int = 0
    violations: tuple[Violation, ...] = field(default=(), compare=False, repr=False)

    def count(self, anomaly: Anomaly) -> int:
        """How many events showed this anomaly."""
        count: int = getattr(self, anomaly.replace(" ", "_"))
        return count

    def events(self, anomaly: Anomaly) -> tuple[str, ...]:
        """The events that showed it, in the order in which they were found. Only of a verdict that has violations."""
        return tuple(dict.fromkeys(violation.event for violation in self.violations if violation.anomaly is anomaly))

    @property
    def found(self) -> dict[Anomaly, int]:
        """The anomalies there are, with their counts."""
        return {anomaly: count for anomaly in Anomaly if (count := self.count(anomaly))}

    @property
    def clean(self) -> bool:
        """No anomaly of any class. Duplicate deliveries are allowed."""
        return not self.found

    def __add__(self, other: Verdict) -> Verdict:
        """The verdict on two histories that have nothing to do with each other."""
        counts = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        counts["max_lag"] = max(self.max_lag, other.max_lag)
        return Verdict(**counts, violations=self.violations + other.violations)

    def __str__(self) -> str:
        shown = [(anomaly, self.count(anomaly)) for anomaly in Anomaly if anomaly in _ALWAYS_SHOWN or self.count(anomaly)]
        counts = [("committed", self.acknowledged), ("delivered", self.delivered)]
        counts += [pair for pair in shown if pair[0] in _BEFORE]
        counts += [("duplicates", self.duplicates), *(pair for pair in shown if pair[0] not in _BEFORE)]
        return " · ".join(f"{name} {count}" for name, count in counts)

    def __repr__(self) -> str:
        return str(self)


_COUNTS: Final = tuple(field.name for field in fields(Verdict) if field.name != "violations")


def as_json(verdict: Verdict, *, show: int) -> dict[str, Any]:
    """The counts, whether it is clean, and the first ``show`` violations, each with its sentence and its records."""
    counts = {name: getattr(verdict, name) for name in _COUNTS}
    told = [
        {"anomaly": violation.anomaly, "event": violation.event, "group": violation.group, "sentence": violation.sentence,
         "records": [present(record) for record in violation.records]}
        for violation in verdict.violations[:show]
    ]  # fmt: skip
    return {"clean": verdict.clean, **counts, "violations": told}
