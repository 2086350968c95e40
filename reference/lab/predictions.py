"""A guess before every run: said first, compared after, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral

from reference.evidence.checker import Verdict
from reference.lab.card import Card

__all__ = ["Predictions", "compared"]

NAMES = frozenset(
    {"attempted", "acknowledged", "delivered", "applied", "lost", "unexpected", "duplicates", "applied_twice", "out_of_order"}
)
WORDS = {"acknowledged": "committed"}  # as the verdict's line calls it
HEADS = ("", "you said", "it was", "")


class Predictions:
    """What the learner said of the run to come."""

    def __init__(self) -> None:
        self._said: dict[str, object] = {}

    def make(self, counts: Mapping[str, object]) -> None:
        """Raises :class:`ValueError` that lists what can be predicted when a name is none of it, or says what is no count.

        So it does where one thing is predicted twice, by both its names. What was said before then stands.
        """
        if "committed" in counts and "acknowledged" in counts:
            raise ValueError("committed and acknowledged are two names of one count: give one of them")
        counts = {("acknowledged" if name == "committed" else name): count for name, count in counts.items()}
        unknown = counts.keys() - NAMES
        if unknown:
            known = sorted(WORDS.get(name, name) for name in NAMES)
            raise ValueError(f"cannot predict {', '.join(sorted(unknown))}; choose from {', '.join(known)}")
        for name, count in counts.items():
            if isinstance(count, bool) or not isinstance(count, Integral) or count < 0:
                raise ValueError(f"{WORDS.get(name, name)}={count!r} is no count: predict a whole number from 0 on")
        self._said = dict(counts)

    def compare(self, verdict: Verdict) -> Card | None:
        """Each guess beside what happened, once; ``None`` where nothing was said."""
        said, self._said = self._said, {}
        words = {name: WORDS.get(name, name.replace("_", " ")) for name in said}
        if not said:
            return None
        return compared({words[name]: said[name] for name in said}, {words[name]: getattr(verdict, name) for name in said})


def compared(said: Mapping[str, object], found: Mapping[str, object]) -> Card:
    """What was ``said`` of each thing beside what was ``found``; a guess that was wrong is no fault, but what one learns from.

    Raises :class:`ValueError` where something was said of which nothing was found.
    """
    if missing := said.keys() - found.keys():
        raise ValueError(f"nothing was found out about {', '.join(sorted(missing))}; there is {', '.join(found)}")
    right = [name for name in said if said[name] == found[name]]
    lines = [
        f"you said {guess} {name}: right" if name in right else f"you said {guess} {name}; it was {found[name]}"
        for name, guess in said.items()
    ]
    return Card(
        tone="good" if len(right) == len(said) else "hint",
        title="your guess",
        words=f"{len(right)} of {len(said)} right",
        heads=HEADS,
        rows=[(name, guess, found[name], "right" if name in right else "not so") for name, guess in said.items()],
        plain="\n".join(lines),
    )
