"""What a history gained since it was looked at last.

A history enters; records leave, each once and in order. Promises that whoever folds them in has all of them: when records were
merged in before those already told, everything is told again, and said to be.
"""

from __future__ import annotations

from typing import NamedTuple

from reference.evidence.history import History, Record

__all__ = ["Following", "News"]


class News(NamedTuple):
    """``anew``: forget what was told before, these are all."""

    records: list[Record]
    anew: bool = False


class Following:
    """Not safe from several threads at once."""

    def __init__(self, history: History) -> None:
        self._history = history
        self.forget()

    def forget(self) -> None:
        """The next news are everything."""
        self._told, self._last = 0, Record(op="fault")

    @property
    def behind(self) -> bool:
        """Whether there are any news."""
        return len(self._history) > self._told

    def news(self) -> News:
        """What is new; no records where nothing is."""
        records, anew = self._history.since(max(0, self._told - 1)), self._told == 0
        if self._told:
            if records and records[0] is self._last:
                del records[0]
            else:
                records, anew, self._told = self._history.since(0), True, 0
        if records:
            self._told, self._last = self._told + len(records), records[-1]
        return News(records, anew)
