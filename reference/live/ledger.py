"""Every event's story so far, and the verdict on all of them, kept up record by record.

Records of events enter; :class:`Entry` s by key and the :class:`~reference.evidence.checker.Checker` 's verdict leave.
Promises that one record costs a constant amount of work, that an event keeps at most
:data:`~reference.evidence.checker.checker.STORY` records of its story however often it is delivered, and that no more events
are kept than :mod:`~reference.live.eras` remembers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from reference.evidence.checker import Anomaly, Verdict
from reference.evidence.checker.checker import BEGINNING, STORY
from reference.evidence.checker.fate import Fate
from reference.evidence.history import Operation, Record
from reference.live.eras import MOST, Era, Eras
from reference.live.mark import Lane, Mark

__all__ = ["Entry", "Ledger", "Row"]

_SET_ASIDE = {"parked", "dead letter"}
_COUNTED = ("shown", "troubled", "outstanding")


@dataclass(slots=True, eq=False)
class Entry:
    """One event; ``fate`` is what the checker knows of it, ``row`` is its key's.

    What is ``outstanding``, lost or unexpected by what is known so far, may still turn out well: the delivery, or the record of
    the commit, may be on its way. What is ``troubled`` will not.
    ``behind`` names the seq that overtook it, where and by which group; ``received`` is the place of its last delivery in the
    history; ``story`` holds its records, and ``after`` the fault that some of them followed.
    """

    event: str
    arrival: int
    row: Row
    era: Era
    fate: Fate
    seq: int | None = None
    lost: bool = False
    unexpected: bool = False
    aborted: bool = False
    twice: bool = False
    aside: str = ""
    behind: dict[tuple[Operation, str], int | None] | None = None
    received: int = 0
    story: list[Record] = field(default_factory=list)
    after: dict[Record, str] | None = None
    untold: int = 0
    shown: bool = False
    troubled: bool = False
    outstanding: bool = False
    mark: Mark | None = None  # as last drawn; none once it changed

    @property
    def applied(self) -> bool:
        """By every group that received it."""
        return self.fate.applied is not None and self.fate.delivered.keys() <= self.fate.applied.keys()

    def overtaken(self) -> dict[tuple[Operation, str], int | None] | None:
        """What :attr:`behind` is by now: behind whom it was delivered, and behind whom applied."""
        checker, found = self.era.checker, dict[tuple[Operation, str], int | None]()
        received = checker.received.overtaken(self.event, self.fate.delivered)
        applied = checker.applied.overtaken(self.event, self.fate.applied or ())
        for group, other in received.items():
            found["deliver", group] = checker.received.seq(other)
        for group, other in applied.items():
            found["apply", group] = checker.applied.seq(other)
        return found or None

    def tell(self, record: Record) -> None:
        self.story.append(record)
        if len(self.story) > STORY:
            dropped = self.story.pop(BEGINNING)
            self.untold += 1
            if self.after:
                self.after.pop(dropped, None)


@dataclass(slots=True, eq=False)
class Row:
    """One key: its events, and how many of them are shown, in trouble, or outstanding."""

    key: str
    entries: list[Entry] = field(default_factory=list)
    in_order: bool = True
    shown: int = 0
    troubled: int = 0
    outstanding: int = 0
    lane: Lane | None = None  # as last drawn; none once one of its events changed
    natural: tuple[tuple[int, int, str], ...] = ()

    def append(self, entry: Entry) -> None:
        """Behind the others, where it belongs if it has the highest number."""
        last = self.entries[-1] if self.entries else None
        self.in_order &= last is None or (entry.seq is not None and last.seq is not None and last.seq <= entry.seq)
        self.entries.append(entry)

    def __post_init__(self) -> None:
        parts = re.split(r"(\d+)", self.key)
        self.natural = tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p)  # order-9, then order-10


class Ledger:
    """Fold records in with :meth:`add`; read :attr:`rows` after :meth:`verdict`, at any time.

    ``again`` and ``twice`` count the deliveries, and the effects, that were repetitions.
    """

    def __init__(self, *, most: int = MOST) -> None:
        self.rows: dict[str, Row] = {}
        self.again = self.twice = 0
        self._entries: dict[str, Entry] = {}
        self._eras = Eras(most=most, forgets=self._forget)
        self._drawn: tuple[bool, float] | None = None
        self._position = 0
        self._fault = (0, "")

    def add(self, record: Record) -> bool:
        """Fold one record in, and say whether it was a repetition; those of no event, such as faults, leave nothing here."""
        self._position += 1
        era, op = self._eras.add(record), record.op
        if op == "fault":
            self._fault = (self._position, record.note)
        if era is None:
            return False
        entry = self._entries.get(record.event)
        if entry is None or (record.key and not entry.row.key):
            entry = self._placed(entry, record, era)
        if record.phase != "invoke":
            entry.tell(record)
        if op == "deliver":
            return record.phase == "ok" and self._deliver(entry, record)
        if op == "apply":
            return self._apply(entry, record)
        if op == "commit" and record.seq is not None and record.seq != entry.seq:
            entry.seq, entry.row.in_order = record.seq, False
        return False

    def verdict(self) -> Verdict:
        """What the checker says of all records so far; every entry that one of them concerns is brought in line with it."""
        for event in self._eras.judge():
            entry = self._entries.get(event)
            if entry is not None:
                entry.behind = entry.overtaken()
                self._classify(entry)
        return self._eras.verdict()

    def drawn_for(self, *, settled: bool, start: float) -> None:
        """Marks and lanes are drawn in this way from now on; what was drawn in another is forgotten."""
        if self._drawn != (settled, start):
            self._drawn = (settled, start)
            for entry in self._entries.values():
                entry.mark = entry.row.lane = None

    def _placed(self, entry: Entry | None, record: Record, era: Era) -> Entry:
        """A new event's entry, or one whose key is known only now."""
        if entry is None:
            row, fate = self._row(record.key), era.checker.fate(record.event)
            entry = self._entries[record.event] = Entry(record.event, self._position, row, era, fate, record.seq)
            row.append(entry)
        else:
            self._move(entry, self._row(record.key))
        return entry

    def _forget(self, events: Iterable[str]) -> None:
        gone = [self._entries.pop(event) for event in events if event in self._entries]
        for row in {id(entry.row): entry.row for entry in gone}.values():
            row.entries = [entry for entry in row.entries if entry.event in self._entries]
            row.lane = None
            for name in _COUNTED:
                setattr(row, name, sum(getattr(entry, name) for entry in row.entries))
            if not row.entries:
                del self.rows[row.key]

    def _row(self, key: str) -> Row:
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = Row(key)
        return row

    def _move(self, entry: Entry, row: Row) -> None:
        """A record without a key came first; the event joins its key's row now."""
        old = entry.row
        old.entries.remove(entry)
        for name in _COUNTED:
            setattr(old, name, getattr(old, name) - getattr(entry, name))
            setattr(row, name, getattr(row, name) + getattr(entry, name))
        row.entries.append(entry)
        row.in_order, old.lane, entry.row = False, None, row

    def _deliver(self, entry: Entry, record: Record) -> bool:
        if 0 < entry.received < self._fault[0]:
            entry.after = {**(entry.after or {}), record: self._fault[1]}
        entry.received = self._position
        if entry.seq is None and record.seq is not None:
            entry.seq, entry.row.in_order = record.seq, False
        again = entry.fate.delivered[record.group] > 1
        self.again += again
        return again

    def _apply(self, entry: Entry, record: Record) -> bool:
        if record.phase == "ok":
            entry.aside = ""
            twice = entry.fate.applied is not None and entry.fate.applied[record.group] > 1
            self.twice += twice
            return twice
        if record.note in _SET_ASIDE:
            entry.aside = record.note
        return False

    def _classify(self, entry: Entry) -> None:
        """Bring the entry and the key's counts in line with what is now known of this event."""
        entry.mark, entry.row.lane = None, None
        shows, fate = entry.era.checker.shows, entry.fate
        entry.lost, entry.unexpected = shows(entry.event, Anomaly.LOST), shows(entry.event, Anomaly.UNEXPECTED)
        entry.aborted, entry.twice = shows(entry.event, Anomaly.ABORTED_READ), shows(entry.event, Anomaly.APPLIED_TWICE)
        unapplied = shows(entry.event, Anomaly.UNAPPLIED)
        written = fate.commit is not None and (fate.commit.ok or fate.commit.unanswered)
        shown = written or entry.lost or bool(fate.delivered or fate.applied)
        troubled = entry.aborted or entry.twice or unapplied or bool(entry.behind)
        outstanding = entry.lost or entry.unexpected
        entry.row.shown += shown - entry.shown
        entry.row.troubled += troubled - entry.troubled
        entry.row.outstanding += outstanding - entry.outstanding
        entry.shown, entry.troubled, entry.outstanding = shown, troubled, outstanding
