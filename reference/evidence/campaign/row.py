"""What one experiment found on one broker, and what that proves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from reference.evidence.checker import Anomaly, Verdict

__all__ = ["Control", "Row"]

SHOWN: Final = 3  # violations that a row tells in words


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A design that must fail, and was run under the same kind of fault: ``verdict`` must show ``must``."""

    verdict: Verdict
    must: Anomaly

    @property
    def failed(self) -> bool:
        """It was seen failing in the way it should, and at work: what never ran would have lost everything."""
        some_came = self.verdict.applied > 0 and self.verdict.lost < self.verdict.acknowledged
        return some_came and self.verdict.count(self.must) > 0

    def __str__(self) -> str:
        return f"{self.must} {self.verdict.count(self.must)} of {self.verdict.acknowledged}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One experiment's figures on one broker, whose address is ``broker``.

    ``faults`` is how many really struck, ``planned`` how many should have. ``recoveries_s``: for each, the seconds until
    everything committed around it had been applied. ``tolerated``: what this broker, or this fault, rules out to promise.
    ``missed``: kinds of fault, among several, that struck less often than they should have.
    ``duplicates_expected``: without any, no fault hit where it hurts. ``wrong``: promises that no history shows, and that did
    not hold, in words. ``note`` says what else a reader must know.
    """

    experiment: str
    broker: str
    faults: int
    seconds: float
    verdict: Verdict
    recoveries_s: tuple[float, ...] = ()
    controls: Mapping[str, Control] = field(default_factory=dict)
    tolerated: frozenset[Anomaly] = frozenset()
    duplicates_expected: bool = True
    planned: int = 0
    missed: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    note: str = ""

    @property
    def broken(self) -> list[str]:
        """The promises that did not hold, with their counts."""
        found = [f"{anomaly} {count}" for anomaly, count in self.verdict.found.items() if anomaly not in self.tolerated]
        missing = self.verdict.acknowledged - self.verdict.applied
        unapplied = [f"never applied {missing}"] if missing > 0 and Anomaly.LOST not in self.tolerated else []
        return [*found, *self.wrong, *unapplied]

    @property
    def unproved(self) -> str:
        """Why a run in which nothing broke proves nothing either, in a few words; empty when it does prove something."""
        if self.faults < max(1, self.planned):
            return f"only {self.faults} of {max(1, self.planned)} faults struck"
        if self.missed:
            return f"too few faults of a kind struck: {', '.join(self.missed)}"
        if not self.verdict.acknowledged:
            return "nothing was committed"
        if self.duplicates_expected and not self.verdict.duplicates:
            return "no fault hit between publish and delete: more faults"
        calm = [name for name, control in self.controls.items() if not control.failed]
        return f"the control was not seen failing: {', '.join(calm)}" if calm else ""

    @property
    def outcome(self) -> str:
        """``held``, ``broken``, or ``inconclusive`` for the reason that :attr:`unproved` gives."""
        if self.broken:
            return "broken"
        return "inconclusive" if self.unproved else "held"

    @property
    def held(self) -> bool:
        """Every promise held, and the controls were seen failing."""
        return self.outcome == "held"

    def figures(self) -> dict[str, Any]:
        """The row as it is printed."""
        verdict = self.verdict
        figures: dict[str, Any] = {
            "experiment": self.experiment, "broker": self.broker, "faults": self.faults,
            "planned": self.planned or self.faults, "events": verdict.acknowledged, "lost": verdict.lost,
            "duplicates": verdict.duplicates, "applied twice": verdict.applied_twice, "out of order": verdict.out_of_order,
        }  # fmt: skip
        figures |= {anomaly: count for anomaly, count in verdict.found.items() if anomaly not in figures}
        if self.recoveries_s:
            figures["recovery s"] = {"median": round(median(self.recoveries_s), 2), "longest": round(max(self.recoveries_s), 2)}
        figures |= {"seconds": round(self.seconds, 1)}
        figures |= {f"control: {name}": str(control) for name, control in self.controls.items()}
        figures["outcome"] = self.outcome
        because = ", ".join(self.broken) or self.unproved
        shown = [str(one) for one in self.verdict.violations if one.anomaly not in self.tolerated][:SHOWN]
        more = {"because": because, "shown": shown, "tolerated": ", ".join(sorted(self.tolerated)), "note": self.note}
        return figures | {name: value for name, value in more.items() if value}
