"""The shop an experiment breaks: writers, relays and consumers around one outbox, and what they really did.

What enters are addresses, what leaves is a :class:`~reference.evidence.checker.Verdict`. Deliveries, acks and commits are
recorded by those who made them. What was committed and what was applied is, in the end, what the database holds: a process
killed between its commit and its record hides nothing. Relays and consumers are processes, and none outlives its shop.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psycopg

from reference.brokers import Broker, connect
from reference.delivery import outbox
from reference.evidence.campaign.addresses import Addresses
from reference.evidence.campaign.books import Books
from reference.evidence.campaign.worker import Worker
from reference.evidence.campaign.writers import Amend, Writers, amend
from reference.evidence.checker import Verdict, check
from reference.evidence.history import History, Record, read
from reference.evidence.recorder import RecordingBroker, told
from reference.evidence.victim import carry, consume
from reference.orders import shop

__all__ = ["PATIENCE_S", "Shop"]

ORDERS: Final = 40
LANES: Final = 4
PAGE: Final = 50
PATIENCE_S: Final = 60.0  # with everybody alive: far beyond a lease, a redelivery and a broker's reconnection
LOOK_S: Final = 0.02

log = logging.getLogger(__name__)


class Shop:
    """Use as a context manager. ``dsn`` of ``at`` must lead to a database of its own.

    ``relays`` and ``consumers`` are the numbers of processes; ``consumers`` counts for each of ``groups``, which are several
    deployments of one service and share its inbox. ``partitions`` are the topic's, where the broker has such. ``claim`` is one
    of :data:`~reference.evidence.victim.CLAIMS`; ``settings`` go to the relays, and ``consuming`` to the consumers.
    """

    def __init__(
        self,
        at: Addresses,
        *,
        name: str,
        relays: int = 2,
        consumers: int = 1,
        groups: int = 1,
        claim: str = "inbox",
        write: Amend = amend,
        writers: int = 4,
        orders: int = ORDERS,
        partitions: int = 3,
        seed: int = 0,
        batch: int = 100,
        consuming: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.at, self.orders, self._partitions = at, orders, partitions
        self.books = Books(at.dsn)
        self._idle = 0  # a mark in the journal: how far it was when everything had been applied last
        self._complaints: Counter[str] = Counter()
        self.topic = f"campaign-{name.replace(' ', '-')}-{time.time_ns()}"
        self.broker: Broker = connect(at.broker)
        self.directory = Path(tempfile.mkdtemp(prefix=f"eda-{name.replace(' ', '-')}-", dir=at.histories))
        self._left: list[Worker] = []
        self._resolved: list[Record] = []  # what the database held when it was asked last
        self.history = History(path=self.directory)
        self.groups = [f"{self.topic}-{n}" for n in range(groups)]
        self.writers = Writers(at.writer_dsn or at.dsn, self.history, write=write, count=writers, seed=seed)
        carrying: dict[str, Any] = {"dsn": at.relay_dsn or at.dsn, "broker": at.relay_broker or at.broker, "route": self.topic}
        self.relays = [Worker(carry, **carrying, **{"lanes": LANES, "page": PAGE} | settings) for _ in range(relays)]
        self._consuming: dict[str, Any] = {
            "dsn": at.consumer_dsn or at.dsn, "broker": at.consumer_broker or at.broker, "topic": self.topic, "claim": claim,
            "batch": batch, "history": self.directory, **(consuming or {}),
        }  # fmt: skip
        self.consumers = [Worker(consume, **self._consuming, group=group) for group in self.groups for _ in range(consumers)]

    @property
    def _workers(self) -> list[Worker]:
        return [*self.relays, *self.consumers]

    @property
    def service(self) -> str:
        """What the stack calls the broker."""
        scheme = self.broker.url.partition("://")[0]
        return "rabbitmq" if scheme == "amqp" else scheme

    # -- driving it ---------------------------------------------------------------------------------------------------

    def begun(self, attempts: int) -> None:
        """Wait until so many commits have ended, however they ended, or until nothing moves any more."""
        self.until(lambda: self.writers.ended >= attempts)

    def caught_up(self) -> bool:
        """Wait until the writers are idle, the outbox is empty and all that was committed has been applied.

        False when nothing moves any more: what is missing then is lost, and nobody waits for it a second time.
        """
        done = self.until(lambda: self.writers.idle and self.books.behind() == 0 and self.books.unpublished() == 0)
        if not done:
            self.books.settled = self._idle = self.books.last()
        else:  # the time before is done with; what a writer was cut off from may come to light a little late
            self.books.settled, self._idle = self._idle, self.books.last()
        return done

    def write_off(self, quiet_s: float) -> int:
        """Wait until the outbox is empty and nothing has been applied for so long; how many events are then given up.

        They stay lost in the verdict; nobody waits for them any more.
        """
        self.until(lambda: self.writers.idle and self.books.unpublished() == 0)
        self.until(lambda: self.books.behind() == 0, quiet_s)
        missing = self.books.behind()
        self.books.settled = self._idle = self.books.last()
        return missing

    def received_by_all(self) -> bool:
        """Whether each of the groups has received all that was committed: one may have skipped what another applied."""
        received: dict[str, set[str]] = {group: set() for group in self.groups}
        for record in read(self.directory):
            if record.op == "deliver" and record.group in received:
                received[record.group].add(record.event)
        committed = self.books.events()
        return all(committed <= events for events in received.values())

    def until(self, done: Callable[[], bool], patience_s: float | None = None) -> bool:
        """Wait until ``done``; false when nothing has been committed or applied for ``patience_s``.

        Without it, patience is :data:`PATIENCE_S`, and giving up is a complaint.
        """
        moved, deadline = (-1, -1), 0.0
        while True:
            before = time.monotonic()
            if done():
                return True
            now = (self.writers.ended, self.books.progress())
            if now != moved:
                moved, deadline = now, time.monotonic() + (PATIENCE_S if patience_s is None else patience_s)
            elif time.monotonic() > deadline:
                if patience_s is None:
                    self._complaints[f"nothing moved for {PATIENCE_S:g} s"] += 1
                return False
            time.sleep(max(LOOK_S, min(1.0, 9 * (time.monotonic() - before))))  # looking must not be what slows it down

    def assemble(self) -> None:
        """Wait until every consumer has joined its group: who is still starting when a broker dies would end, and rightly."""
        wanted = {str(consumer.pid) for consumer in self.consumers}
        self.until(lambda: wanted <= {record.process.partition("-")[0] for record in read(self.directory) if record.op == "join"})

    def join(self) -> Worker:
        """One more member of the first group; it ends with the shop, or before."""
        self.consumers.append(member := Worker(consume, **self._consuming, group=self.groups[0]))
        return member.start()

    def part_with(self, member: Worker) -> None:
        """It is gone, and no member any more; how it ended is still told."""
        self.consumers.remove(member)
        self._left.append(member)

    def told_by(self, member: Worker) -> list[Record]:
        """What this process has recorded until now."""
        files = list(self.directory.glob(f"{member.pid}-*.jsonl"))
        return read(*files) if files else []

    def strike(self, name: str) -> float:
        """Note a fault in the history; returns when that was."""
        return self.history.add(Record(op="fault", note=name)).at

    # -- judging it ---------------------------------------------------------------------------------------------------

    def verdict(self) -> Verdict:
        """What the database holds and the members of the groups saw, judged. Call it after :meth:`caught_up`."""
        return check(self.records())

    def records(self) -> list[Record]:
        """The whole history, with what database and broker hold put behind what was seen."""
        records = read(self.directory)
        self._resolved = self.books.resolve(records, topic=self.topic, groups=self.groups)
        if self.broker.capabilities.replay_by_offset:
            found = [told(delivery, op="read", numbered=True) for delivery in self.broker.replay(self.topic)]
            self._resolved += [replace(record, at=time.monotonic()) for record in found]
        return records + self._resolved

    def unheard(self) -> int:
        """How many commits happened though their writer was cut off before it was told so."""
        return self.books.unheard(read(self.directory))

    @property
    def complaints(self) -> tuple[str, ...]:
        """What no history shows: waits that were given up, and processes that ended by themselves."""
        workers = [*self._workers, *self._left]
        ends = Counter(f"ended by itself with code {code}" for worker in workers for code in worker.wrong_ends)
        return tuple(f"{what}, {count} times" for what, count in (self._complaints + ends).items())

    # -- its life -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def _open(self) -> None:
        with psycopg.connect(self.at.dsn, autocommit=True) as conn:
            conn.execute(outbox.schema())
            conn.execute(shop.schema())
            conn.execute("CREATE INDEX IF NOT EXISTS ledger_event ON ledger (event_id)")
            for n in range(self.orders):
                if conn.execute("SELECT FROM orders WHERE id = %s", (f"order-{n}",)).fetchone() is None:
                    shop.place(conn, f"order-{n}")
            conn.execute("TRUNCATE outbox, inbox, order_changes, ledger")
        self.make_topic()
        for worker in self._workers:
            worker.start()
        self.writers.start()

    def make_topic(self) -> None:
        """Make the topic, with every group in it; again, where a broker has forgotten both."""
        self.broker.create_topic(self.topic, partitions=self._partitions)
        # Before the first event: not every broker keeps a message for a group that has never been there.
        for group in self.groups:
            RecordingBroker(self.broker, self.history).subscribe([self.topic], group=group).close()

    def begin_anew(self, within_s: float = PATIENCE_S) -> None:
        """After a broker that forgets was started again: the topic is made, and the consumers are started, anew.

        Those end by themselves, within so long: a topic that is gone is no outage to sit out. Relays stay as they are.
        """
        for consumer in self.consumers:
            consumer.died(within_s, rightly=True)
        self.make_topic()
        for consumer in self.consumers:
            consumer.restart()
        self.assemble()

    def close(self) -> None:
        """Stop the writers, kill the processes; leave the history, whole, where it is to be kept, and else forget it."""
        self.writers.stop()
        for worker in self._workers:
            worker.kill()
        self.books.close()
        self.broker.close()
        self.history.close()
        if self.at.histories is None:
            shutil.rmtree(self.directory, ignore_errors=True)
        else:
            self._keep()

    def _keep(self) -> None:
        """A full disk costs the rest of the history, and not the row that was measured."""
        file = self.directory / "resolved.jsonl"
        try:
            History(self._resolved).save(file)
        except OSError as error:
            log.warning("the history in %s lacks what the database held: %s", self.directory, error)
            with suppress(OSError):
                file.unlink()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
