""":class:`Lab`: one learner's session on the running stack, with tables, topics and a history of its own.

Opening finds the stack or starts it. Nothing of one lab, or of an earlier run, is seen by another: each has a database of
its own, and each experiment a topic of its own. Killed: the databases and topics stay until the same lab is opened again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, Final, LiteralString, Self

import pandas as pd
import psycopg
import stamina
import structlog
from psycopg import sql

from reference.brokers import Broker, Message, connect
from reference.delivery.relay import Relay
from reference.event import Event
from reference.evidence.checker import Verdict, check
from reference.evidence.faults import Crash
from reference.evidence.history import History
from reference.evidence.recorder import LagProbe, RecordingBroker, delivered
from reference.lab.database import TABLES, made_anew
from reference.lab.journal import CommitJournal
from reference.lab.pausing import Pause
from reference.lab.predictions import Predictions
from reference.lab.waiting import background, wait_until
from reference.lab.warehouse import Warehouse
from reference.live.board import Board
from reference.live.picture import Picture
from reference.live.scene import Panel
from reference.live.snapshot import snapshot
from reference.orders import shop
from reference.orders.writing import Change, Publish, commit_with_outbox
from reference.stack import up

__all__ = ["Lab"]

COUNTS: Final[tuple[Panel, ...]] = ("verdict", "strip")
Way = Callable[[psycopg.Connection[Any], Change, Publish, Callable[[], None]], None]


class Lab:
    """Use :meth:`open`. ``conn`` is the learner's own connection, in autocommit mode; ``topic`` the experiment's topic."""

    def __init__(self, number: int, dsn: str, broker: Broker, broker_url: str) -> None:
        self.number, self.dsn, self.broker_url = number, dsn, broker_url
        self.conn = psycopg.connect(dsn, autocommit=True)
        self._inner = broker
        self._predictions = Predictions()
        self._experiment = 0
        self._pause = Pause()
        self.pause, self.resume = self._pause.close, self._pause.open
        self.begin()

    @classmethod
    def open(cls, number: int) -> Self:
        """Find or start the stack, make this lab's database anew, and say what is running."""
        _be_quiet()
        stack = up(["kafka", "postgres"])
        name = f"eda_lab_{number}"
        lab = cls(number, made_anew(stack.postgres, name), connect(stack.kafka), stack.kafka)
        print(f"Lab {number} is open: Kafka at {lab._inner.url}, Postgres database {name!r}, backend {stack.backend}")
        return lab

    @contextmanager
    def on(self, broker: str) -> Iterator[None]:
        """The block runs on another broker, ``rabbitmq`` or ``pubsub``, which is started if it does not run."""
        before = self._inner, self.broker_url
        url: str = getattr(up([broker]), broker)
        with connect(url) as inner:
            self._inner, self.broker_url = inner, url
            self.begin()
            try:
                yield
            finally:
                self._inner, self.broker_url = before
                self.begin()

    def begin(self, *, partitions: int = 3) -> None:
        """A new experiment: empty tables, a new topic, a new history."""
        self._experiment += 1
        self.topic = f"lab{self.number}-{self._experiment}-{time.time_ns()}"
        self.conn.execute(f"TRUNCATE {TABLES} RESTART IDENTITY")
        self._inner.create_topic(self.topic, partitions=partitions)
        self.history = History()
        self.broker: Broker = RecordingBroker(self._inner, self.history)
        self._journal = CommitJournal(self.conn, self.history)
        self._group = self.topic
        if not self._inner.capabilities.replay_by_offset:  # it keeps events from a group's first subscription on
            self._inner.subscribe([self.topic], group=self._group).close()
        self._pause.open()

    def predict(self, **counts: int) -> None:
        """Say what you expect, such as ``lost=0``; the next :meth:`verdict` puts it beside what happened."""
        self._predictions.make(counts)

    # -- the parts of an experiment -----------------------------------------------------------------------------------

    def write(self, way: Way, *, orders: int = 20, changes: int = 10, fault: Callable[[], None] = lambda: None) -> None:
        """Place ``orders`` orders and go on changing them, ``changes`` events each, in ``way``; a crash ends one change."""
        for n in range(orders * changes):
            order_id = f"order-{n % orders + 1:02}"
            change: Change = partial(shop.amend, order_id=order_id, quantity=n // orders + 1)
            if self.conn.execute("SELECT FROM orders WHERE id = %s", (order_id,)).fetchone() is None:
                change = partial(shop.place, order_id=order_id)
            with suppress(Crash):  # the program is gone; what comes next starts from what database and broker hold
                way(self.conn, change, self.publish, fault)
            self._journal.read()

    def backlog(self, *, orders: int = 20, changes: int = 10) -> None:
        """Committed events waiting in the outbox, and nobody yet to carry them."""
        self.write(commit_with_outbox, orders=orders, changes=changes)

    def publish(self, event: Event) -> None:
        """One event straight to the broker, past the outbox."""
        self.broker.publish([Message(self.topic, event.key, event.to_value(), event.to_headers())])

    @contextmanager
    def relay(self, **settings: Any) -> Iterator[Relay]:
        """A relay in the background, from the outbox to this experiment's topic."""
        with Relay(self.dsn, self.broker, route=self.topic, **settings) as relay, background(relay.run):
            yield relay

    @contextmanager
    def warehouse(self, *, name: str = "warehouse", group: str = "", **promise: Any) -> Iterator[None]:
        """A consumer in the background that books every event in the ledger; one that crashes is started again.

        ``group`` is the broker's consumer group, this experiment's own unless given; ``promise`` as in :class:`Warehouse`.
        """
        source = partial(self._inner.subscribe, [self.topic], group=group or self._group)
        booking = Warehouse(source, self.dsn, self.history, self._pause, name=name, **promise)
        with background(booking.run):
            yield

    def play(self, *, seconds: float = 3.0) -> None:
        """Orders at a steady pace for so long, with the board's buttons in your hand; then everything is let through."""
        buttons = {"pause consumer": self.pause, "resume": self.resume}
        deadline = time.monotonic() + seconds
        with self.board(faults=buttons), self.relay(), self.warehouse():
            changes = 0
            while time.monotonic() < deadline:
                changes += 1
                self.write(commit_with_outbox, orders=20, changes=1)
                time.sleep(0.2)
            self.resume()
            self.settle()

    # -- seeing and judging -------------------------------------------------------------------------------------------

    @contextmanager
    def board(self, *, faults: Mapping[str, Callable[[], object]] | None = None) -> Iterator[Board]:
        """The live board, and the lag that feeds it, while the block runs; call :meth:`settle` before its end."""
        with ExitStack() as stack:
            board = stack.enter_context(Board(self.history, title=f"Lab {self.number}", faults=faults))
            self._probe = stack.enter_context(LagProbe(self._inner, [self.topic], self.history, group=self._group))
            yield board

    def settle(self, *, groups: Sequence[str] = ()) -> None:
        """Wait until the outbox is empty and every group has acked all its topic holds. Raises :class:`TimeoutError`.

        Where the broker does not tell a group's lag, until everything committed has been acked by one group.
        """

        def behind() -> int:
            if self._inner.capabilities.lag:
                lags = (self._inner.lag([self.topic], group=group) for group in groups or (self._group,))
                return sum(sum(lag.values()) for lag in lags)
            self._journal.read()
            committed, acked = ({r.event for r in self.history if r.op == op} for op in ("commit", "ack"))
            return len(committed - acked)

        def left() -> int:
            return self.count("outbox") or behind()

        wait_until(lambda: left() == 0, "the outbox to be empty and the topic to be read")

    def wait_for_lag(self, events: int) -> None:
        """Inside :meth:`board`: wait until that many published events, or more, are waiting for the consumer."""
        wait_until(lambda: self._probe.sample() >= events, f"a lag of {events}")

    def count(self, table: str) -> int:
        """The rows of one of the lab's tables, as the database holds them now."""
        row = self.conn.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
        return int(row[0]) if row else 0

    def table(self, query: LiteralString) -> pd.DataFrame:
        """What the lab's database answers, as a table."""
        cursor = self.conn.execute(query)
        return pd.DataFrame(cursor.fetchall(), columns=[column.name for column in cursor.description or ()])

    def verdict(self) -> Verdict:
        """:meth:`judge`, printed, with the predictions beside it."""
        verdict = self.judge()
        print(verdict)
        self._predictions.compare(verdict)
        return verdict

    def judge(self) -> Verdict:
        """What the database, the topic and the ledger really hold.

        Raises :class:`AssertionError` when the ledger and what was seen being booked differ.
        """
        self._journal.read()
        self._read_topic()
        verdict = check(self.history)
        booked = self.count("ledger")
        recorded = sum(record.op == "apply" for record in self.history)
        if booked != recorded:
            raise AssertionError(f"the ledger holds {booked} entries, but {recorded} were seen being made")
        return verdict

    def picture(self, panels: tuple[Panel, ...] = COUNTS) -> Picture:
        """The experiment so far as a still picture; ``lag`` and ``rates`` among the ``panels`` show it over time."""
        return Picture(snapshot(self.history), panels)

    def _read_topic(self) -> None:
        """Where no consumer ran, what the topic holds counts as delivered."""
        if not any(record.op == "deliver" for record in self.history):
            for delivery in self._inner.replay(self.topic):
                self.history.add(delivered(delivery))


def _be_quiet() -> None:
    """A lab shows facts, not logs: only what goes wrong is said."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    stamina.instrumentation.set_on_retry_hooks([])
