"""Seed after seed, until one breaks a promise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reference.evidence.simulation.designs import DESIGNS, Design
from reference.evidence.simulation.outcome import Outcome
from reference.evidence.simulation.world import simulate

__all__ = ["Found", "search"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """``failure`` is the first outcome that did not hold. The sums are over all seeds walked, and prove that faults hit."""

    seeds: int
    steps: int
    faults: int
    duplicates: int
    events: int
    seconds: float
    failure: Outcome | None

    @property
    def per_minute(self) -> int:
        """Interleavings a minute."""
        return round(60 * self.seeds / self.seconds)


def search(
    seeds: Iterable[int], *, design: Design = DESIGNS["relay"], tell: Callable[[int], object] = lambda n: None
) -> Found:
    """Simulate each of ``seeds``, and stop at the first that breaks a promise. ``tell`` hears of each that is done."""
    started = time.perf_counter()
    walked = steps = faults = duplicates = events = 0
    failure = None
    for seed in seeds:
        outcome = simulate(seed, design=design)
        walked += 1
        steps, faults = steps + len(outcome.moments), faults + outcome.faults
        duplicates, events = duplicates + outcome.verdict.duplicates, events + outcome.verdict.acknowledged
        tell(1)
        if not outcome.held:
            failure = outcome
            break
    return Found(
        seeds=walked, steps=steps, faults=faults, duplicates=duplicates, events=events,
        seconds=time.perf_counter() - started, failure=failure,
    )  # fmt: skip
