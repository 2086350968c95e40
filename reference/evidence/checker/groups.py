"""Who was there: the groups of a history, the topics they read, and what each was therefore owed.

A group is known from its joins and its deliveries. One that joined late is owed what is written from then on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Final

from reference.evidence.checker.fate import Fate
from reference.evidence.history import Record

__all__ = ["Group", "Groups"]

FROM_NOW: Final = "latest"  # the note of a join after which a group is owed what is written from then on
FILTERED: Final = "filtered"  # the note of one that takes some messages only: which it is owed, nobody can tell


@dataclass(slots=True)
class Group:
    """Each topic with the place of the join from which on its events are owed; ``since``: the same, where none is named."""

    topics: dict[str, float] = field(default_factory=dict)
    since: float = 0


class Groups:
    """Grows with :meth:`join` and :meth:`learn`, which say whether what was known of events before may have changed by it."""

    def __init__(self) -> None:
        self._all: dict[str, Group] = {}
        self._of_topic: dict[str, dict[str, Group]] = {}  # with an empty name, the groups of which no topic is known

    def join(self, record: Record, position: int) -> bool:
        """A group subscribed; ``position`` is the record's place in the history."""
        if record.phase != "ok":
            return False
        since = {FROM_NOW: position, FILTERED: inf}.get(record.note, 0)
        return self.learn(record.group, record.topic, since=since)

    def learn(self, name: str, topic: str, *, since: float | None = None) -> bool:
        """The group is there, and reads the topic; ``since`` says from when on, where it is new to it."""
        news = False
        group = self._all.get(name)
        if group is None:
            group = self._all[name] = Group(since=since or 0)
            self._of_topic.setdefault("", {})[name] = group
            news = True
        if topic and topic not in group.topics:
            if not group.topics:
                del self._of_topic[""][name]
            group.topics[topic] = group.since if since is None else since
            self._of_topic.setdefault(topic, {})[name] = group
            news = True
        return news

    def owed(self, fate: Fate, group: Group) -> bool:
        """Whether the group was there for the event, as far as the history tells."""
        if fate.topics and group.topics:
            joined = [group.topics[topic] for topic in fate.topics if topic in group.topics]
            if not joined:
                return False
            since = min(joined)
        else:
            since = max(group.topics.values(), default=group.since)  # whatever topic it is of, it was there
        return since == 0 or (fate.first is not None and fate.first > since)

    def missing(self, fate: Fate) -> Iterator[str]:
        """The groups it was owed to and not delivered to; an empty name where there is no group at all."""
        if not self._all:
            yield ""
        for name, group in self._candidates(fate):
            if name not in fate.delivered and self.owed(fate, group):
                yield name

    def of_topic(self, topic: str) -> dict[str, Group]:
        """The groups that are known to read this topic, or of which no topic is known."""
        return {**self._of_topic.get(topic, {}), **self._of_topic.get("", {})} if topic else self._all

    def _candidates(self, fate: Fate) -> Iterator[tuple[str, Group]]:
        """The groups of its topics, and those that may be: with thousands of groups, most have nothing to do with it."""
        if not fate.topics:
            yield from self._all.items()
        elif len(fate.topics) == 1:
            yield from self._of_topic.get(fate.topics[0], {}).items()
            yield from self._of_topic.get("", {}).items()
        else:
            of = self._of_topic
            yield from {name: group for topic in (*fate.topics, "") for name, group in of.get(topic, {}).items()}.items()
