"""Every event's story so far, and the verdict on all of them, kept up record by record.

Records of events enter; :class:`Entry` s by key and a :class:`~reference.evidence.checker.Verdict` leave. Promises that
the verdict equals :func:`reference.evidence.checker.check` on the same records, that one record costs a constant amount
of work, and that an event keeps at most :data:`STORY` records of its story however often it is delivered.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from reference.evidence.checker import Verdict
from reference.evidence.history import Record
from reference.live.mark import Lane, Mark
from reference.live.order import Order

__all__ = ["STORY", "Entry", "Ledger", "Row"]

STORY = 12
_BEGINNING = 4  # of a story too long to keep, the first records and the last ones tell most
_SET_ASIDE = {"parked", "dead letter"}


@dataclass(slots=True, eq=False)
class Entry:
    """One event: where it stands, per group where groups may differ. ``row`` is its key's.

    ``behind`` names the seq that overtook it, ``received`` is the place of its last delivery in the history; ``story``
    holds its records, each with the fault it followed.
    """

    event: str
    arrival: int
    row: Row
    seq: int | None = None
    attempted: bool = False
    acknowledged: bool = False
    failed: bool = False
    unanswered: bool = False
    deliveries: dict[str, int] = field(default_factory=dict)
    applications: dict[str, int] = field(default_factory=dict)
    aside: str = ""
    behind: dict[str, int] = field(default_factory=dict)
    received: int = 0
    story: list[tuple[Record, str]] = field(default_factory=list)
    untold: int = 0
    shown: bool = False
    troubled: bool = False
    outstanding: bool = False
    mark: tuple[tuple[bool, float], Mark] | None = None  # as last drawn, for (settled, start); none once it changed

    @property
    def unknown(self) -> bool:
        """Nobody can say whether its commit happened, and nobody will."""
        return self.unanswered and not (self.acknowledged or self.failed)

    @property
    def begun(self) -> bool:
        """Its commit was begun and has no end yet, or never will: it may be delivered."""
        return self.attempted and not (self.acknowledged or self.failed)

    @property
    def unexpected(self) -> bool:
        return bool(self.deliveries) and not (self.acknowledged or self.begun)

    @property
    def twice(self) -> bool:
        return any(times > 1 for times in self.applications.values())

    @property
    def applied(self) -> bool:
        """By every group that received it."""
        return bool(self.applications) and self.deliveries.keys() <= self.applications.keys()

    def tell(self, record: Record, after: str) -> None:
        self.story.append((record, after))
        if len(self.story) > STORY:
            del self.story[_BEGINNING]
            self.untold += 1


@dataclass(slots=True, eq=False)
class Row:
    """One key: its events, and how many of them are shown, in trouble, or committed and not delivered yet."""

    key: str
    entries: list[Entry] = field(default_factory=list)
    in_order: bool = True
    shown: int = 0
    troubled: int = 0
    outstanding: int = 0
    lane: tuple[tuple[bool, float], Lane] | None = None
    natural: tuple[tuple[int, int, str], ...] = ()

    def __post_init__(self) -> None:
        parts = re.split(r"(\d+)", self.key)
        self.natural = tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p)  # order-9, then order-10


class Ledger:
    """Fold records in with :meth:`add`; read :attr:`rows` and :meth:`verdict` at any time."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self._entries: dict[str, Entry] = {}
        self._order = Order()
        self._position = self._deliveries = self._pairs = self._applied = 0
        self._attempted = self._acknowledged = self._delivered = 0
        self._outstanding: set[str] = set()
        self._recovered: set[str] = set()
        self._unexpected: set[str] = set()
        self._twice: set[str] = set()
        self._deepest = 0.0
        self._fault = (0, "")

    def add(self, record: Record) -> None:
        """Fold one record in; records that concern no event, such as faults, leave nothing here."""
        self._position += 1
        if record.op == "lag":
            self._deepest = max(self._deepest, record.value or 0)
        if record.op == "fault":
            self._fault = (self._position, record.note)
        if record.op in ("lag", "fault"):
            return
        entry, after = self._entry(record), ""
        if record.op == "commit":
            self._commit(entry, record)
        elif record.phase == "ok" and record.op == "deliver":
            after = self._fault[1] if 0 < entry.received < self._fault[0] else ""
            self._deliver(entry, record)
        elif record.op == "apply":
            self._apply(entry, record)
        if record.phase != "invoke":
            entry.tell(record, after)
        self._classify(entry)

    def verdict(self) -> Verdict:
        for event in self._order.judge():
            entry = self._entries[event]
            entry.behind = self._order.behind(event, entry.deliveries)
            self._classify(entry)
        return Verdict(
            attempted=self._attempted,
            acknowledged=self._acknowledged,
            delivered=self._delivered,
            applied=self._applied,
            duplicates=self._deliveries - self._pairs,
            recovered=len(self._recovered),
            max_lag=int(self._deepest),
            lost_ids=tuple(sorted(self._outstanding)),
            unexpected_ids=tuple(sorted(self._unexpected)),
            applied_twice_ids=tuple(sorted(self._twice)),
            out_of_order_ids=self._order.late,
        )

    def _entry(self, record: Record) -> Entry:
        entry = self._entries.get(record.event)
        if entry is None:
            entry = self._entries[record.event] = Entry(record.event, self._position, self._row(record.key), record.seq)
            entry.row.entries.append(entry)
            entry.row.in_order = False
        elif record.key and not entry.row.key:
            self._move(entry, self._row(record.key))
        return entry

    def _row(self, key: str) -> Row:
        row = self.rows.get(key)
        if row is None:
            row = self.rows[key] = Row(key)
        return row

    def _move(self, entry: Entry, row: Row) -> None:
        """A record without a key came first; the event joins its key's row now."""
        old = entry.row
        old.entries.remove(entry)
        for name in ("shown", "troubled", "outstanding"):
            setattr(old, name, getattr(old, name) - getattr(entry, name))
            setattr(row, name, getattr(row, name) + getattr(entry, name))
        row.entries.append(entry)
        row.in_order, old.lane, entry.row = False, None, row

    def _commit(self, entry: Entry, record: Record) -> None:
        self._attempted += not entry.attempted
        entry.attempted = True
        if record.phase == "ok":
            self._acknowledged += not entry.acknowledged
            entry.acknowledged = True
        entry.unanswered |= record.phase == "info"
        entry.failed |= record.phase == "fail"
        self._order.committed(record)
        if record.seq is not None and record.seq != entry.seq:
            entry.seq, entry.row.in_order = record.seq, False

    def _deliver(self, entry: Entry, record: Record) -> None:
        self._order.delivered(record, self._position)
        self._deliveries += 1
        self._delivered += not entry.deliveries
        before = entry.deliveries.get(record.group, 0)
        self._pairs += not before
        entry.deliveries[record.group], entry.received = before + 1, self._position
        if entry.seq is None and record.seq is not None:
            entry.seq, entry.row.in_order = record.seq, False

    def _apply(self, entry: Entry, record: Record) -> None:
        if record.phase == "ok":
            self._applied += not entry.applications
            entry.applications[record.group] = entry.applications.get(record.group, 0) + 1
            entry.aside = ""
        elif record.note in _SET_ASIDE:
            entry.aside = record.note

    def _classify(self, entry: Entry) -> None:
        """Bring the sets and the key's counts in line with what is now known of this event."""
        entry.mark, entry.row.lane = None, None
        unexpected, twice = entry.unexpected, entry.twice
        outstanding = entry.acknowledged and not entry.deliveries
        recovered = entry.begun and bool(entry.deliveries)
        _member(self._outstanding, entry.event, outstanding)
        _member(self._recovered, entry.event, recovered)
        _member(self._unexpected, entry.event, unexpected)
        _member(self._twice, entry.event, twice)
        shown = entry.acknowledged or entry.unknown or bool(entry.deliveries or entry.applications)
        troubled = unexpected or twice or bool(entry.behind)
        entry.row.shown += shown - entry.shown
        entry.row.troubled += troubled - entry.troubled
        entry.row.outstanding += outstanding - entry.outstanding
        entry.shown, entry.troubled, entry.outstanding = shown, troubled, outstanding


def _member(ids: set[str], event: str, belongs: bool) -> None:
    (ids.add if belongs else ids.discard)(event)
