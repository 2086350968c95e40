"""From a recorded history to a verdict: what was lost, invented, repeated, applied twice or put out of order.

Pure: records enter, a :class:`Verdict` leaves, nothing is read or written elsewhere. Models: Jepsen's queue checker
(lost, unexpected, duplicated, recovered) and Kafka's transaction system test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from reference.evidence.history import Record

__all__ = ["Verdict", "check"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Counts of events, with the ids behind every count that should be zero.

    ``attempted``: commits begun. ``acknowledged``: commits known to have happened. ``delivered`` and ``applied``:
    distinct events. ``lost``: acknowledged and never delivered. ``unexpected``: delivered though never committed.
    ``duplicates``: deliveries to one group beyond an event's first. ``applied_twice``: events whose effect happened
    more than once. ``out_of_order``: events first delivered behind a later one of their key, as the deliveries'
    keys have it. ``recovered``: outcome unknown, turned out delivered. ``max_lag``: the highest depth sampled.
    """

    attempted: int
    acknowledged: int
    delivered: int
    applied: int
    duplicates: int
    recovered: int
    max_lag: int
    lost_ids: tuple[str, ...] = ()
    unexpected_ids: tuple[str, ...] = ()
    applied_twice_ids: tuple[str, ...] = ()
    out_of_order_ids: tuple[str, ...] = ()

    @property
    def lost(self) -> int:
        return len(self.lost_ids)

    @property
    def unexpected(self) -> int:
        return len(self.unexpected_ids)

    @property
    def applied_twice(self) -> int:
        return len(self.applied_twice_ids)

    @property
    def out_of_order(self) -> int:
        return len(self.out_of_order_ids)

    @property
    def clean(self) -> bool:
        """Nothing lost, nothing invented, nothing applied twice, order kept. Duplicate deliveries are allowed."""
        return not (self.lost or self.unexpected or self.applied_twice or self.out_of_order)

    def __str__(self) -> str:
        return (
            f"committed {self.acknowledged} · delivered {self.delivered} · lost {self.lost} · unexpected {self.unexpected}"
            f" · duplicates {self.duplicates} · applied twice {self.applied_twice}"
            f" · out of order {self.out_of_order}"
        )

    def __repr__(self) -> str:
        return str(self)


def check(history: Iterable[Record]) -> Verdict:
    """Judge a whole history, after everything has been given the time to arrive."""
    records = list(history)
    phases = ("invoke", "ok", "fail", "info")
    commits = {phase: {r.event for r in records if r.op == "commit" and r.phase == phase} for phase in phases}
    deliveries = [r for r in records if r.op == "deliver" and r.phase == "ok"]
    delivered = {r.event for r in deliveries}
    applications = Counter((r.group, r.event) for r in records if r.op == "apply" and r.phase == "ok")
    acknowledged = commits["ok"]
    unknown = (commits["invoke"] | commits["info"]) - commits["ok"] - commits["fail"]  # begun, and its writer told no end
    return Verdict(
        attempted=len(commits["invoke"] | acknowledged | commits["fail"] | unknown),
        acknowledged=len(acknowledged),
        delivered=len(delivered),
        applied=len({event for _, event in applications}),
        duplicates=len(deliveries) - len({(r.group, r.event) for r in deliveries}),
        recovered=len(unknown & delivered),
        max_lag=int(max((r.value or 0 for r in records if r.op == "lag"), default=0)),
        lost_ids=tuple(sorted(acknowledged - delivered)),
        unexpected_ids=tuple(sorted(delivered - acknowledged - unknown)),
        applied_twice_ids=tuple(sorted({event for (_, event), times in applications.items() if times > 1})),
        out_of_order_ids=_out_of_order(records, deliveries),
    )


def _out_of_order(records: list[Record], deliveries: list[Record]) -> tuple[str, ...]:
    """Events whose first delivery to a group came after that of a later event of the same key.

    A redelivery of an older event is a duplicate, not a reordering: the inbox absorbs it.
    """
    committed = {r.event: r.seq for r in records if r.op == "commit" and r.seq is not None}
    highest: dict[tuple[str, str], int] = {}
    seen: set[tuple[str, str]] = set()
    late: list[str] = []
    for record in deliveries:
        seq = committed.get(record.event, record.seq)
        if seq is None or (record.group, record.event) in seen:
            continue
        seen.add((record.group, record.event))
        if seq < highest.get((record.group, record.key), 0):
            late.append(record.event)
        highest[(record.group, record.key)] = max(seq, highest.get((record.group, record.key), 0))
    return tuple(late)
