"""Clean histories, from a small model of a world that is right by construction.

A :class:`Shape` and a seed enter; :func:`live` plays writers, a relay, logs and groups of members, one small step at a time
and in random order, until nothing is left to do, and leaves the records that were told on the way. Much goes wrong in it
(:data:`TROUBLES`), and nothing that ``docs/history.md`` calls wrong. It knows nothing of the checker.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Literal

from reference.evidence.history import History, Record

__all__ = ["TROUBLES", "Shape", "World", "any_shape", "live"]

TROUBLES: Final = (
    "commit fails", "commit unknown", "writer killed", "commits again",
    "publish refused", "publish unknown", "relay killed", "relay killed before mark", "zombie relay",
    "nack", "effect raises", "effect unknown", "effect passed over", "member killed", "rebalance", "new member",
    "slow member", "marker",
)  # fmt: skip
STRIKES: Final = 8  # how often something goes wrong in one world: it heals in the end
Joins = Literal["silent", "earliest", "latest"]
Numbers = Literal["both", "writes", "deliveries", "none"]  # which records tell the number of an event
NUMBERS: Final[tuple[Numbers, ...]] = ("both", "writes", "deliveries", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a world is made of, and what its records tell."""

    events: int = 2
    topics: int = 1
    partitions: int = 1
    keys: int = 1
    joins: tuple[Joins, ...] = ("silent",)  # a group each
    members: int = 1
    applies: tuple[bool, ...] = (True,)
    commits: bool = True  # else the publish is the write
    publishes: bool = True  # are recorded; always where they are the writes
    numbers: Numbers = "both"
    offsets: bool = True
    told_where: bool = False  # whether the broker's confirmation names the place
    topic_named: bool = True
    process_named: bool = True
    partition_named: bool = True
    attempts: Literal["none", "counted", "zero"] = "none"
    key_everywhere: bool = True  # or on the writes and the deliveries only
    troubles: frozenset[str] = frozenset()

    @property
    def names_topics(self) -> bool:
        return self.topic_named or self.topics > 1


@dataclass(slots=True, eq=False)
class _Event:
    id: str
    topic: str
    key: str
    seq: int | None = None
    happened: bool = False
    ok_told: bool = False
    unsure: bool = False
    ignored: bool = False


@dataclass(slots=True, eq=False)
class _Write:
    """One attempt to commit, or to publish as a writer."""

    event: _Event
    by: str
    happened: bool = False
    step: int = 0


@dataclass(slots=True, eq=False)
class _Pending:
    """A delivery in a member's hands; ``stage``: 0 untouched, 1 effect begun, 2 happened, 3 told, to be acked."""

    place: tuple[str, int]
    index: int
    event: _Event
    attempt: int | None
    stage: int = 0


@dataclass(slots=True, eq=False)
class _Member:
    name: str
    pending: deque[_Pending] = field(default_factory=deque)
    fetch: dict[tuple[str, int], int] = field(default_factory=dict)  # where it reads on, of each partition it owns


class _Group:
    """A consumer group: its members share the partitions, its inbox lets every effect happen once."""

    def __init__(self, world: World, name: str, joins: Joins, *, applies: bool, topics: list[str]) -> None:
        self.world, self.name, self.joins, self.applies = world, name, joins, applies
        self.to_join = topics
        self.committed: dict[tuple[str, int], int] = {}
        self.members: list[_Member] = []
        self.applied: set[_Event] = set()
        self.holding: dict[_Event, _Member] = {}  # whose transaction has the event's row in the inbox
        self.handed: Counter[tuple[tuple[str, int], int]] = Counter()
        self.made = 0
        self.eager = world.random.choice((0.05, 0.5))  # to join

    # -- membership ---------------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """One small thing; false when there is nothing to do."""
        world = self.world
        if self.to_join and (self.joins == "silent" or world.random.random() < self.eager or world.idle):
            self._join_topic(self.to_join.pop(0))
            return True
        if not self.committed:
            return False
        if world.strikes("rebalance"):
            self._move(world.random.choice(list(self.committed)), world.random.choice(self.members))
        if len(self.members) < 4 and world.strikes("new member"):
            self._move(world.random.choice(list(self.committed)), self._new_member())
        members = self.members[:]
        world.random.shuffle(members)
        worked = [self._work(member) for member in members]  # all of them, not until one has
        return any(worked)

    def _new_member(self) -> _Member:
        self.made += 1
        member = _Member(f"{self.name}-m{self.made}" if self.world.shape.process_named else "")
        self.members.append(member)
        if self.joins != "silent":
            for topic in sorted({topic for topic, _ in self.committed}):
                self._tell_join(topic, member)
        return member

    def _tell_join(self, topic: str, member: _Member) -> None:
        self.world.tell("join", topic=self.world.said(topic), group=self.name, process=member.name, note=self.joins)

    def _join_topic(self, topic: str) -> None:
        world = self.world
        first = not self.members
        while len(self.members) < world.shape.members:
            self._new_member()
        for place, log in world.logs.items():
            if place[0] == topic:
                at = len(log) if self.joins == "latest" else 0
                self.committed[place] = at
                owner = world.random.choice(self.members)
                owner.fetch[place] = at
        if not first:
            for member in self.members:
                self._tell_assign(member)
        if self.joins == "latest":
            world.zombies_allowed = False  # an old event behind a new one is no repetition to who never saw the old one
        if self.joins != "silent":
            for member in self.members:
                self._tell_join(topic, member)

    def _tell_assign(self, member: _Member) -> None:
        self.world.tell("assign", group=self.name, process=member.name)

    def _move(self, place: tuple[str, int], to: _Member) -> None:
        owner = next(member for member in self.members if place in member.fetch)
        if owner is to:
            return
        del owner.fetch[place]
        if not self.world.strikes("slow member"):  # else it goes on with what it holds, beside the new owner
            owner.pending = deque(p for p in owner.pending if p.place != place or p.stage)
        to.fetch[place] = self.committed[place]
        for member in (owner, to):
            self._tell_assign(member)

    def _kill(self, member: _Member) -> None:
        self.world.tell("fault", note=f"kill {member.name}")
        self.members.remove(member)
        for event in [event for event, by in self.holding.items() if by is member]:
            del self.holding[event]
        others = self.members or [self._new_member()]
        for place in member.fetch:
            heir = self.world.random.choice(others)
            heir.fetch[place] = self.committed[place]
            self._tell_assign(heir)

    # -- work ---------------------------------------------------------------------------------------------------------------

    def _work(self, member: _Member) -> bool:
        world = self.world
        if member.pending and (len(member.pending) > 3 or world.random.random() < 0.7):
            return self._handle(member)
        return self._receive(member) or (bool(member.pending) and self._handle(member))

    def _receive(self, member: _Member) -> bool:
        world = self.world
        there = [place for place, at in member.fetch.items() if at < len(world.logs[place])]
        if not there:
            return False
        place = world.random.choice(there)
        for _ in range(world.random.randint(1, 3)):
            index = member.fetch[place]
            if index == len(world.logs[place]):
                break
            member.fetch[place] = index + 1
            event = world.logs[place][index]
            if event is None:  # a transaction's marker: nobody is handed it
                continue
            self.handed[place, index] += 1
            attempt = {"none": None, "counted": self.handed[place, index], "zero": 0}[world.shape.attempts]
            pending = _Pending(place, index, event, attempt)
            member.pending.append(pending)
            self._tell("deliver", member, pending, attempt=attempt)
            world.told_delivery(event, self.name)
        return True

    def _handle(self, member: _Member) -> bool:
        world, pending = self.world, member.pending[0]
        event = pending.event
        if world.strikes("member killed"):
            self._kill(member)
        elif pending.stage == 3 or not self.applies:
            member.pending.popleft()
            if pending.place in member.fetch:  # whose partition is gone is not heard any more
                self.committed[pending.place] = max(self.committed[pending.place], pending.index + 1)
                self._tell("ack", member, pending)
        elif pending.stage == 2:
            self._tell_effect("ok", member, pending)
            world.tally_applied.add(event)
            pending.stage = 3
        elif pending.stage == 1:
            self._end_effect(member, pending)
        elif world.strikes("nack"):
            self._nack(member, pending)
        elif event in self.applied:
            if world.random.random() < 0.5:
                self._tell_effect("invoke", member, pending)
            self._tell("skip", member, pending, process=self._handler(member))
            pending.stage = 3
        elif self.holding.get(event, member) is not member:
            return False  # its row in the inbox is another's: wait
        else:
            self.holding[event] = member
            self._tell_effect("invoke", member, pending)
            pending.stage = 1
        return True

    def _end_effect(self, member: _Member, pending: _Pending) -> None:
        world, event = self.world, pending.event
        if event.ignored or world.strikes("effect passed over"):
            event.ignored = True
            self._tell_effect("fail", member, pending)
            pending.stage = 3
        elif world.strikes("effect raises"):
            self._nack(member, pending)
        elif world.strikes("effect unknown"):
            if world.random.random() < 0.5:
                self.applied.add(event)
            self._tell_effect("info", member, pending)
            self._nack(member, pending)
        else:
            self.applied.add(event)
            pending.stage = 2
        self.holding.pop(event, None)

    def _nack(self, member: _Member, pending: _Pending) -> None:
        if pending.place in member.fetch:
            self._tell("nack", member, pending)
            member.fetch[pending.place] = pending.index
        member.pending = deque(p for p in member.pending if p.place != pending.place)

    def _tell(self, op: str, member: _Member, pending: _Pending, **more: Any) -> None:
        world, shape = self.world, self.world.shape
        (topic, partition), event = pending.place, pending.event
        key = event.key if shape.key_everywhere or op == "deliver" else ""
        seq = event.seq if op == "deliver" and shape.numbers in ("deliveries", "both") else None
        more.setdefault("process", member.name)
        world.tell(op, event=event.id, key=key, seq=seq, group=self.name, topic=world.said(topic),
                   partition=partition if shape.partition_named or shape.offsets else None,
                   offset=world.offset(pending.place, pending.index) if shape.offsets else None, **more)  # fmt: skip

    def _tell_effect(self, phase: str, member: _Member, pending: _Pending) -> None:
        shape, event = self.world.shape, pending.event
        seq = event.seq if shape.numbers in ("deliveries", "both") else None
        key = event.key if shape.key_everywhere else ""
        self.world.tell("apply", phase=phase, event=event.id, key=key, seq=seq, group=self.name, process=self._handler(member))

    @staticmethod
    def _handler(member: _Member) -> str:
        """Who applies: another name than who receives, as with a recorder around each."""
        return f"{member.name}-handler"


class World:
    """The clock, the writers, the relay and the logs; ``records`` is what was told."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self.shape, self.random = shape, Random(seed)
        self.records: list[Record] = []
        self.idle = False
        self.zombies_allowed = True
        self._now, self._left, self._relays = 100.0, STRIKES, 1
        topics = [f"t{n}" for n in range(shape.topics)]
        self.logs: dict[tuple[str, int], list[_Event | None]] = {(t, p): [] for t in topics for p in range(shape.partitions)}
        self._bases = {place: self.random.choice((0, 0, 7, 1000)) for place in self.logs}
        self._planned = deque(
            _Event(f"e{n}", self.random.choice(topics), f"k{self.random.randrange(shape.keys)}") for n in range(shape.events)
        )
        self._writes: list[_Write] = []
        self._locked: set[tuple[str, str]] = set()
        self._numbers: Counter[tuple[str, str]] = Counter()
        self._outbox: list[_Event] = []
        self._round: tuple[int, list[_Event], dict[_Event, str]] | None = None
        self._confirmed: dict[_Event, tuple[tuple[str, int], int]] = {}
        self._zombies: list[tuple[str, list[_Event]]] = []
        self._events: list[_Event] = []
        self._delivered: Counter[tuple[_Event, str]] = Counter()
        self.tally_applied: set[_Event] = set()
        self.groups = [
            _Group(self, f"g{n}", joins, applies=applies, topics=self._subscribed(topics, n))
            for n, (joins, applies) in enumerate(zip(shape.joins, shape.applies, strict=True))
        ]

    def _subscribed(self, topics: list[str], number: int) -> list[str]:
        """The first group reads everything, so that there is no topic that nobody reads."""
        return topics[:] if not number else self.random.sample(topics, self.random.randint(1, len(topics)))

    def run(self) -> World:
        steps = [self._write, self._relay, self._look, *(group.step for group in self.groups)]
        if not self.shape.commits:
            steps.remove(self._relay)
        while True:
            self.random.shuffle(steps)
            went_on = [step() for step in steps for _ in range(self.random.randint(1, 3))]
            if not any(went_on):
                if self.idle:
                    return self
                self.idle = True

    # -- telling ------------------------------------------------------------------------------------------------------------

    def tell(self, op: str, **fields: Any) -> None:
        self._now += 0.001 + self.random.random() / 100
        if not self.shape.process_named:
            fields["process"] = ""
        self.records.append(Record(op=op, at=self._now, **fields))  # type: ignore[arg-type]

    def said(self, topic: str) -> str:
        return topic if self.shape.names_topics else ""

    def offset(self, place: tuple[str, int], index: int) -> int:
        return self._bases[place] + index

    def strikes(self, trouble: str) -> bool:
        """Whether this goes wrong now."""
        if trouble not in self.shape.troubles or not self._left or self.random.random() > 0.25:
            return False
        self._left -= 1
        return True

    def told_delivery(self, event: _Event, group: str) -> None:
        self._delivered[event, group] += 1

    @property
    def tally(self) -> dict[str, int]:
        """What a judge must count, as the world itself knows it."""
        delivered = {event for event, _ in self._delivered}
        return {
            "attempted": len(self._events),
            "acknowledged": sum(event.ok_told for event in self._events),
            "delivered": len(delivered),
            "applied": len(self.tally_applied),
            "duplicates": self._delivered.total() - len(self._delivered),
            "recovered": sum(not event.ok_told for event in delivered),
        }

    @property
    def events(self) -> dict[str, _Event]:
        """Those of which any write was begun, by their ids."""
        return {event.id: event for event in self._events}

    # -- writing ------------------------------------------------------------------------------------------------------------

    def _write(self) -> bool:
        """Begin a write, or take one a step on: it happens, and later it is told how it ended."""
        begin = self._next_write() if len(self._writes) < 3 and self.random.random() < 0.6 else None
        if begin is not None:
            self._begin(begin)
        elif self._writes:
            write = self.random.choice(self._writes)
            (self._commit if self.shape.commits else self._publish)(write)
        else:
            return bool(self._planned)
        return True

    def _next_write(self) -> _Event | None:
        """Of a key whose row nobody has locked; where the clock alone tells the order, nobody locks."""
        for event in self._planned:
            if (event.topic, event.key) not in self._locked:
                self._planned.remove(event)
                return event
        return None

    def _begin(self, event: _Event) -> None:
        at = (event.topic, event.key)
        if self.shape.numbers != "none":
            self._locked.add(at)
        if not event.happened:
            event.seq = self._numbers[at] + 1 if self.shape.numbers != "none" else None
        if event not in self._events:
            self._events.append(event)
        write = _Write(event, f"writer-{self.random.randint(1, 3)}")
        self._writes.append(write)
        self._tell_write(write, "invoke")

    def _tell_write(self, write: _Write, phase: str) -> None:
        shape, event = self.shape, write.event
        if phase == "ok":
            event.ok_told = True
        seq = event.seq if shape.numbers in ("writes", "both") else None
        if shape.commits:
            topic = "" if shape.publishes else self.said(event.topic)
            self.tell("commit", phase=phase, event=event.id, key=event.key, seq=seq, topic=topic, process=write.by)
        else:
            self.tell("publish", phase=phase, event=event.id, key=event.key, seq=seq, topic=self.said(event.topic),
                      process=write.by)  # fmt: skip

    def _commit(self, write: _Write) -> None:
        event = write.event
        if write.step == 0:
            write.step = 1
            fails = self.strikes("commit fails")
            if not fails and not event.happened:
                gone = self.strikes("commit unknown") or self.strikes("writer killed")
                write.happened = not (gone and self.random.random() < 0.5)
                if write.happened:
                    event.happened = True
                    self._numbers[event.topic, event.key] += 1
                    self._outbox.append(event)
            self._locked.discard((event.topic, event.key))
            return
        self._writes.remove(write)
        if self.strikes("writer killed"):
            self._again(event)
        elif self.strikes("commit unknown"):
            self._tell_write(write, "info")
            self._again(event)
        else:
            self._tell_write(write, "ok" if write.happened else "fail")
            if not write.happened:
                self._again(event)

    def _again(self, event: _Event) -> None:
        if self.strikes("commits again"):
            self._planned.appendleft(event)

    def _publish(self, write: _Write) -> None:
        """The key is held until the writer has given up or knows: order is that of the writers."""
        event = write.event
        if write.step == 0:
            write.step = 1
            write.happened = not self.strikes("publish refused")
            if write.happened:
                self._append(event)
                if not event.happened:
                    event.happened = True
                    self._numbers[event.topic, event.key] += 1
            return
        self._writes.remove(write)
        unknown = self.strikes("publish unknown")
        if unknown or self.strikes("writer killed"):
            if unknown:
                self._tell_write(write, "info")
            again = self.strikes("commits again")
        else:
            self._tell_write(write, "ok" if write.happened else "fail")
            again = not write.happened and self.strikes("commits again")
        if again:
            self._begin(event)
        else:
            self._locked.discard((event.topic, event.key))

    def _append(self, event: _Event) -> tuple[tuple[str, int], int]:
        place = (event.topic, sum(map(ord, event.key)) % self.shape.partitions)
        if self.shape.offsets and self.strikes("marker"):
            self.logs[place].append(None)
        self.logs[place].append(event)
        return place, len(self.logs[place]) - 1

    # -- relaying -----------------------------------------------------------------------------------------------------------

    def _relay(self) -> bool:
        if self._zombies and self.random.random() < 0.2:
            return self._zombie()
        if self._round is None:
            if not self._outbox:
                return False
            batch = self._outbox[: self.random.randint(1, 4)]
            self._round = (0, batch, {})
            self._tell_publish(f"relay-{self._relays}", batch, "invoke")
            return True
        step, batch, ended = self._round
        if step == 0:
            self._round = (1, batch, self._send(batch))
        elif step == 1:
            for event, phase in ended.items():
                self._tell_publish(f"relay-{self._relays}", [event], phase)
            self._round = (2, batch, ended) if ended else None
        else:
            if not self.strikes("relay killed before mark"):
                self._outbox = [event for event in self._outbox if ended.get(event) != "ok"]
            else:
                self._new_relay(batch)
            self._round = None
        return True

    def _send(self, batch: list[_Event]) -> dict[_Event, str]:
        """Append to the logs; returns how each event's publish will be told to have ended, nothing when killed before."""
        self._confirmed.clear()
        if self.strikes("publish unknown") or self.strikes("relay killed"):
            arrived = self.random.randint(0, len(batch))
            for event in batch[:arrived]:
                self._append(event)
            if self.random.random() < 0.5:
                self._new_relay(batch)
                return {}
            return dict.fromkeys(batch, "info")
        ended, held = {}, set()
        for event in batch:
            refused = (event.topic, event.key) in held or self.strikes("publish refused")
            ended[event] = "fail" if refused else "ok"
            if refused:
                held.add((event.topic, event.key))
            else:
                self._confirmed[event] = self._append(event)
        return ended

    def _new_relay(self, batch: list[_Event]) -> None:
        self.tell("fault", note=f"kill relay-{self._relays}")
        if self.strikes("zombie relay"):
            self._zombies.append((f"relay-{self._relays}", batch))
        self._relays += 1

    def _zombie(self) -> bool:
        """Paused, not dead: it wakes and publishes what others have published long since."""
        name, batch = self._zombies.pop()
        if self.zombies_allowed:
            self._tell_publish(name, batch, "invoke")
            own, self._confirmed = self._confirmed, {event: self._append(event) for event in batch}
            self._tell_publish(name, batch, "ok")
            self._confirmed = own
        return True

    def _tell_publish(self, by: str, events: list[_Event], phase: str) -> None:
        if not self.shape.publishes:
            return
        for event in events:
            where: dict[str, Any] = {}
            if phase == "ok" and self.shape.offsets and self.shape.told_where:
                place, index = self._confirmed[event]
                where = {"partition": place[1], "offset": self.offset(place, index)}
            self.tell("publish", phase=phase, event=event.id, key=event.key, topic=self.said(event.topic), process=by, **where)

    # -- looking ------------------------------------------------------------------------------------------------------------

    def _look(self) -> bool:
        """Somebody looks at a log, or at a lag, from outside; that is never a reason to go on."""
        if self.random.random() < 0.1:
            self.tell("lag", group="g0", value=float(self.random.randrange(9)))
        if self.random.random() < 0.15:
            places = [(place, index) for place, log in self.logs.items() for index, event in enumerate(log) if event]
            if places and self.shape.offsets:
                place, index = self.random.choice(places)
                event = self.logs[place][index]
                assert event is not None
                self.tell("read", event=event.id, key=event.key, topic=self.said(place[0]), partition=place[1],
                          offset=self.offset(place, index), process="observer")  # fmt: skip
        return False


def live(shape: Shape, seed: int) -> World:
    """Play one world to its end. The same shape and seed give the same records."""
    world = World(shape, seed).run()
    by_process: dict[str, list[Record]] = {}
    for record in world.records:  # as processes write them, each for itself
        by_process.setdefault(record.process, []).append(record)
    merged = History()
    for process in sorted(by_process, key=lambda _: world.random.random()):
        merged.extend(by_process[process])
    world.records = list(merged)
    return world


def any_shape(random: Random, *, numbers: tuple[Numbers, ...] = NUMBERS, **fixed: Any) -> Shape:
    """A shape of any kind, the plain choices first; ``fixed`` fields are as given, ``numbers`` one of those."""
    joins = [random.choice(("silent", "earliest", "latest")) for _ in range(random.randint(1, 3))]
    commits = bool(random.randint(0, 1))
    drawn: dict[str, Any] = {
        "events": random.randint(2, 9),
        "topics": random.randint(1, 2),
        "partitions": random.randint(1, 3),
        "keys": random.randint(1, 3),
        "members": random.randint(1, 2),
        "joins": tuple(joins),
        "applies": tuple(bool(random.randint(0, 3)) for _ in joins),
        "commits": commits,
        "publishes": not fixed.get("commits", commits) or bool(random.randint(0, 1)),
        "numbers": random.choice(numbers),
        "offsets": bool(random.randint(0, 1)),
        "told_where": bool(random.randint(0, 1)),
        "topic_named": bool(random.randint(0, 3)),
        "process_named": bool(random.randint(0, 3)),
        "partition_named": bool(random.randint(0, 1)),
        "attempts": random.choice(("none", "counted", "zero")),
        "key_everywhere": bool(random.randint(0, 1)),
        "troubles": frozenset(random.sample(TROUBLES, random.choice((0, 3, 6, 10, len(TROUBLES))))),
    }
    return Shape(**{**drawn, **fixed})
