"""What every check ends with: passed or not yet, the evidence, and one hint."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Report", "judged"]


@dataclass(frozen=True)
class Report:
    """``passed``, what was found, and what to try next; in a notebook it shows itself."""

    passed: bool
    found: str
    hint: str = ""

    def __repr__(self) -> str:
        lines = [("passed · " if self.passed else "not yet · ") + self.found]
        return "\n".join(lines + ([f"hint: {self.hint}"] if self.hint and not self.passed else []))


def judged(check: Callable[[], Report]) -> Report:
    """Run a check; an exception in the learner's code is a finding, with the line it came from."""
    try:
        return check()
    except Exception as error:  # whatever the answer raises, the notebook goes on
        place = _learners_line(error)
        return Report(False, f"{type(error).__name__}: {error}", f"it was raised in {place.name}: {place.line}")


def _learners_line(error: Exception) -> traceback.FrameSummary:
    """The innermost line that is neither ours nor a library's."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if not any(part in f.filename for part in ("site-packages", "/reference/", "/labs/checks/"))]
    return (theirs or frames)[-1]
