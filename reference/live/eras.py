"""The verdict of a board that runs for hours, with bounded memory.

A checker remembers every event, since any of them may come again. Here the events are dealt out by their first record to
checkers of :data:`MOST` events each; when there are more than a few, the oldest is asked for its verdict, which is added up,
and forgotten. Promises: until then the verdict is the one :func:`reference.evidence.checker.check` gives; after that, what
is still said of a forgotten event is counted as a repetition and nothing else, and of two events of a key in different
eras nobody tells which came first. The history itself has forgotten nothing, and may be checked whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from reference.evidence.checker import Checker, Verdict
from reference.evidence.history import OF_NO_EVENT, Record

__all__ = ["MOST", "Era", "Eras"]

MOST: Final = 20_000  # events of an era: more than a lab makes
LIVE: Final = 2
NUMBERED: Final = 50  # eras, a million events


class Era:
    """A checker, and which events are its own."""

    def __init__(self) -> None:
        self.checker = Checker()
        self.events: set[str] = set()


class Eras:
    """Fold records in with :meth:`add`; read what a checker tells. ``forgets`` is told which events are forgotten."""

    def __init__(self, *, most: int, forgets: Callable[[Iterable[str]], None]) -> None:
        self._most, self._forgets = most, forgets
        self._eras = [Era()]
        self._of: dict[str, Era] = {}
        self._joined: dict[tuple[str, str], Record] = {}
        self._past = Verdict()
        self._gone: list[set[int]] = []  # the events of forgotten eras: what is left of each is a number

    def add(self, record: Record) -> Era | None:
        """Fold one record in; returns the era of its event, or ``None`` where it has none that is remembered."""
        if record.op in OF_NO_EVENT or not record.event:
            if record.op == "join":
                self._joined[record.group, record.topic] = record
            for era in self._eras:
                era.checker.add(record)
            return None
        known = self._of.get(record.event)
        if known is None and self._gone and self._is_gone(record):
            return None
        own = known or self._newest()
        if known is None:
            own.events.add(record.event)
            self._of[record.event] = own
        own.checker.add(record)
        return own

    def judge(self) -> Iterable[str]:
        """See :meth:`Checker.judge`."""
        if len(self._eras) == 1:
            return self._eras[0].checker.judge()
        return {event for era in self._eras for event in era.checker.judge()}

    def verdict(self) -> Verdict:
        """The counts of all eras."""
        now = self._eras[0].checker.verdict()
        for era in self._eras[1:]:
            now += era.checker.verdict()
        if self._gone:
            now += self._past
        return now

    def _is_gone(self, record: Record) -> bool:
        number = hash(record.event)
        if not any(number in gone for gone in self._gone):
            return False
        if record.op == "deliver" and record.phase == "ok":
            self._past += Verdict(duplicates=1)
        return True

    def _newest(self) -> Era:
        newest = self._eras[-1]
        if len(newest.events) < self._most:
            return newest
        self._eras.append(newest := Era())
        for join in self._joined.values():
            newest.checker.add(join)
        if len(self._eras) > LIVE:
            self._forget(self._eras.pop(0))
        return newest

    def _forget(self, era: Era) -> None:
        self._past += era.checker.verdict()
        for event in era.events:
            del self._of[event]
        self._gone = [*self._gone, {hash(event) for event in era.events}][-NUMBERED:]
        self._forgets(era.events)
