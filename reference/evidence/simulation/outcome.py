"""What came of one interleaving: the checker's verdict, what the checker cannot see, and the way there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reference.evidence.checker import Anomaly, Verdict
from reference.evidence.history import Record
from reference.evidence.simulation.scheduler import Moment, readable

__all__ = ["Outcome"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """``faults`` counts those that hit. ``not_applied``: committed events without an effect in the database at the end.

    ``errors``: what a process let out instead of going on. ``ended``: everything came to rest.
    """

    seed: int
    design: str
    verdict: Verdict
    history: Sequence[Record]
    moments: Sequence[Moment]
    faults: int
    ended: bool
    not_applied: tuple[str, ...]
    errors: tuple[str, ...]

    @property
    def held(self) -> bool:
        """Every promise was kept."""
        return not self.wrong

    @property
    def wrong(self) -> dict[str, str]:
        """What went wrong, by what one calls it: ``loses``, ``reorders`` and so on, each with what shows it."""
        verdict = self.verdict
        found = {
            "loses": verdict.events(Anomaly.LOST),
            "invents": verdict.events(Anomaly.UNEXPECTED) + verdict.events(Anomaly.ABORTED_READ),
            "reorders": tuple(found.event for found in verdict.violations if found.verb == "received"),
            "applies twice": verdict.events(Anomaly.APPLIED_TWICE),
            "does not apply": self.not_applied,
            "applies out of order": tuple(found.event for found in verdict.violations if found.verb == "applied"),
            "raises": self.errors,
            "does not come to rest": () if self.ended else (f"after {len(self.moments)} steps",),
        }
        wrong = {name: readable(", ".join(shown)) for name, shown in found.items() if shown}
        return wrong if wrong or verdict.clean else {"breaks a promise": str(verdict)}

    @property
    def why(self) -> str:
        """The same in a line; empty when every promise was kept."""
        return " · ".join(f"{name} {shown}" for name, shown in self.wrong.items())

    @property
    def trace(self) -> str:
        """Step by step: the time, who, what, and what came of it."""
        return "\n".join(map(str, self.moments))

    @property
    def figures(self) -> dict[str, Any]:
        """For a program to read."""
        return {"seed": self.seed, "design": self.design, "held": self.held, "why": self.why, "steps": len(self.moments),
                "faults": self.faults, "verdict": str(self.verdict)}  # fmt: skip
