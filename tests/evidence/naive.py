"""``docs/history.md`` once more, as a program that nobody would run on a large history: a second opinion on the checker.

A history enters; for every class of anomaly the (event, group) pairs that show it leave. Each definition is looked up in all
the records, again and again, and nothing is carried from one record to the next but where a reader stands.
"""

from __future__ import annotations

from collections import Counter
from math import inf

from reference.evidence.history import Record

__all__ = ["Opinion"]

Pairs = set[tuple[str, str]]
NO_EVENTS = ("join", "assign", "lag", "fault")


class Opinion:
    """What is wrong with a history, by the words of the document."""

    def __init__(self, records: list[Record]) -> None:
        self.records = records
        self.told = [r for r in records if r.event and r.op not in NO_EVENTS]
        self.events = list(dict.fromkeys(r.event for r in self.told))
        self.write = "commit" if any(r.op == "commit" for r in self.told) else "publish"
        self.groups = list(dict.fromkeys(r.group for r in records if self._presence(r)))
        self.appliers = {r.group for r in self.told if (r.op, r.phase) == ("apply", "ok")}

    # -- who is there, and for what -----------------------------------------------------------------------------------------

    @staticmethod
    def _presence(r: Record) -> bool:
        return r.phase == "ok" and (r.op == "join" or (r.op == "deliver" and bool(r.event)))

    def joined(self, group: str) -> dict[str, int]:
        """The group's topics, each with the place of the join from which on it is owed events; an empty one for the first."""
        since: dict[str, int] = {}
        for place, r in enumerate(self.records, start=1):
            if self._presence(r) and r.group == group:
                from_now = place if (r.op, r.note) == ("join", "latest") else 0
                since.setdefault("", from_now)
                since.setdefault(r.topic, from_now if r.op == "join" else since[""])
        return since

    def of(self, event: str, *ops: str) -> list[Record]:
        return [r for r in self.told if r.event == event and r.op in ops]

    def topics(self, event: str) -> set[str]:
        return {r.topic for r in self.told if r.event == event and r.topic}

    def owed(self, event: str, group: str) -> bool:
        first = next((p for p, r in enumerate(self.records, start=1) if r.event == event and r.op in ("commit", "publish")), 0)
        joined = self.joined(group)
        named = {topic: since for topic, since in joined.items() if topic}
        if not named:
            since = joined[""]
        elif not self.topics(event):
            since = max(named.values())
        elif shared := self.topics(event) & set(named):
            since = min(named[topic] for topic in shared)
        else:
            return False
        return not since or first > since

    def received(self, event: str, group: str) -> bool:
        return any(r.group == group and r.phase == "ok" for r in self.of(event, "deliver"))

    def receivers(self, event: str) -> list[str]:
        return [group for group in self.groups if self.received(event, group)]

    # -- what became of a write -----------------------------------------------------------------------------------------------

    def happened(self, event: str, op: str) -> bool:
        return any(r.phase == "ok" for r in self.of(event, op))

    def unknown(self, event: str) -> bool:
        open_attempts = 0
        for r in self.of(event, self.write):
            open_attempts = max(0, open_attempts + (1 if r.phase == "invoke" else -1))
        answers = {r.phase for r in self.of(event, self.write)}
        return "ok" not in answers and (open_attempts > 0 or "info" in answers)

    @property
    def recovered(self) -> set[str]:
        return {event for event in self.events if self.receivers(event) and self.unknown(event)}

    @property
    def duplicates(self) -> int:
        handed = Counter((r.event, r.group) for r in self.told if (r.op, r.phase) == ("deliver", "ok"))
        return handed.total() - len(handed)

    @property
    def lost(self) -> Pairs:
        due = [event for event in self.events if self.happened(event, self.write) or self.happened(event, "publish")]
        if not self.groups:
            return {(event, "") for event in due}
        return {(e, g) for e in due for g in self.groups if self.owed(e, g) and not self.received(e, g)}

    @property
    def unexpected(self) -> Pairs:
        return {(e, g) for e in self.events for g in self.receivers(e) if not self.of(e, self.write)}

    @property
    def aborted_read(self) -> Pairs:
        return {
            (e, g) for e in self.events for g in self.receivers(e)
            if any(r.phase == "fail" for r in self.of(e, self.write))
            and not self.happened(e, self.write) and not self.unknown(e)
        }  # fmt: skip

    # -- effects ----------------------------------------------------------------------------------------------------------------

    @property
    def applied_twice(self) -> Pairs:
        times = Counter((r.event, r.group) for r in self.told if (r.op, r.phase) == ("apply", "ok"))
        return {at for at, n in times.items() if n > 1}

    def may_be_applied(self, event: str, group: str) -> bool:
        mine = [r for r in self.of(event, "apply", "skip") if r.group == group]
        for process in {r.process for r in mine}:
            begun = 0
            for r in (r for r in mine if r.process == process):
                if r.op == "skip":
                    begun = max(0, begun - 1) if process else begun
                else:
                    begun = begun + 1 if r.phase == "invoke" else max(0, begun - 1)
            if begun:
                return True
        return any(r.op == "apply" and r.phase != "invoke" for r in mine)

    @property
    def unapplied(self) -> Pairs:
        acked = {(r.event, r.group) for r in self.told if (r.op, r.phase) == ("ack", "ok")}
        return {(e, g) for e, g in acked if g in self.appliers and not self.may_be_applied(e, g)}

    # -- order ------------------------------------------------------------------------------------------------------------------

    def known(self, event: str, name: str, place: int) -> str:
        """The first key, or topic, that any record up to this place told of the event."""
        told = (r for r in self.records[: place + 1] if r.event == event and r.op not in NO_EVENTS)
        return next((getattr(r, name) for r in told if getattr(r, name)), "")

    def arrivals(self, op: str) -> dict[tuple[str, str, str], list[tuple[int, int, str]]]:
        """By group, topic and key: where the event's first arrival began and ended."""
        found: dict[tuple[str, str, str], list[tuple[int, int, str]]] = {}
        seen: set[tuple[str, str]] = set()
        for place, r in enumerate(self.records):
            if (r.op, r.phase) != (op, "ok") or not r.event or (r.group, r.event) in seen:
                continue
            key = r.key or self.known(r.event, "key", place)
            if key:
                seen.add((r.group, r.event))
                topic = r.topic if op == "deliver" else self.known(r.event, "topic", place)
                began = place if op == "deliver" else self.began(place)
                found.setdefault((r.group, topic, key), []).append((began, place, r.event))
        return found

    def began(self, place: int) -> int:
        """Where the effect that ended here began: the last beginning of the same process that nothing ended between."""
        end = self.records[place]
        for before in range(place - 1, -1, -1):
            r = self.records[before]
            if r.op in ("apply", "skip") and (r.process, r.group, r.event) == (end.process, end.group, end.event):
                return before if r.phase == "invoke" else place
        return place

    def number(self, event: str, op: str) -> int | None:
        written = [r.seq for r in self.of(event, "commit", "publish") if r.seq is not None]
        if written:
            return written[-1]
        for place, r in enumerate(self.records):
            told = (r.op, r.phase, r.event) == (op, "ok", event) and r.seq is not None
            if told and (r.key or self.known(event, "key", place)):
                return r.seq
        return None

    def times(self, event: str) -> tuple[float, float]:
        writes = self.of(event, self.write)
        ended = next((n for n, r in enumerate(writes) if r.phase == "ok"), len(writes))
        began = next((r.at for r in writes[:ended] if r.phase == "invoke"), -inf)
        return began, writes[ended].at if ended < len(writes) else inf

    def later(self, other: str, event: str, op: str) -> bool:
        """Whether ``other`` was written after ``event``."""
        numbers = self.number(event, op), self.number(other, op)
        if None not in numbers:
            return bool(numbers[1] > numbers[0])  # type: ignore[operator]
        return numbers == (None, None) and self.times(event)[1] < self.times(other)[0]

    @property
    def out_of_order(self) -> Pairs:
        return {
            (event, group)
            for op in ("deliver", "apply") for (group, _, _), queue in self.arrivals(op).items()
            for began, _, event in queue for _, ended, other in queue
            if ended < began and self.later(other, event, op)
        }  # fmt: skip

    # -- logs and their readers --------------------------------------------------------------------------------------------

    @staticmethod
    def _placed(r: Record, *ops: str) -> bool:
        return r.op in ops and r.phase == "ok" and r.partition is not None and r.offset is not None

    @property
    def log(self) -> dict[tuple[str, int | None, int], str]:
        found: dict[tuple[str, int | None, int], str] = {}
        for r in self.records:
            if self._placed(r, "publish", "deliver", "read"):
                assert r.offset is not None
                found.setdefault((r.topic, r.partition, r.offset), r.event)
        return found

    @property
    def offset_inconsistent(self) -> Pairs:
        log = self.log
        return {
            (r.event, r.group if r.op == "deliver" else "") for r in self.records
            if self._placed(r, "publish", "deliver", "read") and log[r.topic, r.partition, r.offset or 0] != r.event
        }  # fmt: skip

    def polls(self) -> tuple[Pairs, Pairs]:
        """Those that went back, and those that were skipped."""
        back: Pairs = set()
        skipped: Pairs = set()
        for process, group in {(r.process, r.group) for r in self.records if r.process}:
            mine = [r for r in self.records if (r.process, r.group) == (process, group)]
            for at in {(r.topic, r.partition) for r in mine if r.op == "deliver"}:
                stands: int | None = None
                for r in mine:
                    if r.op in ("assign", "join"):
                        stands = None
                    elif not self._placed(r, "deliver", "nack") or (r.topic, r.partition) != at:
                        continue
                    elif r.op == "nack":
                        stands = stands if stands is None else min(stands, (r.offset or 0) - 1)
                    elif (r.attempt or 1) > 1:
                        stands = stands if stands is None else max(stands, r.offset or 0)
                    else:
                        offset = r.offset or 0
                        if stands is not None and offset <= stands:
                            back.add((r.event, group))
                        elif stands is not None:
                            skipped |= {(e, group) for (*of, o), e in self.log.items() if (*of,) == at and stands < o < offset}
                        stands = offset
        return back, skipped

    @property
    def unseen_tail(self) -> Pairs:
        found: Pairs = set()
        for (topic, partition, offset), event in self.log.items():
            for group in self.groups:
                handed = [
                    r.offset for r in self.records
                    if self._placed(r, "deliver") and (r.topic, r.partition, r.group) == (topic, partition, group)
                ]  # fmt: skip
                named = {name for name in self.joined(group) if name}
                reads = not topic or not named or topic in named
                behind = offset > max((o for o in handed if o is not None), default=-inf)
                if reads and behind and event in self.events and not self.received(event, group) and self.owed(event, group):
                    found.add((event, group))
        return found

    def named(self) -> set[tuple[str, str, str]]:
        """Every anomaly, with its event and group."""
        back, skipped = self.polls()
        found = {
            "lost": self.lost, "unexpected": self.unexpected, "aborted read": self.aborted_read,
            "applied twice": self.applied_twice, "unapplied": self.unapplied, "out of order": self.out_of_order,
            "offset inconsistent": self.offset_inconsistent, "nonmonotonic poll": back, "skipped poll": skipped,
            "unseen tail": self.unseen_tail,
        }  # fmt: skip
        return {(anomaly, event, group) for anomaly, pairs in found.items() for event, group in pairs}
