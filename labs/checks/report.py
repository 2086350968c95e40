"""What every check ends with: passed or not yet, the evidence, and one hint for whoever asks for it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reference.lab.card import Card
from reference.lab.progress import progress

__all__ = ["Report", "judged"]


@dataclass(frozen=True)
class Report:
    """``passed``, what was found, and what to try next; in a notebook it shows itself, with the hint folded away."""

    passed: bool
    found: str
    hint: str = ""

    @property
    def card(self) -> Card:
        title, hint = ("passed", "") if self.passed else ("not yet", self.hint)
        lines = [f"{title} · {self.found}", *([f"hint: {hint}"] if hint else [])]
        return Card(
            tone="good" if self.passed else "not yet", title=title, words=self.found, hint=hint, plain="\n".join(lines)
        )

    def __repr__(self) -> str:
        return repr(self.card)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return self.card._repr_mimebundle_()


def judged(check: Callable[[], Report]) -> Report:
    """Run a check; an exception in the learner's code is a finding, with the line it came from."""
    try:
        with progress("checking your answer"):
            return check()
    except Exception as error:  # whatever the answer raises, the notebook goes on
        place = _learners_line(error)
        return Report(False, f"{type(error).__name__}: {error}", f"it was raised in {place.name}: {place.line}")


def _learners_line(error: Exception) -> traceback.FrameSummary:
    """The innermost line that is neither ours nor a library's."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if not any(part in f.filename for part in ("site-packages", "/reference/", "/labs/checks/"))]
    return (theirs or frames)[-1]
