"""Order per key, judged as arrivals come in.

Writes and arrivals enter one by one; the events that reached a group behind a later one of their key leave. Promises the
same answer at any moment as for the history so far judged at once, although a write may be recorded after the arrival it
explains: such a write makes its key be judged again from the start.

What is later is told by ``seq``, the writer's own numbering under the aggregate's lock. Events without it are judged by the
clock: one whose write began after another's had ended is later, and two writes that overlap have no order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Final

from reference.evidence.checker.anomaly import Anomaly, Finding
from reference.evidence.history import Record

__all__ = ["Order"]

_NEVER: Final = (-inf, inf)


@dataclass(slots=True, eq=False)
class _Leader:
    """Who was the latest of its kind so far: parallel lists of the places where that changed."""

    places: list[int] = field(default_factory=list)
    ranks: list[float] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def before(self, place: int) -> tuple[float, str]:
        at = bisect_left(self.places, place) - 1
        return (self.ranks[at], self.events[at]) if at >= 0 else (-inf, "")

    def add(self, place: int, rank: float, event: str) -> None:
        if not self.ranks or rank > self.ranks[-1]:
            self.places.append(place)
            self.ranks.append(rank)
            self.events.append(event)


@dataclass(slots=True, eq=False)
class _Queue:
    """What one group received, or applied, of one key: (place of its end, place of its beginning, event).

    ``key`` is with its topic: two aggregates of different kinds may well be called alike.
    """

    group: str
    key: tuple[str, str]
    arrivals: list[tuple[int, int, str]] = field(default_factory=list)
    judged: int = 0
    by_number: _Leader = field(default_factory=_Leader)
    by_clock: _Leader = field(default_factory=_Leader)


class Order:
    """First arrivals per group and key, and which of them came late. A repetition is never late."""

    def __init__(self, verb: str) -> None:
        self._verb = verb  # how a group's arrival reads in a sentence
        self._seqs: dict[str, int] = {}
        self._hints: dict[str, int] = {}
        self._times: dict[str, tuple[float, float]] = {}  # from when to when its write was under way
        self._commits = False  # else the publishes are the writes
        self._queues: dict[tuple[str, str, str], _Queue] = {}
        self._arrived: dict[tuple[str, str], _Queue] = {}  # by event and group
        self._groups: dict[str, None] = {}
        self._open: dict[tuple[str, str, str], _Queue] = {}
        self._late: dict[tuple[str, str], tuple[int, str]] = {}

    def written(self, record: Record) -> None:
        """Learn an event's place in the order of its key."""
        if record.op == "commit" and not self._commits:
            self._commits = True
            for event in self._times:  # so far by the clock of the publishes, which tells nothing of the order of commits
                self._again(event)
            self._times.clear()
        if record.seq is not None:
            if self._seqs.get(record.event) != record.seq:
                self._seqs[record.event] = record.seq
                if self._hints.get(record.event) != record.seq:
                    self._again(record.event)
        elif record.op == "commit" or not self._commits:
            self._timed(record)

    def _timed(self, record: Record) -> None:
        """Of several attempts the first beginning and the first success count: nothing is claimed that is not certain."""
        began, ended = self._times.get(record.event, _NEVER)
        if record.phase == "invoke" and began == -inf and ended == inf:
            self._times[record.event] = (record.at, inf)
        elif record.phase == "ok" and ended == inf:
            self._times[record.event] = (began, record.at)
        else:
            return
        self._again(record.event)

    def arrived(self, record: Record, key: tuple[str, str], place: int, began: int | None = None) -> None:
        """Note an arrival, under a topic and key, that ended at ``place`` in the history and began at ``began``, or at once."""
        event, group = record.event, record.group
        if record.seq is not None and event not in self._hints:
            self._hints[event] = record.seq
            if event not in self._seqs:
                self._again(event)
        if (event, group) in self._arrived:
            return
        at = (group, *key)
        queue = self._queues.get(at)
        if queue is None:
            queue = self._queues[at] = _Queue(group, key)
            self._groups[group] = None
        queue.arrivals.append((place, place if began is None else began, event))
        self._arrived[event, group] = self._open[at] = queue

    def judge(self) -> set[str]:
        """Judge what came in since the last call; returns the events whose lateness changed."""
        changed: set[str] = set()
        for queue in self._open.values():
            changed |= self._judge(queue)
        self._open.clear()
        return changed

    def overtaken(self, event: str, groups: Iterable[str]) -> dict[str, str]:
        """The groups that this event reached late, with the event that had overtaken it."""
        return {group: self._late[group, event][1] for group in groups if (group, event) in self._late}

    def seq(self, event: str) -> int | None:
        """The number that counts for this event."""
        return self._seqs.get(event, self._hints.get(event))

    @property
    def late(self) -> list[str]:
        """Late events in the order of their arrival."""
        return list(dict.fromkeys(event for (_, event), _ in sorted(self._late.items(), key=lambda item: item[1][0])))

    def findings(self) -> Iterator[Finding]:
        for (group, event), (_, other) in sorted(self._late.items(), key=lambda item: item[1][0]):
            yield Finding(anomaly=Anomaly.OUT_OF_ORDER, event=event, group=group, other=other, verb=self._verb)

    def _again(self, event: str) -> None:
        """What was judged with less knowledge of this event is judged anew."""
        for group in self._groups:
            queue = self._arrived.get((event, group))
            if queue is None:
                continue
            if queue.judged:
                queue.judged, queue.by_number, queue.by_clock = 0, _Leader(), _Leader()
            self._open[group, *queue.key] = queue

    def _judge(self, queue: _Queue) -> set[str]:
        changed = set() if queue.judged else self._forget(queue)
        for place, began, event in queue.arrivals[queue.judged :]:
            seq = self._seqs.get(event, self._hints.get(event))
            if seq is not None:
                highest, other = queue.by_number.before(began)
                queue.by_number.add(place, seq, event)
                late = seq < highest
            else:
                highest, other = queue.by_clock.before(began)
                times = self._times.get(event, _NEVER)
                queue.by_clock.add(place, times[0], event)
                late = times[1] < highest
            if late:
                self._late[queue.group, event] = (place, other)
                changed.add(event)
        queue.judged = len(queue.arrivals)
        return changed

    def _forget(self, queue: _Queue) -> set[str]:
        found = {event for _, _, event in queue.arrivals if (queue.group, event) in self._late}
        for event in found:
            del self._late[queue.group, event]
        return found
