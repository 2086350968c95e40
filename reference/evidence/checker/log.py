"""What a log was seen to hold, and how its readers went through it: by offset, for brokers that number.

Records enter one by one; places that hold two events, readers that went back or skipped, and what stands unread behind the
last that a group was handed leave. A reader is a ``process`` in a group: it may go back where it nacked, and anywhere once
partitions changed hands (``assign``); a delivery that the broker itself calls a repetition (``attempt``) claims nothing.

Source: Jepsen's Kafka workload (inconsistent offsets, nonmonotonic and skipped polls, unseen).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from reference.evidence.checker.anomaly import Anomaly, Finding
from reference.evidence.checker.fates import Fates
from reference.evidence.history import Record

__all__ = ["Log"]


@dataclass(slots=True)
class _Partition:
    """What stands where: ``events`` by offset; ``reached`` is the last that each group was handed."""

    name: str
    events: dict[int, str] = field(default_factory=dict)
    reached: dict[str, int] = field(default_factory=dict)
    ordered: list[int] = field(default_factory=list)

    def hold(self, offset: int, event: str) -> str | None:
        """The event known to stand there before this one; ``None`` when nothing was."""
        known = self.events.setdefault(offset, event)
        return None if known == event else known

    @property
    def offsets(self) -> list[int]:
        """The known places in order; sorted when asked for, since records of several readers come in any order."""
        if len(self.ordered) != len(self.events):
            self.ordered = sorted(self.events)
        return self.ordered

    def at(self, offset: int) -> str:
        return f"{self.name}@{offset}"


class Log:
    """Fold records in with :meth:`add`; :meth:`findings` at any time."""

    def __init__(self) -> None:
        self._partitions: dict[tuple[str, int], _Partition] = {}
        self._last: dict[tuple[str, str], dict[tuple[str, int], tuple[int, str]]] = {}  # reader → partition → where it is
        self._found: list[Finding] = []
        self._gaps: list[tuple[_Partition, int, int, str]] = []  # what a reader jumped over: partition, from, to, group

    def add(self, record: Record) -> None:
        """Fold one record in; those that say nothing of places leave nothing here."""
        reader = (record.process, record.group)
        if record.op in ("assign", "join"):
            self._last.pop(reader, None)
            return
        if record.offset is None or record.partition is None or record.phase != "ok":
            return
        at = (record.topic, record.partition)
        partition = self._partitions.get(at)
        if partition is None:
            partition = self._partitions[at] = _Partition(f"{record.topic}[{record.partition}]")
        if record.op == "nack":
            self._sent_back(reader, at, record.offset)
        elif record.op in ("publish", "deliver", "read"):
            other = partition.hold(record.offset, record.event)
            if other is not None:
                self._report(Anomaly.OFFSET_INCONSISTENT, record, other, partition)
            if record.op == "deliver":
                self._handed(reader, at, partition, record)

    def findings(self, fates: Fates) -> Iterator[Finding]:
        yield from self._found
        for partition, left, right, group in self._gaps:
            offsets = partition.offsets
            for offset in offsets[bisect_right(offsets, left) : bisect_left(offsets, right)]:
                event, behind = partition.events[offset], partition.events[right]
                yield Finding(
                    anomaly=Anomaly.SKIPPED_POLL, event=event, group=group, other=behind, where=partition.at(offset)
                )  # fmt: skip
        yield from self._unseen(fates)

    def _unseen(self, fates: Fates) -> Iterator[Finding]:
        for (topic, _), partition in self._partitions.items():
            offsets = partition.offsets
            for name, group in fates.groups.of_topic(topic).items():
                reached = partition.reached.get(name, -inf)
                if not offsets or offsets[-1] <= reached:
                    continue
                for offset in offsets[bisect_right(offsets, reached) :]:
                    event = partition.events[offset]
                    fate = fates.fates.get(event)
                    if fate is not None and name not in fate.delivered and fates.groups.owed(fate, group):
                        yield Finding(anomaly=Anomaly.UNSEEN_TAIL, event=event, group=name, where=partition.at(offset))

    def _handed(self, reader: tuple[str, str], at: tuple[str, int], partition: _Partition, record: Record) -> None:
        offset = record.offset or 0
        if offset > partition.reached.get(record.group, -inf):
            partition.reached[record.group] = offset
        if not record.process:  # of a history that does not say who read, nothing is claimed
            return
        places = self._last.setdefault(reader, {})
        before = places.get(at)
        if (record.attempt or 1) > 1:
            if before is not None and offset > before[0]:
                places[at] = (offset, record.event)
            return
        if before is not None:
            if offset <= before[0]:
                self._report(Anomaly.NONMONOTONIC_POLL, record, before[1], partition)
            elif offset > before[0] + 1:
                self._gaps.append((partition, before[0], offset, record.group))
        places[at] = (offset, record.event)

    def _sent_back(self, reader: tuple[str, str], at: tuple[str, int], offset: int) -> None:
        places = self._last.get(reader)
        if places is not None and at in places and places[at][0] >= offset:
            places[at] = (offset - 1, places[at][1])

    def _report(self, anomaly: Anomaly, record: Record, other: str, partition: _Partition) -> None:
        group = record.group if record.op == "deliver" else ""
        where = partition.at(record.offset or 0)
        self._found.append(Finding(anomaly=anomaly, event=record.event, group=group, other=other, where=where))
