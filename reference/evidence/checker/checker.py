"""The checker itself: three judges see every record, and their findings together are the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Final

from reference.evidence.checker.anomaly import Anomaly, Finding, Violation
from reference.evidence.checker.fate import Fate
from reference.evidence.checker.fates import Fates
from reference.evidence.checker.log import Log
from reference.evidence.checker.order import Order
from reference.evidence.checker.verdict import Verdict
from reference.evidence.history import Record

__all__ = ["BEGINNING", "STORY", "Checker", "check"]

STORY: Final = 12  # records that show a violation: of a longer story the first four and the last eight
BEGINNING: Final = 4


class Checker:
    """Judges a history that grows: :meth:`add` costs a constant amount of work, :meth:`verdict` may be asked at any time."""

    def __init__(self) -> None:
        self.received, self.applied = Order("received"), Order("applied")
        self._fates, self._log = Fates(), Log()
        self._applying: dict[tuple[str, str, str], int] = {}
        self._place = 0
        self._deepest = 0.0

    def add(self, record: Record) -> None:
        """Fold one record in, after all earlier ones."""
        self._place += 1
        if record.op == "lag":
            self._deepest = max(self._deepest, record.value or 0.0)
            return
        fate = self._fates.add(record, self._place)
        if record.offset is not None or record.op in ("assign", "join"):
            self._log.add(record)
        if fate is None:
            return
        if record.op in {"commit", "publish"}:
            self.received.written(record)
            self.applied.written(record)
        elif record.op == "deliver" and record.phase == "ok":
            key = record.key or fate.key
            if key:  # without one, no order was promised
                self.received.arrived(record, (record.topic, key), self._place)
        elif record.op in {"apply", "skip"}:
            self._effect(record, (fate.topics[0] if fate.topics else "", record.key or fate.key))

    def judge(self) -> Iterable[str]:
        """Bring everything up to date; returns the events of which something may have changed without a record of theirs."""
        changed = self.received.judge() | self.applied.judge()
        settled = self._fates.settle()
        return settled if len(settled) == len(self._fates.fates) else changed | settled.keys()

    def fate(self, event: str) -> Fate:
        """What is known of an event, kept up record by record. Raises :class:`KeyError` for one of which there is none."""
        return self._fates.fates[event]

    def shows(self, event: str, anomaly: Anomaly) -> bool:
        """Whether an event is lost, unexpected, an aborted read, applied twice or unapplied, as of the last :meth:`judge`."""
        return event in self._fates.of[anomaly]

    def verdict(self) -> Verdict:
        """The counts as of now; whoever wants the violations behind them asks :func:`check`."""
        self.judge()
        return self._verdict(list(self._log.findings(self._fates)))

    def findings(self) -> list[Finding]:
        """Every anomaly as of now, the worst classes first."""
        self.judge()
        fates = self._fates
        return [*fates.findings(), *self.received.findings(), *self.applied.findings(), *self._log.findings(fates)]

    def _verdict(self, in_log: list[Finding]) -> Verdict:
        fates = self._fates
        places = {anomaly: {found.event for found in in_log if found.anomaly is anomaly} for anomaly in _IN_LOG}
        return Verdict(
            attempted=fates.attempted,
            acknowledged=fates.acknowledged,
            delivered=fates.delivered,
            applied=fates.applied,
            duplicates=fates.deliveries - fates.pairs,
            recovered=len(fates.recovered),
            max_lag=int(self._deepest),
            lost=len(fates.of[Anomaly.LOST]),
            unexpected=len(fates.of[Anomaly.UNEXPECTED]),
            aborted_read=len(fates.of[Anomaly.ABORTED_READ]),
            applied_twice=len(fates.of[Anomaly.APPLIED_TWICE]),
            unapplied=len(fates.of[Anomaly.UNAPPLIED]),
            out_of_order=len({*self.received.late, *self.applied.late}),
            offset_inconsistent=len(places[Anomaly.OFFSET_INCONSISTENT]),
            nonmonotonic_poll=len(places[Anomaly.NONMONOTONIC_POLL]),
            skipped_poll=len(places[Anomaly.SKIPPED_POLL]),
            unseen_tail=len(places[Anomaly.UNSEEN_TAIL]),
        )

    def _effect(self, record: Record, key: tuple[str, str]) -> None:
        """An effect happened somewhere between its beginning and its end: only what lies apart has an order."""
        at = (record.process, record.group, record.event)
        if record.phase == "invoke":
            self._applying[at] = self._place
            return
        began = self._applying.pop(at, None)
        if record.op == "apply" and record.phase == "ok" and key[1]:
            self.applied.arrived(record, key, self._place, began)


_IN_LOG: Final = (Anomaly.OFFSET_INCONSISTENT, Anomaly.NONMONOTONIC_POLL, Anomaly.SKIPPED_POLL, Anomaly.UNSEEN_TAIL)


def check(history: Iterable[Record]) -> Verdict:
    """Judge a whole history, after everything has been given the time to arrive. Pure; order is that of the records."""
    records = history if isinstance(history, list) else list(history)
    checker = Checker()
    for record in records:
        checker.add(record)
    verdict = checker.verdict()
    if verdict.clean:
        return verdict
    counts = {name: getattr(verdict, name) for name in (field.name for field in fields(verdict)) if name != "violations"}
    return Verdict(**counts, violations=tuple(_shown(checker.findings(), records)))


def _shown(findings: list[Finding], records: list[Record]) -> Iterator[Violation]:
    """Each finding with the records of the events it names."""
    wanted: dict[str, list[Record]] = {event: [] for found in findings for event in (found.event, found.other)}
    wanted.pop("", None)
    for record in records:
        story = wanted.get(record.event)
        if story is not None:
            story.append(record)
            if len(story) > STORY:
                del story[BEGINNING]
    for found in findings:
        told = [record for event in dict.fromkeys((found.event, found.other)) for record in wanted.get(event, ())]
        story = sorted(told, key=lambda record: record.at)
        yield Violation(
            anomaly=found.anomaly, event=found.event, group=found.group, other=found.other, where=found.where,
            verb=found.verb, records=tuple(story),
        )  # fmt: skip
