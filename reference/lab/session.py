""":class:`Lab`: one learner's session on the running stack, with tables, topics and a history of its own.

Opening finds the stack or starts it. Nothing of one lab, or of an earlier run, is seen by another: each has a database of
its own, and each experiment a topic of its own. Killed: the databases and topics stay until the same lab is opened again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final, LiteralString, Self

import pandas as pd
import psycopg
import stamina
import structlog
from IPython.core.getipython import get_ipython
from IPython.display import display

from reference.brokers import Broker, connect
from reference.delivery.relay import Relay
from reference.event import Event
from reference.evidence.checker import Verdict
from reference.evidence.history import History
from reference.evidence.recorder import LagProbe
from reference.lab.connection import OwnConnection
from reference.lab.customers import Customers, Way
from reference.lab.database import TABLES, made_anew
from reference.lab.dock import Dock
from reference.lab.experiment import Experiment
from reference.lab.faults import LabFaults
from reference.lab.pages import Pages
from reference.lab.pausing import Pause
from reference.lab.predictions import Predictions
from reference.lab.progress import progress
from reference.lab.running import Running
from reference.lab.sheet import Sheet
from reference.lab.waiting import background
from reference.lab.warehouse import Warehouse
from reference.live.board import Board
from reference.live.picture import Picture
from reference.live.scene import Panel
from reference.live.snapshot import snapshot
from reference.orders.writing import commit_with_outbox
from reference.stack import up

__all__ = ["Lab"]

COUNTS: Final[tuple[Panel, ...]] = ("verdict", "strip")


class Lab:
    """Use :meth:`open`. ``topic`` is the experiment's topic; ``faults`` is what can be broken by hand."""

    def __init__(self, number: int, dsn: str, broker: Broker, broker_url: str, *, docked: bool = True) -> None:
        self.number, self.dsn, self.broker_url = number, dsn, broker_url
        self._own = OwnConnection(dsn)
        self._running = Running()
        self._probe: LagProbe | None = None
        self._inner = broker
        self._predictions = Predictions()
        self._begun = 0
        self._dock = Dock(f"Lab {number}" if docked else "")
        self._pause = Pause()
        self.pause, self.resume = self._pause.close, self._pause.open
        self.faults = LabFaults(lambda: self.history, self._pause)
        self.begin()

    # -- what one experiment has for itself ---------------------------------------------------------------------------

    @property
    def topic(self) -> str:
        return self._experiment.topic

    @property
    def history(self) -> History:
        """All that was done since :meth:`begin`, by whom, and when."""
        return self._experiment.history

    @property
    def broker(self) -> Broker:
        """The broker, recording into the history."""
        return self._experiment.broker

    def publish(self, event: Event) -> None:
        """One event straight to the broker, past the outbox."""
        self._experiment.publish(event)

    @classmethod
    def open(cls, number: int, *, docked: bool = True) -> Self:
        """Find or start the stack, make this lab's database anew, and say what is running.

        ``docked``: in JupyterLab a board stands beside the notebook and shows all that the lab does.
        """
        _be_quiet()
        with progress("starting what does not run yet"):
            stack = up(["kafka", "postgres"])
        name = f"eda_lab_{number}"
        lab = cls(number, made_anew(stack.postgres, name), connect(stack.kafka), stack.kafka, docked=docked)
        if get_ipython() is not None:
            display(Sheet())  # type: ignore[no-untyped-call]
        print(f"Lab {number} is open: Kafka at {lab._inner.url}, Postgres database {name!r}, backend {stack.backend}")
        return lab

    @property
    def conn(self) -> psycopg.Connection[Any]:
        """The learner's own connection, in autocommit mode; made anew when it is found broken, as after a kill of Postgres.

        So it is when an interrupt has left it in the middle of a command.
        """
        return self._own.usable()

    @contextmanager
    def on(self, broker: str) -> Iterator[None]:
        """The block runs on another broker, ``rabbitmq`` or ``pubsub``, which is started if it does not run.

        Raises :class:`RuntimeError`, as :meth:`begin` does.
        """
        self._running.refuse(f"lab.on({broker!r})")
        before = self._inner, self.broker_url
        with progress(f"starting {broker}"):
            url: str = getattr(up([broker]), broker)
            self.faults.came_back(broker)
        with connect(url) as inner:
            try:
                self._inner, self.broker_url = inner, url
                self.begin()
                yield
            finally:
                self._inner, self.broker_url = before
                self.begin()

    def begin(self, *, partitions: int = 3, history: History | None = None) -> None:
        """A new experiment: empty tables, a new topic, and a new history, or an empty one that somebody watches already.

        What a transaction of :attr:`conn` has left open is rolled back. Raises :class:`RuntimeError` inside a :meth:`relay` or
        a :meth:`warehouse`: no verdict is on two experiments.
        """
        self._running.refuse("lab.begin()")
        self._begun += 1
        self._own.idle().execute(f"TRUNCATE {TABLES} RESTART IDENTITY")
        topic = f"lab{self.number}-{self._begun}-{time.time_ns()}"
        self._experiment = Experiment(topic, self._inner, lambda: self.conn, partitions=partitions, history=history)
        self._pause.open()
        self._dock.follow(self.history)

    def reset(self) -> None:
        """Back to the beginning: what was broken is brought back, what was predicted is forgotten, the tables are empty.

        Raises :class:`RuntimeError`, as :meth:`begin` does, and then leaves all as it is.
        """
        self._running.refuse("lab.reset()")
        self.mend()
        self._predictions = Predictions()
        self.begin()

    def mend(self) -> None:
        """What was broken by hand is brought back; a paused consumer goes on."""
        self.resume()
        self.faults.mend()

    def predict(self, **counts: int) -> None:
        """Say what you expect, such as ``lost=0``; the next :meth:`verdict` puts it beside what happened.

        Raises :class:`ValueError` for a name that nothing is counted under, or is given twice, and for what is no count.
        """
        self._predictions.make(counts)

    # -- the parts of an experiment -----------------------------------------------------------------------------------

    def write(self, way: Way, *, orders: int = 20, changes: int = 10, fault: Callable[[], None] = lambda: None) -> None:
        """Place ``orders`` orders and go on changing them, ``changes`` events each, in ``way``; a crash ends one change.

        So does a Postgres that is taken away; the next change waits until it answers. Raises :class:`TimeoutError`.
        """
        try:
            Customers(lambda: self.conn, self._experiment).write(way, orders=orders, changes=changes, fault=fault)
        except BaseException:  # an interrupt, say: it may have left a transaction open, and psycopg's count of them wrong
            self._own.abandon()
            raise

    def backlog(self, *, orders: int = 20, changes: int = 10) -> None:
        """Committed events waiting in the outbox, and nobody yet to carry them."""
        self.write(commit_with_outbox, orders=orders, changes=changes)

    @contextmanager
    def relay(self, **settings: Any) -> Iterator[Relay]:
        """A relay in the background, from the outbox to this experiment's topic."""
        relay = Relay(self.dsn, self.broker, route=self.topic, **settings)
        with self._running.block("relay"), relay, background(relay.run):
            yield relay

    @contextmanager
    def warehouse(self, *, name: str = "warehouse", group: str = "", **promise: Any) -> Iterator[None]:
        """A consumer in the background that books every event in the ledger; one that crashes is started again.

        ``group`` is the broker's consumer group, this experiment's own unless given; ``promise`` as in :class:`Warehouse`.
        """
        source, numbered = partial(self._experiment.subscribe, group), self._experiment.numbered
        booking = Warehouse(source, self.dsn, self.history, self._pause, name=name, numbered=numbered, **promise)
        with self._running.block("warehouse"), background(booking.run):
            yield

    def play(self, *, seconds: float = 3.0, buttons: Sequence[str] = ()) -> None:
        """Orders at a steady pace for so long, with the board's buttons in your hand; then everything is let through.

        More ``buttons`` by name, as :meth:`LabFaults.buttons` has them: ``("kill kafka", "restart kafka")``. What they broke is
        brought back by ``reset``, and in the end. Raises :class:`ValueError` where ``seconds`` is no time to play for.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"seconds={seconds} is no time to play for: give a number of seconds, such as 3")
        hand = {"pause consumer": self.pause, "resume": self.resume} | self.faults.buttons(*buttons)
        with self.board(faults=hand), self.relay(), self.warehouse():
            try:
                self._sell(seconds)
            finally:  # also when it is interrupted: relay and warehouse end only when they reach their broker
                self.mend()
            self.settle()

    def _sell(self, seconds: float) -> None:
        with progress("seconds", total=math.ceil(seconds)) as told:
            start = time.monotonic()
            while told.to(int(time.monotonic() - start)) < seconds:
                self.write(commit_with_outbox, orders=20, changes=1)
                time.sleep(0.2)

    # -- seeing and judging -------------------------------------------------------------------------------------------

    @contextmanager
    def board(self, *, faults: Mapping[str, Callable[[], object]] | None = None) -> Iterator[Board]:
        """The live board, and the lag that feeds it, while the block runs; call :meth:`settle` before its end.

        Where there are ``faults``, there is a ``reset`` beside them, which is :meth:`mend`.
        """
        before = self._probe
        with ExitStack() as stack:
            buttons = {**faults, "reset": self.mend} if faults else None
            board = Board(self.history, title=f"Lab {self.number}", faults=buttons, holding=self.faults.holding)
            self._dock.show(board)
            stack.enter_context(board)
            self._probe = stack.enter_context(self._experiment.probe())
            try:
                yield board
            finally:
                self._probe = before

    def pages(self) -> Pages:
        """Links to the web pages of what runs: RabbitMQ's own page, with its queues and what waits in them."""
        return Pages.of_stack()

    def settle(self, *, groups: Sequence[str] = ()) -> None:
        """Wait until the outbox is empty and every group has acked all its topic holds. Raises :class:`TimeoutError`.

        Where the broker does not tell a group's lag, until everything committed has been acked by one group.
        """

        self._experiment.settle(groups)

    def wait_for_outbox(self) -> None:
        """Wait until all that was committed has been published. Raises :class:`TimeoutError`."""
        self._experiment.wait_for_outbox()

    def wait_for_lag(self, events: int) -> None:
        """Inside :meth:`board`: wait until that many published events, or more, are waiting for the consumer.

        Raises :class:`TimeoutError`, and :class:`RuntimeError` where no board is open.
        """
        if self._probe is None:
            raise RuntimeError("lab.wait_for_lag looks at the lag of a board, and none is open: call it in `with lab.board():`")
        self._experiment.wait_for_lag(self._probe, events)

    def count(self, table: str) -> int:
        """The rows of one of the lab's tables, as the database holds them now."""
        return self._experiment.count(table)

    def table(self, query: LiteralString) -> pd.DataFrame:
        """What the lab's database answers, as a table."""
        cursor = self.conn.execute(query)
        return pd.DataFrame(cursor.fetchall(), columns=[column.name for column in cursor.description or ()])

    def verdict(self) -> Verdict:
        """:meth:`judge`, printed, with the predictions beside it."""
        verdict = self.judge()
        print(verdict)
        if guesses := self._predictions.compare(verdict):
            display(guesses)  # type: ignore[no-untyped-call]
        return verdict

    def judge(self) -> Verdict:
        """What the database, the topic and the ledger really hold; the board beside the notebook says it, too.

        Raises :class:`AssertionError` when the ledger and what was seen being booked differ.
        """
        verdict = self._experiment.judge()
        self._dock.settle()
        return verdict

    def picture(self, panels: tuple[Panel, ...] = COUNTS) -> Picture:
        """The experiment so far as a still picture; ``lag`` and ``rates`` among the ``panels`` show it over time."""
        return Picture(snapshot(self.history), panels)


def _be_quiet() -> None:
    """A lab shows facts, not logs: only what goes wrong is said."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    stamina.instrumentation.set_on_retry_hooks([])
