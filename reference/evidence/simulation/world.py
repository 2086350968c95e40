"""One seed's world: writers, relays and consumers at work, until everything has come to rest; and what came of it.

What the history holds is what the database and the broker know, not what a process believed: an event is committed when its
transaction is, and applied when the effect is committed, though its writer or consumer may have died before it heard so.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
import structlog

from reference.brokers import Delivery, Subscription
from reference.delivery.consumer import Consumer
from reference.delivery.machine import Machine
from reference.event import Event
from reference.evidence.checker import check
from reference.evidence.history import History, Record
from reference.evidence.recorder import RecordingSubscription
from reference.evidence.simulation.client import Client
from reference.evidence.simulation.database import Database, Transaction
from reference.evidence.simulation.designs import CONSUMER, DESIGNS, Design
from reference.evidence.simulation.faults import Faults
from reference.evidence.simulation.log import Log
from reference.evidence.simulation.machine import DSN, Stop, machine
from reference.evidence.simulation.outcome import Outcome
from reference.evidence.simulation.scheduler import Process, Scheduler
from reference.evidence.simulation.writer import write
from reference.orders import handlers

__all__ = ["World", "simulate"]

TOPIC: Final = "orders"
STEPS: Final = 20_000  # ten times what the longest take
QUIET_S: Final = 15.0  # longer than any lease, pause and retry together


def simulate(seed: int, *, design: Design = DESIGNS["relay"]) -> Outcome:
    """Walk the interleaving that ``seed`` names, to its end. The same seed gives the same trace, byte for byte.

    While it runs, what the code logs goes into the trace, for all of this process: one simulation at a time.
    """
    world = World(seed, design)
    with _logging_into(world.scheduler):
        return world.live()


class World:
    """What a seed decides once: how many of whom, how large a page, how long a lease."""

    def __init__(self, seed: int, design: Design) -> None:
        self.seed, self.design = seed, design
        self.draw = draw = random.Random(seed)
        self.scheduler = Scheduler(draw, stick=draw.choice([0.0, 0.5, 0.9, 0.97]))
        self.database = Database(self.scheduler)
        self.log = Log(self.scheduler, TOPIC, partitions=draw.randint(1, 3))
        self.keys = [f"k{n}" for n in range(draw.randint(1, 4))]
        self.lanes = draw.choice([[1], [2], [3], [2, 3], [64]])
        self.page, self.lease_s, self.failing = draw.choice([1, 2, 3, 10]), 2.0, 0
        self.events: dict[str, Event] = {}
        self.history = History(clock=lambda: self.scheduler.now)
        self._members = 0
        self.writing = draw.randint(1, 3)
        self.moved_at = 0.0
        self._faults = Faults(self, draw)
        self._booked: list[str] = []
        self.database.ended = self._transaction_ended

    # -- what its inhabitants use ----------------------------------------------------------------------------------------

    def machine(self, process: Process) -> Machine:
        return machine(process, self.database)

    def client(self, process: Process) -> Client:
        return Client(self.log, process, group=CONSUMER)

    def crash(self, process: Process, *, noticed_in_s: float, again_in_s: float) -> None:
        """Kill it; the server notices after a while, the broker too, and somebody starts it again."""
        process.kill()
        for session in [session for session in self.database.sessions if session.process is process]:
            session.busy, session.waits_for = False, None
            self.scheduler.later(noticed_in_s, lambda session=session: self.database.end(session, "cut"))  # type: ignore[misc]
        self.scheduler.later(noticed_in_s, lambda: self.log.lose(process))
        self.scheduler.later(again_in_s, self._again.get(process.name, lambda: None))

    # -- from beginning to end -------------------------------------------------------------------------------------------

    def live(self) -> Outcome:
        draw, design = self.draw, self.design
        self._again: dict[str, Callable[[], None]] = {}
        for n in range(self.writing):
            left = [draw.randint(1, 4)]
            self._inhabit(f"writer-{n + 1}", lambda process, left=left: write(self, process, left))  # type: ignore[misc]
        for n in range(max(design.relays, draw.randint(1, 3))):
            self._inhabit(f"relay-{n + 1}", lambda process: design.relay(self, process), mortal=design.mortal)
        for n in range(max(design.consumers, draw.randint(1, 2))):
            self._inhabit(f"consumer-{n + 1}", self._consume)
        self.scheduler.disturb = self._disturb
        try:
            ended = self.scheduler.run(self._at_rest, steps=STEPS)
        finally:
            self.scheduler.end()
        return self._judge(ended=ended)

    def _inhabit(self, name: str, work: Callable[[Process], None], *, mortal: bool = True) -> None:
        def begin() -> None:
            process = Process(self.scheduler, name, mortal=mortal)
            process.start(lambda: work(process))

        self._again[name] = begin
        begin()

    def _disturb(self, thread: Any) -> None:
        self.database.reap()
        self._faults(thread)

    def _at_rest(self) -> bool:
        """All written, carried, applied and acked; or nothing has moved and no fault has hit for so long that nothing will."""
        if self.writing == 0 and not self.database.waiting() and self.log.read:
            return True
        return self.writing == 0 and self.scheduler.now - self.moved_at > QUIET_S

    def _judge(self, *, ended: bool) -> Outcome:
        committed = {record.event for record in self.history if record.op == "commit" and record.phase == "ok"}
        return Outcome(
            seed=self.seed, design=self.design.name, verdict=check(self.history), history=list(self.history),
            moments=self.scheduler.trace, faults=self._faults.hit, ended=ended,
            not_applied=tuple(sorted(committed - set(self._booked))),
            errors=tuple(f"{who}: {type(error).__name__}: {error}" for who, error in self.scheduler.errors),
        )  # fmt: skip

    # -- what is written down --------------------------------------------------------------------------------------------

    def record(self, **known: Any) -> None:
        self.moved_at = self.scheduler.now
        self.history.add(Record(**known))

    def _transaction_ended(self, transaction: Transaction) -> None:
        phase, process = "ok" if transaction.committed else "fail", transaction.session.process.name
        for version in transaction.inserted:
            event = self.events[version.row[1]]
            self.record(op="commit", phase=phase, event=event.id, key=event.key, seq=event.sequence, process=process)
        for effect in transaction.effects if transaction.committed else ():
            event = self.events[effect[1]]
            self._booked.append(event.id)
            self.record(op="apply", event=event.id, key=event.key, seq=event.sequence, group=CONSUMER, process=process)

    # -- inhabitants -----------------------------------------------------------------------------------------------------

    def _consume(self, process: Process) -> None:
        self._members += 1
        member = self.client(process).subscribe([TOPIC], group=CONSUMER)
        subscription = _Watched(member, self, name=f"{process.name}, member {self._members}")
        consumer = Consumer(
            subscription, DSN, {"OrderAmended": self._book}, name=CONSUMER, claim=self.design.claim,
            machine=self.machine(process),
        )  # fmt: skip
        consumer.run(Stop(process), limit=self.draw.randint(1, 5))

    def _book(self, conn: psycopg.Connection[Any], event: Event) -> None:
        handlers.book(conn, event, consumer=CONSUMER, account="amended", amount=1)
        if self.failing:
            self.failing -= 1
            raise RuntimeError("the handler fails")


class _Watched(RecordingSubscription):
    """What a member is handed, acks and nacks is written down, and that something moves is noticed."""

    def __init__(self, inner: Subscription, world: World, *, name: str) -> None:
        super().__init__(inner, world.history, group=CONSUMER, numbered=True, process=name)
        self._world = world

    def receive(self, limit: int = 100, timeout_s: float = 1.0) -> list[Delivery]:
        deliveries = super().receive(limit, timeout_s)
        if deliveries:
            self._world.moved_at = self._world.scheduler.now
        return deliveries


@contextmanager
def _logging_into(scheduler: Scheduler) -> Iterator[None]:
    """What the code says while it runs is part of the trace."""
    before = structlog.get_config()

    def keep(_: Any, __: str, said: Any) -> Any:
        about = {name: value for name, value in said.items() if name not in ("event", "exc_info")}
        scheduler.note("log", said["event"], about)
        raise structlog.DropEvent

    structlog.configure(processors=[keep], wrapper_class=structlog.BoundLogger, cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)
