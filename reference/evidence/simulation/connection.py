"""What :func:`psycopg.connect` gives, on the made-up database: as much of it as the code under test uses, behaving alike.

A session that the server ended is noticed by the next statement, and only then is the connection ``closed``. A connection
that breaks may break after the statement has been carried out, ``COMMIT`` included: the client cannot know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self

import psycopg

from reference.evidence.simulation.database import Database, Transaction
from reference.evidence.simulation.deeds import Result
from reference.evidence.simulation.scheduler import Begun, Process
from reference.evidence.simulation.statements import understand

__all__ = ["Connection", "Cursor"]


class Cursor:
    """The rows of one statement, and how many it touched."""

    def __init__(self, result: Result) -> None:
        self._rows, self.rowcount = iter(result.rows), result.touched

    def fetchone(self) -> tuple[Any, ...] | None:
        return next(self._rows, None)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return list(self._rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows


class Connection:
    """In autocommit mode, as all of ours are. ``isolation_level`` is that of the transactions begun from now on."""

    def __init__(self, database: Database, process: Process, *, autocommit: bool, **_: object) -> None:
        assert autocommit, "the simulation knows connections in autocommit mode only"
        self._database, self._process, self._scheduler = database, process, process.scheduler
        self.isolation_level: psycopg.IsolationLevel | None = None
        self.closed = False
        with self._scheduler.begin("connects") as step:
            self._session = database.open(process)
            step.outcome = f"as {self._session.name}"
        self._used = False

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Cursor:
        known = understand(statement)
        return Cursor(self._send(known.title, lambda: self._carry_out(known.act, statement, parameters), parameters))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        isolated = self.isolation_level is psycopg.IsolationLevel.REPEATABLE_READ
        self._send("BEGIN", lambda: self._database.begin(self._session, isolated=isolated))
        try:
            yield
        except Exception:
            self._roll_back()
            raise
        if not self.closed:  # psycopg, too, says nothing about a session that was found lost inside
            self._send("COMMIT", self._commit)

    def notifies(self, *, timeout: float, stop_after: int) -> Iterator[str]:
        assert stop_after == 1, "the simulation wakes at the first"
        session = self._session
        self._demand()
        self._scheduler.wait(
            "listens", ready=lambda: session.notified or session.ending is not None, until=self._scheduler.now + timeout
        )
        self._demand()
        if session.notified:
            session.notified = False
            yield "outbox"

    def close(self) -> None:
        if not self.closed:
            self._scheduler.step("hangs up")
            self.closed = True
            self._database.end(self._session, "cut")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _commit(self) -> None:
        transaction, self._session.transaction = self._session.transaction, None
        assert transaction is not None
        self._database.commit(transaction)

    def _roll_back(self) -> None:
        """What psycopg does when the block failed; if that fails as well, the first failure is the one to tell."""
        if not self.closed:
            with suppress(psycopg.Error):
                self._send("ROLLBACK", self._end_of_block)

    def _end_of_block(self) -> None:
        transaction, self._session.transaction = self._session.transaction, None
        if transaction is not None and transaction.open:
            self._database.abort(transaction)

    def _carry_out(self, act: Callable[..., Result], statement: str, parameters: Sequence[Any]) -> Result:
        inside = self._session.transaction
        if inside is not None and inside.failed:
            raise psycopg.errors.InFailedSqlTransaction("current transaction is aborted")
        transaction = inside or Transaction(self._session, isolated=False)
        try:
            result = act(self._database, transaction, statement, parameters)
        except psycopg.Error:
            if transaction.open:  # Postgres lets go of everything at once, and waits for the ROLLBACK
                transaction.failed = True
                self._database.abort(transaction)
            raise
        if inside is None:
            self._database.commit(transaction)
        return result

    def _send(self, title: str, act: Callable[[], Any], parameters: Sequence[Any] | None = None) -> Any:
        """One message to the server and its answer."""
        if self._used:  # by our other thread
            self._scheduler.wait("waits for its own connection", ready=lambda: not self._used)
        self._used = True
        try:
            with self._scheduler.begin(title, parameters or None) as step:
                return self._exchange(act, step)
        except psycopg.Error:
            self._session.busy, self._session.active_at = False, self._scheduler.now
            self.closed |= self._session.ending is not None
            raise
        finally:
            self._used = False

    def _exchange(self, act: Callable[[], Any], step: Begun) -> Any:
        step.outcome = "not carried out"
        self._demand()
        breaks, self._process.breaks = self._process.breaks, ""
        if breaks == "before":
            self._break()
        self._session.busy = True
        answer = act()
        self._session.busy, self._session.active_at = False, self._scheduler.now
        step.outcome = "carried out"
        if breaks == "after":
            self._break()
        if isinstance(answer, Result):
            step.outcome = answer
        return answer

    def _demand(self) -> None:
        if self.closed:
            raise psycopg.OperationalError("the connection is closed")
        if self._session.ending is not None:
            self.closed = True
            raise self._session.error

    def _break(self) -> None:
        """The line is cut. The server may notice at once, or when it next has something to say."""
        self.closed = True
        session, database, scheduler = self._session, self._database, self._scheduler
        session.busy = False
        if scheduler.draw.random() < 0.5:
            database.end(session, "cut")
        else:
            scheduler.later(scheduler.draw.uniform(0, 3), lambda: database.end(session, "cut"))
        raise psycopg.OperationalError("the connection is lost")
