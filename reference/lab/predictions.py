"""A guess before every run: said first, compared after."""

from __future__ import annotations

from reference.evidence.checker import Verdict

__all__ = ["Predictions"]

NAMES = frozenset(
    {"attempted", "acknowledged", "delivered", "applied", "lost", "unexpected", "duplicates", "applied_twice", "out_of_order"}
)


class Predictions:
    """What the learner said of the run to come."""

    def __init__(self) -> None:
        self._said: dict[str, int] = {}

    def make(self, counts: dict[str, int]) -> None:
        """Raises :class:`ValueError` that lists what can be predicted when a name is none of it."""
        unknown = counts.keys() - NAMES
        if unknown:
            raise ValueError(f"cannot predict {', '.join(sorted(unknown))}; choose from {', '.join(sorted(NAMES))}")
        self._said = dict(counts)

    def compare(self, verdict: Verdict) -> None:
        """Print each guess beside what happened, once."""
        for name, said in self._said.items():
            found, what = getattr(verdict, name), name.replace("_", " ")
            print(f"you said {said} {what}: right" if said == found else f"you said {said} {what}; it was {found}")
        self._said = {}
