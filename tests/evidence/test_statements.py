"""The made-up Postgres beside the real one: the same statements in the same order give the same answers, and the same waits."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql

from reference.delivery import outbox
from reference.delivery.held import NOT_HELD
from reference.delivery.rows import COLUMNS
from reference.evidence.simulation.connection import Connection
from reference.evidence.simulation.database import Aggregate, Database
from reference.evidence.simulation.scheduler import Process, Scheduler
from reference.evidence.simulation.statements import CHANGE, KNOWN, understand
from reference.orders import shop

SEATS, STATEMENTS = 3, 200
KEYS = ("a", "b")
Answer = tuple[str, object]

APPEND, READ, DELETE = (next(words for words, known in KNOWN.items() if known.title == title) for title in
                        ("appends", "reads a page", "deletes"))  # fmt: skip
LISTED = "DELETE FROM outbox WHERE position = ANY(%s)"
SKIP_LOCKED = f"SELECT {COLUMNS} FROM outbox ORDER BY position LIMIT %s FOR UPDATE SKIP LOCKED"
BEHIND = f"SELECT {COLUMNS} FROM outbox WHERE position > %s ORDER BY position"
CLAIM = "INSERT INTO inbox (consumer, id) VALUES (%s, %s) ON CONFLICT DO NOTHING"
SEEN = "SELECT FROM inbox WHERE consumer = %s AND id = %s"
LOCK = "SELECT bucket, pg_try_advisory_lock(%s, bucket) FROM unnest(%s::int[]) AS bucket"
UNLOCK = "SELECT bucket, pg_advisory_unlock(%s, bucket) FROM unnest(%s::int[]) AS bucket"


class Seat:
    """One session, at either database, and what it is in the middle of. ``exported`` is shared by all at one database."""

    def __init__(self, connect: Callable[[], Any], exported: dict[int, str]) -> None:
        self._connect, self._exported = connect, exported
        self._conn: Any = None
        self._block: Any = None

    def do(self, what: str, parameters: Sequence[Any]) -> Answer:
        try:
            return "ok", self._do(what, parameters)
        except (psycopg.errors.UndefinedObject, psycopg.errors.InvalidParameterValue):  # one in some versions, one in others
            return "error", "no such snapshot"
        except psycopg.Error as error:
            return "error", type(error).__name__

    def _do(self, what: str, parameters: Sequence[Any]) -> object:
        match what:
            case "connect":
                self._conn = self._connect()
                self._conn.execute("SET timezone = 'UTC'")
            case "begin":
                self._conn.isolation_level = parameters[0]
                self._block = self._conn.transaction()
                self._block.__enter__()
            case "commit":
                self._block.__exit__(None, None, None)
            case "roll back":
                undo = psycopg.Rollback()
                with suppress(psycopg.Rollback):
                    self._block.__exit__(psycopg.Rollback, undo, None)
            case "export":
                self._exported[parameters[0]] = self._conn.execute("SELECT pg_export_snapshot()").fetchone()[0]
            case "import":
                self._conn.execute(f"SET TRANSACTION SNAPSHOT '{self._exported[parameters[0]]}'")
            case _:
                cursor = self._conn.execute(what, parameters)
                if what == SEEN:
                    return len(cursor.fetchall())
                return cursor.fetchall() if "SELECT" in what[:6] or "RETURNING" in what else cursor.rowcount
        return None


class MadeUp:
    """Asks the simulation; a seat without an answer waits."""

    def __init__(self) -> None:
        self._scheduler = Scheduler(random.Random(0))
        self._database = Database(self._scheduler)
        self._database.aggregates = {key: Aggregate() for key in KEYS}
        self._asked: list[list[tuple[str, Sequence[Any]]]] = [[] for _ in range(SEATS)]
        self._answers: dict[int, Answer] = {}
        exported: dict[int, str] = {}
        for n in range(SEATS):
            process = Process(self._scheduler, f"seat-{n}")
            seat = Seat(lambda process=process: Connection(self._database, process, autocommit=True), exported)  # type: ignore[misc]
            process.start(lambda n=n, seat=seat: self._sit(n, seat))  # type: ignore[misc]

    def _sit(self, n: int, seat: Seat) -> None:
        while True:
            self._scheduler.wait("waits to be asked", ready=lambda: bool(self._asked[n]))
            what, parameters = self._asked[n].pop()
            self._answers[n] = seat.do(what, parameters)

    def ask(self, n: int, what: str, parameters: Sequence[Any]) -> dict[int, Answer]:
        """The answers that this brings, to whoever asked."""
        self._answers.clear()
        self._asked[n].append((what, parameters))
        self._scheduler.run(lambda: True, steps=10**9)
        assert not self._scheduler.errors
        return dict(self._answers)

    def close(self) -> None:
        self._scheduler.end()


class Real:
    """Asks Postgres; a seat without an answer is one that Postgres says is blocked."""

    def __init__(self, dsn: str, eventually: Callable[..., Any]) -> None:
        self._eventually = eventually
        self._watch = psycopg.connect(dsn, autocommit=True)
        name = sql.Identifier(self._watch.info.dbname)  # whoever closes a ring is the one to be told so
        self._watch.execute(sql.SQL("ALTER DATABASE {} SET deadlock_timeout = '1ms'").format(name))
        exported: dict[int, str] = {}
        self._conns: dict[int, psycopg.Connection[Any]] = {}
        self._seats = [Seat(lambda n=n: self._connect(dsn, n), exported) for n in range(SEATS)]  # type: ignore[misc]
        self._threads = [ThreadPoolExecutor(1) for _ in range(SEATS)]
        self._asked: dict[int, Future[Answer]] = {}

    def _connect(self, dsn: str, n: int) -> psycopg.Connection[Any]:
        self._conns[n] = psycopg.connect(dsn, autocommit=True)
        return self._conns[n]

    def ask(self, n: int, what: str, parameters: Sequence[Any]) -> dict[int, Answer]:
        asked = self._threads[n].submit(self._seats[n].do, what, parameters)
        self._asked = {n: asked, **self._asked}  # looked at first: only what it has done decides whether the others still wait
        wait([asked], timeout=0.01)  # mostly it is there at once
        self._eventually(self._settled)
        answered = {seat: asked.result() for seat, asked in self._asked.items() if asked.done()}
        self._asked = {seat: asked for seat, asked in self._asked.items() if seat not in answered}
        return answered

    def _settled(self) -> bool:
        """Everybody has answered, or waits for somebody who does not: a ring is about to be broken."""
        at_work = {n for n, asked in self._asked.items() if not asked.done()}
        behind = {n: self._blockers(n) for n in at_work}
        while at_work:
            waiting = {n for n in at_work if behind[n] and not behind[n] & at_work}
            if not waiting:
                return False
            at_work -= waiting
        return True

    def _blockers(self, n: int) -> set[int]:
        """The seats that Postgres says this one waits for."""
        if n not in self._conns:
            return set()
        pids = {conn.info.backend_pid: seat for seat, conn in self._conns.items()}
        found = self._watch.execute("SELECT unnest(pg_blocking_pids(%s))", (self._conns[n].info.backend_pid,))
        return {pids[pid] for (pid,) in found}

    def close(self) -> None:
        self._watch.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                            " AND pid <> pg_backend_pid()")  # fmt: skip
        for thread in self._threads:
            thread.shutdown()
        for conn in (self._watch, *self._conns.values()):
            conn.close()


class Script:
    """What a seed has the seats ask: only what each is free to ask in the state it is in."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self._states = ["outside"] * SEATS  # outside, committed: READ COMMITTED, fresh or repeatable: REPEATABLE READ, failed
        self._exports = 0
        self._events = 0
        self.waiting: set[int] = set()

    def next(self) -> tuple[int, str, Sequence[Any]]:
        n = self._draw.choice([n for n in range(SEATS) if n not in self.waiting])
        state = self._states[n]
        if state == "failed" or (state != "outside" and self._draw.random() < 0.15):
            self._states[n] = "outside"
            return n, self._draw.choice(["commit", "roll back"]) if state != "failed" else "roll back", ()
        if state == "outside" and self._draw.random() < 0.7:
            self._states[n] = self._draw.choice(["committed", "fresh"])
            level = {"committed": psycopg.IsolationLevel.READ_COMMITTED, "fresh": psycopg.IsolationLevel.REPEATABLE_READ}
            return n, "begin", (level[self._states[n]],)
        if state == "fresh":
            self._states[n] = "repeatable"
            if self._exports and self._draw.random() < 0.5:
                return n, "import", (self._draw.randint(1, self._exports),)
        what, parameters = self._draw.choice(self._possible(state))
        if what == "export":
            self._exports += 1
            parameters = (self._exports,)
        return n, what, parameters

    def _possible(self, state: str) -> list[tuple[str, Sequence[Any]]]:
        draw = self._draw
        low = draw.randint(0, 8)
        held = draw.choice([([], []), (["orders"], ["a"])])
        everywhere = list(range(64))
        possible: list[tuple[str, Sequence[Any]]] = [
            (READ, (everywhere, low, *held, draw.randint(1, 4), 4_000_000)),
            (DELETE, (low, low + draw.randint(0, 4), everywhere, *held, draw.choice([[], [low, low + 1]]))),
            (BEHIND, (low,)),
        ]
        if state in {"fresh", "repeatable"}:
            return [*possible, ("export", ())]
        self._events += 1
        event = f"00000000-0000-4000-8000-{self._events:012d}"
        at = datetime(2026, 1, 1, 0, 0, self._events % 60, tzinfo=UTC)
        return [
            *possible, (CHANGE, (draw.choice(KEYS),)), (LISTED, ([low, low + 2],)), (SKIP_LOCKED, (2,)),
            (CLAIM, ("c", draw.choice("xyz"))), (SEEN, ("c", draw.choice("xyz"))),
            *[(APPEND, (event, "orders", draw.choice(KEYS), "Amended", '{"n": 1}', None, at))] * 3,
            *([(LOCK, (1, [1, 2])), (UNLOCK, (1, [2, 3]))] if state == "outside" else []),
        ]  # fmt: skip

    def heard(self, asked: int, answers: dict[int, Answer]) -> None:
        self.waiting.add(asked)
        for n, (how, _) in answers.items():
            self.waiting.discard(n)
            if how == "error":
                self._states[n] = "failed" if self._states[n] != "outside" else "outside"


@pytest.fixture
def both(postgres: str, eventually: Callable[..., Any]) -> Iterator[tuple[MadeUp, Real]]:
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(outbox.schema())
        conn.execute(shop.schema())
        conn.execute("CREATE TABLE aggregates (id text PRIMARY KEY, version bigint NOT NULL)")
        conn.execute("INSERT INTO aggregates SELECT unnest(%s::text[]), 0", (list(KEYS),))
    made_up, real = MadeUp(), Real(postgres, eventually)
    yield made_up, real
    made_up.close()
    real.close()


@pytest.mark.parametrize("seed", range(8))
def test_the_made_up_postgres_answers_as_the_real_one(both: tuple[MadeUp, Real], seed: int) -> None:
    """Three sessions, some hundred statements of relays, writers and consumers: every row, error and wait is the same."""
    made_up, real = both
    for n in range(SEATS):
        assert made_up.ask(n, "connect", ()) == real.ask(n, "connect", ())
    script, told = Script(seed), []
    for _ in range(STATEMENTS):
        n, what, parameters = script.next()
        answers = made_up.ask(n, what, parameters)
        really = real.ask(n, what, parameters)
        told.append(f"seat {n}: {understand(what).title if what in KNOWN else what} {parameters} -> {answers}")
        assert really == answers, "\n".join(told[-25:])
        script.heard(n, answers)
        if len(script.waiting) > 1:  # Postgres lets the first of them go on first; here the seed decides
            break


def test_a_statement_it_was_not_taught_is_refused() -> None:
    """By name, with where to teach it: no statement of the relay's can change unseen."""
    with pytest.raises(LookupError, match=r"teach it to .*simulation\.statements: DELETE FROM outbox WHERE"):
        understand("DELETE FROM outbox WHERE position = %s")


def test_the_relays_own_words_are_known() -> None:
    """Held keys are left out by the very words that the relay uses."""
    assert NOT_HELD in READ
    assert NOT_HELD in DELETE
