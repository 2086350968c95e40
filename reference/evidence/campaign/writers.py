"""Those who amend orders: threads of this process, as fast as they are allowed to.

Each event's commit is recorded; where the database went away in the middle, its outcome stays open until
:class:`~reference.evidence.campaign.shop.Shop` asks the database what it holds.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import psycopg

from reference.evidence.history import History, Record
from reference.orders import shop

__all__ = ["Amend", "Writers", "amend", "order"]

PAUSE_S: Final = 0.05
Amend = Callable[[psycopg.Connection[Any], random.Random, History], None]


def order(draw: random.Random, orders: int) -> str:
    return f"order-{draw.randrange(orders)}"


def amend(conn: psycopg.Connection[Any], draw: random.Random, history: History, *, orders: int = 40) -> None:
    """One order, one event, one short transaction."""
    # The sequence is known only once the row is locked, so the event comes first and its commit is recorded around it.
    event = shop.amend_order(conn, order(draw, orders), quantity=1)
    commit = Record(op="commit", event=event.id, key=event.key, seq=event.sequence)
    history.add(_begun(commit))
    conn.commit()
    history.add(commit)


def _begun(commit: Record) -> Record:
    return Record(op="commit", phase="invoke", event=commit.event, key=commit.key, seq=commit.seq)


class Writers:
    """``count`` threads that call ``write`` as often, together, as :meth:`allow` lets them.

    A database that goes away is come back to: what was in hand then counts as an attempt that ended, and nothing is attempted
    before it answers again. ``failures`` counts what ended attempts early, by psycopg's name for it.
    """

    def __init__(self, dsn: str, history: History, *, write: Amend = amend, count: int = 4, seed: int = 0) -> None:
        self._dsn, self._history, self._write, self._seed = dsn, history, write, seed
        self._allowed = self._claimed = 0
        self.ended = 0  # attempts, however they ended
        self.failures: Counter[str] = Counter()
        self._turn = threading.Condition()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._threads = [threading.Thread(target=self._run, args=(n,), name=f"writer-{n}", daemon=True) for n in range(count)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def allow(self, attempts: int) -> None:
        """Let them go on until ``attempts`` have been begun in all. Raises what a writer could not cope with."""
        if self._failure is not None:
            raise self._failure
        with self._turn:
            self._allowed = max(self._allowed, attempts)
            self._turn.notify_all()

    @property
    def allowed(self) -> int:
        return self._allowed

    @property
    def idle(self) -> bool:
        """All that was allowed has been tried."""
        if self._failure is not None:
            raise self._failure
        return self.ended >= self._allowed

    def stop(self) -> None:
        self._stop.set()
        with self._turn:
            self._turn.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _run(self, number: int) -> None:
        draw = random.Random(f"{self._seed}-{number}")
        conn: psycopg.Connection[Any] | None = None
        try:
            while self._may_write():
                if conn is None or conn.closed:
                    conn = self._connected()
                try:
                    if conn is not None:
                        self._write(conn, draw, self._history)
                except psycopg.Error as error:
                    self._recover(conn, error)
                finally:
                    with self._turn:
                        self.ended += 1
        except BaseException as error:  # told to whoever drives the experiment
            self._failure = error
        finally:
            if conn is not None:
                conn.close()

    def _connected(self) -> psycopg.Connection[Any] | None:
        """A new session as soon as the database answers, or none when it is time to stop."""
        while not self._stop.is_set():
            try:
                return psycopg.connect(self._dsn, connect_timeout=5)
            except psycopg.OperationalError:
                self._stop.wait(PAUSE_S)
        return None

    def _recover(self, conn: psycopg.Connection[Any] | None, error: psycopg.Error) -> None:
        """A session that can go on goes on with a new transaction; one that cannot is given up, and the next awaited."""
        with self._turn:
            self.failures[type(error).__name__] += 1
        if conn is not None:
            with suppress(psycopg.Error):
                conn.rollback()
            if conn.closed or conn.broken:
                conn.close()
        self._stop.wait(PAUSE_S)

    def _may_write(self) -> bool:
        with self._turn:
            self._turn.wait_for(lambda: self._claimed < self._allowed or self._stop.is_set())
            self._claimed += 1
            return not self._stop.is_set()
