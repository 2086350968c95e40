"""What became of every event: written or not, delivered to whom, applied how often.

Records enter one by one, at a constant cost each; the events that were lost, invented, read though aborted, applied twice
or acked unapplied leave, as sets that are right at any moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from reference.evidence.checker.anomaly import Anomaly, Finding
from reference.evidence.checker.fate import Fate, Write
from reference.evidence.checker.groups import Groups
from reference.evidence.history import Record

__all__ = ["Fates"]

_WRITES: Final = frozenset({"commit", "publish"})
_OF_NO_EVENT: Final = frozenset({"lag", "fault", "assign"})
_OF_EVENTS: Final = (Anomaly.LOST, Anomaly.UNEXPECTED, Anomaly.ABORTED_READ, Anomaly.APPLIED_TWICE, Anomaly.UNAPPLIED)


class Fates:
    """Fold records in with :meth:`add`; read the sets, and :meth:`findings`, after :meth:`settle`."""

    def __init__(self) -> None:
        self.fates: dict[str, Fate] = {}
        self.groups = Groups()
        self.of: dict[Anomaly, dict[str, None]] = {anomaly: {} for anomaly in _OF_EVENTS}
        self.recovered: dict[str, None] = {}
        self.attempted = self.acknowledged = self.delivered = self.applied = self.deliveries = self.pairs = 0
        self._commits = False  # else the publishes are the writes
        self._appliers: set[str] = set()
        self._stale = False
        self._dirty: dict[str, Fate] = {}  # to be classified by the next settle
        self._commit_counts, self._publish_counts = [0, 0], [0, 0]  # attempted, acknowledged

    def add(self, record: Record, position: int) -> Fate | None:
        """Fold one record in; ``position`` is its place in the history. Returns the event's fate, if it concerns one."""
        op = record.op
        if op == "join":
            self._stale |= self.groups.join(record, position)
            return None
        if not record.event or op in _OF_NO_EVENT:
            return None
        fate = self._fate(record)
        if op in _WRITES:
            self._write(fate, record, position)
        elif op == "deliver":
            self._deliver(fate, record)
        elif op == "apply":
            self._apply(fate, record)
        elif op == "skip":
            fate.end(record, sure=bool(record.process))
        elif op == "ack" and record.phase == "ok":
            fate.acked = fate.acked or {}
            fate.acked[record.group] = None
        if not self._stale:
            self._dirty[record.event] = fate
        return fate

    def _fate(self, record: Record) -> Fate:
        fate = self.fates.get(record.event)
        if fate is None:
            fate = self.fates[record.event] = Fate(record.key)
        elif record.key and not fate.key:
            fate.key = record.key
        if record.topic and record.topic not in fate.topics:
            fate.topics += (record.topic,)
        return fate

    def settle(self) -> dict[str, Fate]:
        """Classify what records came for, and everything where a group, a topic or the kind of the history became known late.

        Returns the fates that were classified.
        """
        self.attempted, self.acknowledged = self._commit_counts if self._commits else self._publish_counts
        classified, self._dirty = self._dirty, {}
        if self._stale:
            self._stale, classified = False, self.fates
            for found in (*self.of.values(), self.recovered):
                found.clear()
        for event, fate in classified.items():
            self._classify(event, fate)
        return classified

    def findings(self) -> Iterator[Finding]:
        """Every anomaly of an event, once a group that it concerns."""
        for anomaly, events in self.of.items():
            for event in events:
                for group in self._concerned(anomaly, self.fates[event]):
                    yield Finding(anomaly=anomaly, event=event, group=group)

    def _concerned(self, anomaly: Anomaly, fate: Fate) -> list[str]:
        if anomaly is Anomaly.LOST:
            return list(self.groups.missing(fate))
        if anomaly is Anomaly.APPLIED_TWICE:
            return [group for group, times in (fate.applied or {}).items() if times > 1]
        if anomaly is Anomaly.UNAPPLIED:
            return list(self._forgotten(fate))
        return list(fate.delivered)

    def _write(self, fate: Fate, record: Record, position: int) -> None:
        if fate.first is None:
            fate.first = position
        if record.op == "commit":
            if not self._commits:
                self._commits = self._stale = True
            write = fate.commit = fate.commit or Write()
            counts = self._commit_counts
        else:
            write = fate.publish = fate.publish or Write()
            counts = self._publish_counts
        counts[0] += not write.attempts
        known = write.ok
        write.note(record.phase)
        counts[1] += write.ok and not known

    def _deliver(self, fate: Fate, record: Record) -> None:
        if record.phase != "ok":
            return
        self._stale |= self.groups.learn(record.group, record.topic)
        self.deliveries += 1
        self.delivered += not fate.delivered
        before = fate.delivered.get(record.group, 0)
        self.pairs += not before
        fate.delivered[record.group] = before + 1

    def _apply(self, fate: Fate, record: Record) -> None:
        name = record.group
        if record.phase == "invoke":
            fate.applying = fate.applying or {}
            fate.applying[name, record.process] = fate.applying.get((name, record.process), 0) + 1
            return
        fate.end(record)
        if record.phase == "ok":
            if name not in self._appliers:
                self._appliers.add(name)
                self._stale = True
            self.applied += not fate.applied
            fate.applied = fate.applied or {}
            fate.applied[name] = fate.applied.get(name, 0) + 1
        elif record.phase == "info":
            fate.unsure += (name,)
        else:
            fate.passed_over += (name,)

    def _classify(self, event: str, fate: Fate) -> None:
        write = fate.commit if self._commits else fate.publish
        delivered = bool(fate.delivered)
        written, unknown = (write.ok, write.unknown) if write is not None else (False, False)
        failed = write is not None and write.failed and not (written or unknown)
        owed = written or (fate.publish is not None and fate.publish.ok)
        _member(self.of[Anomaly.LOST], event, owed and any(True for _ in self.groups.missing(fate)))
        _member(self.of[Anomaly.ABORTED_READ], event, delivered and failed)
        _member(self.of[Anomaly.UNEXPECTED], event, delivered and write is None)
        _member(self.of[Anomaly.APPLIED_TWICE], event, fate.applied is not None and any(n > 1 for n in fate.applied.values()))
        _member(self.of[Anomaly.UNAPPLIED], event, any(True for _ in self._forgotten(fate)))
        _member(self.recovered, event, delivered and unknown)
    def _forgotten(self, fate: Fate) -> Iterator[str]:
        """The groups that apply events, acked this one, and forgot it."""
        return (group for group in fate.acked or () if group in self._appliers and fate.forgotten(group))


def _member(found: dict[str, None], event: str, belongs: bool) -> None:
    if belongs:
        found.setdefault(event)
    elif found:
        found.pop(event, None)
