"""Clean histories made wrong in exactly one way: the seeds of the proof that the checker sees what is there.

A :class:`~tests.evidence.worlds.World` and a source of chance enter; the edited records leave, with every anomaly that must be
named because of the edit, as (anomaly, event, group), and no other may be. ``None``: this world has nothing to edit so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from random import Random
from typing import Any, Final

from reference.evidence.history import Record
from tests.evidence.worlds import World

__all__ = ["FAMILIES", "Facts", "Family", "Mutated", "Mutation", "recount"]

Named = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Mutated:
    """Edited records, and what must be named in them."""

    records: list[Record]
    expected: set[Named] = field(default_factory=set)


Mutation = Callable[["Facts", Random], Mutated | None]


def recount(records: Sequence[Record], write: str) -> dict[str, int]:
    """Duplicates and recovered, counted the short way."""
    handed = Counter((r.group, r.event) for r in records if r.op == "deliver")
    phases: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        if record.op == write:
            phases[record.event][record.phase] += 1
    recovered = {
        event for _, event in handed if (n := phases[event]) and not n["ok"] and (n["info"] or n["invoke"] > n["fail"])
    }
    return {"duplicates": handed.total() - len(handed), "recovered": len(recovered)}


class Facts:
    """What a mutation wants to know of a clean history, read from its records."""

    def __init__(self, world: World) -> None:
        self.world, self.shape, self.records = world, world.shape, world.records
        self.write = "commit" if world.shape.commits else "publish"
        self.handed: dict[tuple[str, str], list[int]] = defaultdict(list)  # (group, event) → places of its deliveries
        self.effects: dict[tuple[str, str], list[int]] = defaultdict(list)
        self.written: dict[str, list[int]] = defaultdict(list)
        self.where: dict[str, set[tuple[int, int]]] = defaultdict(set)
        for place, record in enumerate(self.records):
            at = (record.group, record.event)
            if record.op == "deliver":
                self.handed[at].append(place)
            elif record.op == "apply" and record.phase == "ok":
                self.effects[at].append(place)
            elif record.op == self.write:
                self.written[record.event].append(place)
            if record.offset is not None and record.partition is not None:
                self.where[record.event].add((record.partition, record.offset))

    def groups(self, event: str) -> list[str]:
        """Those it was delivered to."""
        return [group for group, handed in self.handed if handed == event]

    def known(self, event: str) -> bool:
        """Its write is known to have happened."""
        return any(self.records[place].phase == "ok" for place in self.written[event])

    def confirmed(self, event: str) -> bool:
        return self.known(event) or any(r.op == "publish" and r.phase == "ok" and r.event == event for r in self.records)

    def there_for(self, group: str, event: str) -> bool:
        """Whether the group had joined the event's topic before it was written, or is there from the beginning."""
        topic = self.world.said(self.world.events[event].topic)
        for place, record in enumerate(self.records):
            if record.op == "join" and (record.group, record.topic) == (group, topic):
                return record.note != "latest" or self.written[event][0] > place
        return True

    def before(self, a: str, b: str) -> bool:
        """Whether the records tell that ``a`` was written before ``b``."""
        if self.shape.numbers != "none":
            first, second = self.world.events[a].seq, self.world.events[b].seq
            return first is not None and second is not None and first < second
        ended = [self.records[p].at for p in self.written[a] if self.records[p].phase == "ok"]
        began = [self.records[p].at for p in self.written[b] if self.records[p].phase == "invoke"]
        return bool(ended) and bool(began) and ended[0] < began[0]

    def same_key(self, events: Iterable[str]) -> list[list[str]]:
        """The events, split by topic and key, in the order given."""
        split: dict[tuple[str, str], list[str]] = defaultdict(list)
        for event in events:
            split[self.world.events[event].topic, self.world.events[event].key].append(event)
        return list(split.values())

    def reads(self, group: str, topic: str, records: Iterable[Record]) -> bool:
        """Whether the records tell that the group is there, and reads the topic."""
        return any(r.op in ("join", "deliver") and (r.group, r.topic) == (group, topic) for r in records)

    def without(self, group: str, event: str) -> list[Record]:
        return [r for r in self.records if (r.group, r.event) != (group, event)]

    def seen(self, records: list[Record], event: str) -> list[Record]:
        """The records, and where none of them tells the event's place any more, one that does."""
        if any(r.event == event and r.offset is not None for r in records):
            return records
        shown = next(r for r in self.records if r.event == event and r.offset is not None)
        look = replace(shown, op="read", phase="ok", group="", process="observer", attempt=None, seq=None, at=records[-1].at)
        return [*records, look]


def _insert(records: Sequence[Record], at: int, *new: Record) -> list[Record]:
    """Put in before ``at``, at the time of what stands before."""
    now = records[at - 1].at if at else 0.0
    return [*records[:at], *(replace(record, at=now) for record in new), *records[at:]]


def _behind(records: Sequence[Record], place: int, random: Random) -> int:
    return random.randint(place + 1, len(records))


def _pick(random: Random, choices: Sequence[Any]) -> Any:
    return random.choice(choices) if choices else None


# -- lost, invented, aborted --------------------------------------------------------------------------------------------------


def never_published(facts: Facts, random: Random) -> Mutated | None:
    """The relay dropped it: nobody receives it, and no log holds it."""
    nacked = {r.event for r in facts.records if r.op == "nack"}  # that sent readers back to others as well
    event = _pick(random, [e for e in facts.world.events if facts.known(e) and facts.groups(e) and e not in nacked])
    if event is None:
        return None
    gone = ("deliver", "ack", "nack", "apply", "skip", "read")
    records = [
        r for r in facts.records
        if r.event != event or not (r.op in gone or (r.op == "publish" != facts.write and r.phase != "invoke"))
    ]  # fmt: skip
    topic = facts.world.said(facts.world.events[event].topic)
    if not any(r.op in ("join", "deliver") for r in records):
        return Mutated(records, {("lost", event, "")})
    owed = [g.name for g in facts.world.groups if facts.reads(g.name, topic, records) and facts.there_for(g.name, event)]
    return Mutated(records, {("lost", event, group) for group in owed}) if owed else None


def not_delivered(facts: Facts, random: Random) -> Mutated | None:
    """One group of several never gets it; the broker numbers nothing, so no poll shows it."""
    topic_of = {e: facts.world.said(known.topic) for e, known in facts.world.events.items()}
    found = [
        (group, event) for group, event in facts.handed
        if facts.confirmed(event) and facts.there_for(group, event)
        and facts.reads(group, topic_of[event], facts.without(group, event))
    ]  # fmt: skip
    if not found:
        return None
    group, event = random.choice(found)
    return Mutated(facts.without(group, event), {("lost", event, group)})


def never_written(facts: Facts, random: Random) -> Mutated | None:
    """What was delivered was never committed."""
    event = _pick(random, [e for e in facts.written if facts.groups(e) and len(facts.written) > 1])
    if event is None:
        return None
    records = [r for r in facts.records if (r.op, r.event) != (facts.write, event)]
    return Mutated(records, {("unexpected", event, group) for group in facts.groups(event)})


def from_nowhere(facts: Facts, random: Random) -> Mutated | None:
    """A group is handed an event that nobody has ever heard of, and works on it."""
    place = _pick(random, [place for places in facts.handed.values() for place in places])
    if place is None:
        return None
    like = replace(facts.records[place], event="ghost", key="haunted", offset=None, attempt=None)
    applies = any(group == like.group for group, _ in facts.effects)
    work = [replace(like, op=op) for op in (random.choice(((), ("apply", "ack"))) if applies else ())]
    records = _insert(facts.records, _behind(facts.records, place, random), like, *work)
    return Mutated(records, {("unexpected", "ghost", like.group)})


def rolled_back(facts: Facts, random: Random) -> Mutated | None:
    """It was delivered, and its write failed, every attempt of it."""
    ended = [
        e for e, places in facts.written.items()
        if facts.groups(e) and 2 * sum(facts.records[p].phase == "invoke" for p in places) == len(places)
    ]  # fmt: skip
    event = _pick(random, ended)
    if event is None:
        return None
    records = [
        replace(r, phase="fail") if (r.op, r.event) == (facts.write, event) and r.phase != "invoke" else r for r in facts.records
    ]
    return Mutated(records, {("aborted read", event, group) for group in facts.groups(event)})


# -- effects ------------------------------------------------------------------------------------------------------------------


def applied_again(facts: Facts, random: Random) -> Mutated | None:
    """The effect happens again, at once or much later; or instead of a skip."""
    at = _pick(random, list(facts.effects))
    if at is None:
        return None
    first = facts.effects[at][0]
    skips = [p for p, r in enumerate(facts.records) if r.op == "skip" and (r.group, r.event) == at]
    if skips and random.random() < 0.5:
        place = random.choice(skips)
        again = replace(facts.records[place], op="apply", offset=None)
        records = [*facts.records[:place], again, *facts.records[place + 1 :]]
    else:
        again = replace(facts.records[first], process=random.choice((facts.records[first].process, "another")))
        records = _insert(facts.records, _behind(facts.records, first, random), *[again] * random.randint(1, 2))
    return Mutated(records, {("applied twice", at[1], at[0])})


def acked_unapplied(facts: Facts, random: Random) -> Mutated | None:
    """Acked without an effect: no attempt at all, or an inbox that says wrongly that it has been."""
    appliers = Counter(group for group, _ in facts.effects)
    acks = {(r.group, r.event): p for p, r in reversed(list(enumerate(facts.records))) if r.op == "ack"}
    at = _pick(random, [at for at in facts.effects if at in acks and appliers[at[0]] > 1])
    if at is None:
        return None
    ack = facts.records[acks[at]]
    records = [r for r in facts.records if (r.group, r.event) != at or r.op not in ("apply", "skip")]
    if random.random() < 0.5:
        begun = replace(ack, op="apply", phase="invoke", offset=None, process="handler")
        skipped = [begun, replace(begun, op="skip", phase="ok")]
        place = records.index(ack)
        records = _insert(records, place, *(skipped if facts.shape.process_named else skipped[1:]))
    return Mutated(records, {("unapplied", at[1], at[0])})


# -- order --------------------------------------------------------------------------------------------------------------------


def _renamed(records: Iterable[Record], a: str, b: str, touches: Callable[[Record], bool], facts: Facts) -> list[Record]:
    """Where it touches, each of two events is now the other, with the other's number."""
    other = {a: b, b: a}
    return [
        replace(r, event=other[r.event], seq=r.seq and facts.world.events[other[r.event]].seq)
        if r.event in other and touches(r) else r
        for r in records
    ]  # fmt: skip


def logged_the_wrong_way_round(facts: Facts, random: Random) -> Mutated | None:
    """Two events of a key stand in the log the wrong way round, and every group gets them so."""
    arrivals = {
        group.name: sorted((e for g, e in facts.handed if g == group.name), key=lambda e, g=group.name: facts.handed[g, e][0])
        for group in facts.world.groups
    }
    neighbours: dict[str, set[tuple[str, str]]] = {
        group: {pair for chain in facts.same_key(events) for pair in pairwise(chain)} for group, events in arrivals.items()
    }
    found = [
        (a, b) for a, b in sorted(set().union(*neighbours.values()))
        if facts.before(a, b)
        and all((a, b) in neighbours[g] or not {a, b} & set(arrivals[g]) for g in arrivals)
    ]  # fmt: skip
    if not found:
        return None
    a, b = random.choice(found)
    records = _renamed(facts.records, a, b, lambda r: r.op != facts.write, facts)
    return Mutated(records, {("out of order", a, group) for group in facts.groups(a)})


def applied_the_wrong_way_round(facts: Facts, random: Random) -> Mutated | None:
    """A group receives two events of a key in order, and applies them the wrong way round."""

    def touched(event: str, group: str) -> list[int]:
        return [p for p, r in enumerate(facts.records) if (r.op, r.group, r.event) == ("apply", group, event)]

    found = []
    for group in facts.world.groups:
        applied = sorted((e for g, e in facts.effects if g == group.name), key=lambda e: facts.effects[group.name, e][0])
        for chain in facts.same_key(applied):
            for n, (a, b) in enumerate(pairwise(chain)):
                begun, known = touched(a, group.name)[0], facts.handed[group.name, b][0]
                apart = known < begun and facts.effects[group.name, a][0] < touched(b, group.name)[0]
                if apart and facts.before(a, b) and not any(facts.before(later, b) for later in chain[n + 2 :]):
                    found.append((group.name, a, b))
    if not found:
        return None
    group, a, b = random.choice(found)
    records = _renamed(facts.records, a, b, lambda r: r.op == "apply" and r.group == group, facts)
    return Mutated(records, {("out of order", a, group)})


# -- logs and their readers -----------------------------------------------------------------------------------------------------


def two_events_in_one_place(facts: Facts, random: Random) -> Mutated | None:
    """Somebody sees another event where one is known to stand; whichever was seen first is taken to be the right one."""
    placed = [p for p, r in enumerate(facts.records) if r.op in ("deliver", "read") and r.offset is not None]
    place = _pick(random, placed)
    if place is None:
        return None
    shown = facts.records[place]
    topic = facts.world.events[shown.event].topic
    chain = [e for e, known in facts.world.events.items() if known.topic == topic]
    other = random.choice(["ghost", *(e for e in chain if e != shown.event and facts.groups(e))])
    key = "haunted" if other == "ghost" else facts.world.events[other].key
    look = replace(shown, op="read", event=other, key=key, group="", process="observer", attempt=None, seq=None)
    if random.random() < 0.5:
        records = _insert(facts.records, _behind(facts.records, place, random), look)
        return Mutated(records, {("offset inconsistent", other, "")})
    here = (shown.topic, shown.partition, shown.offset)
    sightings = [
        r for r in facts.records if r.op in ("deliver", "read", "publish") and (r.topic, r.partition, r.offset) == here
    ]
    expected = {("offset inconsistent", shown.event, r.group if r.op == "deliver" else "") for r in sightings}
    if any(other not in {e for g, e in facts.handed if g == group.name} for group in facts.world.groups) and other != "ghost":
        return None  # to a group that never had the other one, this place would be unread
    return Mutated(_insert(facts.records, 0, look), expected)


def _runs(facts: Facts) -> list[list[int]]:
    """For every reader and partition, its deliveries between what allows it to jump, where the broker calls none a repetition."""
    runs: list[list[int]] = []
    open_runs: dict[tuple[str, str], dict[tuple[str, int | None], list[int]]] = defaultdict(dict)
    for place, r in enumerate(facts.records):
        reader = (r.process, r.group)
        if r.op in ("assign", "join", "nack") or (r.op == "deliver" and (r.attempt or 1) > 1):
            open_runs.pop(reader, None)
        elif r.op == "deliver" and r.process and r.offset is not None:
            at = (r.topic, r.partition)
            if at not in open_runs[reader]:
                runs.append([])
                open_runs[reader][at] = runs[-1]
            open_runs[reader][at].append(place)
    return runs


def read_again(facts: Facts, random: Random) -> Mutated | None:
    """A member is handed again, where nothing sent it back, what it had last; or, as its last, something older."""
    runs = _runs(facts)
    run = _pick(random, runs)
    if run is None:
        return None
    at = random.randrange(len(run))
    again = facts.records[run[at]]
    if at and at == len(run) - 1 and random.random() < 0.5:  # nothing is read behind it: or what lies between were skipped
        reader = (again.process, again.group)
        behind = facts.records[run[at] + 1 :]
        if not any((r.process, r.group) == reader and r.op in ("deliver", "nack") for r in behind):
            again = facts.records[run[random.randrange(at)]]
    records = _insert(facts.records, run[at] + 1, again)
    return Mutated(records, {("nonmonotonic poll", again.event, again.group)})


def jumped_over(facts: Facts, random: Random) -> Mutated | None:
    """A member goes past an event: another was handed it, which is only a skip, or nobody, which is a loss as well."""
    middles = [place for run in _runs(facts) for place in run[1:-1]]
    place = _pick(random, middles)
    if place is None:
        return None
    r = facts.records[place]
    expected = {("skipped poll", r.event, r.group)}
    nacked = any((n.op, n.event, n.group) == ("nack", r.event, r.group) for n in facts.records)
    if random.random() < 0.5 or len(facts.where[r.event]) > 1 or nacked:
        stray = replace(r, process="stray")
        return Mutated([*facts.records[:place], stray, *facts.records[place + 1 :]], expected)
    if facts.confirmed(r.event) and facts.there_for(r.group, r.event):
        expected.add(("lost", r.event, r.group))
    return Mutated(facts.seen(facts.without(r.group, r.event), r.event), expected)


def not_read_to_the_end(facts: Facts, random: Random) -> Mutated | None:
    """A group is never handed the last of a partition; where its write is known to have happened, it is lost as well."""
    placed = sorted(
        {(r.topic, r.partition, r.offset, r.event) for r in facts.records if r.offset is not None and r.partition is not None}
    )
    tails = [list(of)[-1] for _, of in groupby(placed, key=lambda one: one[:2])]
    found = [
        (group, event) for topic, _, _, event in tails for group in facts.groups(event)
        if len(facts.where[event]) == 1 and facts.there_for(group, event)
        and facts.reads(group, topic, facts.without(group, event))
    ]  # fmt: skip
    if not found:
        return None
    group, event = random.choice(found)
    expected = {("unseen tail", event, group)}
    if facts.confirmed(event):
        expected.add(("lost", event, group))
    return Mutated(facts.seen(facts.without(group, event), event), expected)


# -- what is allowed ------------------------------------------------------------------------------------------------------------


def delivered_again(facts: Facts, random: Random) -> Mutated | None:
    """The broker repeats itself, anywhere behind the first: at least once is what it promises."""
    place = _pick(random, [place for places in facts.handed.values() for place in places])
    if place is None:
        return None
    again = replace(facts.records[place], offset=None, process=random.choice(("", "somebody")))
    return Mutated(_insert(facts.records, _behind(facts.records, place, random), *[again] * random.randint(1, 3)))


def unanswered(facts: Facts, random: Random) -> Mutated | None:
    """Nobody was told that the write had happened, and it was delivered."""
    event = _pick(random, [e for e in facts.written if facts.known(e) and facts.groups(e)])
    if event is None:
        return None
    silent = random.random() < 0.5
    ended = [(r.op, r.event, r.phase) == (facts.write, event, "ok") for r in facts.records]
    return Mutated(
        [replace(r, phase="info") if end else r for r, end in zip(facts.records, ended, strict=True) if not (end and silent)]
    )


@dataclass(frozen=True, slots=True)
class Family:
    """Edits that one kind of world has room for: each of them in at least one of ``tries`` worlds.

    ``fixed`` is what the shapes of these worlds have in common.
    """

    edits: dict[str, Mutation]
    fixed: dict[str, Any] = field(default_factory=dict)
    tries: float = 1.6


FAMILIES: Final = {
    "any": Family({
        "lost: never published": never_published,
        "unexpected: never written": never_written,
        "unexpected: from nowhere": from_nowhere,
        "aborted read": rolled_back,
        "applied twice": applied_again,
        "unapplied": acked_unapplied,
        "duplicates": delivered_again,
        "recovered": unanswered,
    }),
    "numbers nothing": Family({"lost: one group": not_delivered}, {"offsets": False}, 1.4),
    "numbers its log": Family({
        "offset inconsistent": two_events_in_one_place,
        "nonmonotonic poll": read_again,
        "skipped poll": jumped_over,
        "unseen tail": not_read_to_the_end,
    }, {"offsets": True, "process_named": True}, 2.4),
    "numbered": Family({
        "out of order: delivered, by number": logged_the_wrong_way_round,
        "out of order: applied, by number": applied_the_wrong_way_round,
    }, {"numbers": ("both", "writes", "deliveries"), "keys": 1, "topics": 1}, 2.3),
    "by the clock": Family({
        "out of order: delivered, by the clock": logged_the_wrong_way_round,
        "out of order: applied, by the clock": applied_the_wrong_way_round,
    }, {"numbers": ("none",), "keys": 1, "topics": 1}, 4.6),
}  # fmt: skip
