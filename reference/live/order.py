"""Per-key order, judged as deliveries come in.

Commits and deliveries enter one by one; the events that reached a group behind a later one of their key leave. Promises
the same answer, in the same order, as :func:`reference.evidence.checker.check` gives for the whole history, although a
commit may be recorded after the delivery it explains: such a commit makes its key be judged again from the start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from reference.evidence.history import Record

__all__ = ["Order"]


@dataclass(slots=True, eq=False)
class _Queue:
    """What one group received of one key: (position in the history, event, seq on the record)."""

    group: str
    arrivals: list[tuple[int, str, int | None]] = field(default_factory=list)
    judged: int = 0
    highest: int = 0


class Order:
    """First deliveries per group and key, and which of them came late. A redelivery is never late."""

    def __init__(self) -> None:
        self._committed: dict[str, int] = {}
        self._queues: dict[tuple[str, str], _Queue] = {}
        self._firsts: dict[tuple[str, str], list[tuple[int, int | None]]] = {}
        self._queues_of: dict[str, list[_Queue]] = {}
        self._open: dict[int, _Queue] = {}
        self._late: dict[tuple[str, str], tuple[int, int]] = {}

    def committed(self, record: Record) -> None:
        """Learn an event's place in commit order."""
        known = self._committed.get(record.event)
        if record.seq is None or known == record.seq:
            return
        self._committed[record.event] = record.seq
        for queue in self._queues_of.get(record.event, ()):
            if known is None and [seq for _, seq in self._firsts[queue.group, record.event]] == [record.seq]:
                continue  # the delivery said so already
            queue.judged = queue.highest = 0
            self._open[id(queue)] = queue

    def delivered(self, record: Record, position: int) -> None:
        """Note a delivery, unless an earlier one of this event to this group already decides its place."""
        firsts = self._firsts.setdefault((record.group, record.event), [])
        if firsts and (firsts[-1][1] is not None or record.event in self._committed):
            return
        firsts.append((position, record.seq))
        queue = self._queues.setdefault((record.group, record.key), _Queue(record.group))
        queue.arrivals.append((position, record.event, record.seq))
        self._queues_of.setdefault(record.event, []).append(queue)
        self._open[id(queue)] = queue

    def judge(self) -> set[str]:
        """Judge what came in since the last call; returns the events whose lateness changed."""
        changed: set[str] = set()
        for queue in self._open.values():
            changed |= self._judge(queue)
        self._open.clear()
        return changed

    def behind(self, event: str, groups: Iterable[str]) -> dict[str, int]:
        """The groups that received this event late, with the seq that had overtaken it."""
        return {group: self._late[group, event][1] for group in groups if (group, event) in self._late}

    @property
    def late(self) -> tuple[str, ...]:
        """Late events in order of delivery; an event late in two groups is there twice."""
        return tuple(event for (_, event), _ in sorted(self._late.items(), key=lambda item: item[1][0]))

    def _judge(self, queue: _Queue) -> set[str]:
        changed = set() if queue.judged else self._forget(queue)
        for position, event, hint in queue.arrivals[queue.judged :]:
            seq = self._committed.get(event, hint)
            if seq is None or position != self._first(queue.group, event):
                continue
            if seq < queue.highest:
                self._late[queue.group, event] = (position, queue.highest)
                changed.add(event)
            queue.highest = max(queue.highest, seq)
        queue.judged = len(queue.arrivals)
        return changed

    def _forget(self, queue: _Queue) -> set[str]:
        found = {event for position, event, _ in queue.arrivals if self._late.get((queue.group, event), (0, 0))[0] == position}
        for event in found:
            del self._late[queue.group, event]
        return found

    def _first(self, group: str, event: str) -> int:
        """The position that counts: the first delivery, or without a recorded commit the first that carries a seq."""
        firsts = self._firsts[group, event]
        return firsts[0][0] if event in self._committed else firsts[-1][0]
