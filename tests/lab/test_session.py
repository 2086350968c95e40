"""A learner's session: what it survives, and what it refuses in one sentence."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any, LiteralString

import psycopg
import pytest

from reference.lab import Lab
from reference.stack import Endpoints

PATIENCE_S = 120.0  # for each step
INTERRUPTS = 8
# Every line is said when what it tells of is over, so that who reads along knows where the child is. One that hangs says where.
CHILD = """
import faulthandler, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where whoever started the tests ignores it
def say(*words):
    print(*words, flush=True)
    faulthandler.dump_traceback_later(float(sys.argv[2]), exit=True)
say("started")
from reference.lab import Lab
lab = Lab.open(2, docked=False)
say("address", lab.dsn)
for _ in range(int(sys.argv[1])):
    lab.begin()
    say("begun")
    try:
        lab.backlog(orders=20, changes=1000)
    except KeyboardInterrupt:
        say("interrupted")
lab.begin()
lab.backlog(orders=3, changes=2)
say("committed", lab.judge().acknowledged, lab.count("outbox"))
"""


@pytest.fixture
def lab(stack: Endpoints) -> Lab:
    return Lab.open(1, docked=False)


@pytest.fixture
def child(stack: Endpoints) -> Iterator[subprocess.Popen[str]]:
    """A learner's kernel; one that hangs at a step ends, and says where."""
    command = [sys.executable, "-c", CHILD, str(INTERRUPTS), str(PATIENCE_S)]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, **streams, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(child: subprocess.Popen[str], word: str) -> list[str]:
    """What follows ``word`` on the next line that begins with it."""
    assert child.stdout is not None
    before = list[str]()
    for line in child.stdout:
        first, *rest = line.split() or [""]
        if first == word:
            return rest
        before.append(line)
    pytest.fail(f"the child ended, or hung, before it said {word!r}: {''.join(before)}")


def test_an_interrupted_lab_goes_on(child: subprocess.Popen[str], eventually: Callable[..., Any]) -> None:
    """However often, and wherever in a command, Ctrl-C strikes: the next experiment starts, and writes what it is to write."""
    [dsn] = (" ".join(said(child, "address")),)
    with psycopg.connect(dsn, autocommit=True) as looking:
        for _ in range(INTERRUPTS):
            said(child, "begun")
            eventually(lambda: looking.execute("SELECT FROM outbox LIMIT 1").fetchone() is not None)
            child.send_signal(signal.SIGINT)
            said(child, "interrupted")
    assert said(child, "committed") == ["6", "6"]


def strand(conn: psycopg.Connection[Any]) -> None:
    """As an interrupt between sending and reading does: a command is under way, and nobody waits for its end."""
    conn.pgconn.send_query(b"SELECT 1")


def test_a_stranded_connection_is_made_anew(lab: Lab) -> None:
    """At the next use, whatever that is; the old one is closed."""
    for use in (lab.begin, lab.reset, lambda: lab.count("orders"), lambda: lab.table("SELECT 1")):
        stranded = lab.conn
        strand(stranded)
        use()
        assert (stranded.closed, lab.conn.closed) == (True, False)
    lab.backlog(orders=2, changes=2)
    assert lab.judge().acknowledged == 4


def test_a_broken_off_transaction_takes_nothing_with_it(lab: Lab) -> None:
    """Whatever an interrupt has left of it, open or half counted: what is written next is committed."""

    def interrupted(conn: psycopg.Connection[Any], *_: object) -> None:
        conn.execute("BEGIN")
        conn._num_transactions += 1
        raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        lab.write(interrupted)
    lab.backlog(orders=2, changes=2)
    with psycopg.connect(lab.dsn) as looking:
        assert looking.execute("SELECT count(*) FROM outbox").fetchone() == (4,)


def test_a_connection_that_works_is_left_alone(lab: Lab, eventually: Callable[..., Any]) -> None:
    """While another thread waits for Postgres on it, and in the middle of a transaction."""
    conn, ends = lab.conn, list[object]()
    with psycopg.connect(lab.dsn) as holding:
        holding.execute("SELECT pg_advisory_lock(6)")
        waiting = threading.Thread(target=lambda: ends.append(conn.execute("SELECT pg_advisory_lock(6)").fetchone()))
        waiting.start()
        eventually(lambda: conn.info.transaction_status is psycopg.pq.TransactionStatus.ACTIVE)
        asking = threading.Thread(target=lambda: ends.append(lab.conn is conn))
        asking.start()
        holding.execute("SELECT pg_advisory_unlock(6)")
        for thread in (waiting, asking):
            thread.join(PATIENCE_S)
    assert sorted(map(str, ends)) == ["('',)", "True"]
    with conn.transaction():
        assert lab.conn is conn


@pytest.mark.parametrize("last", ["SELECT 1", "SELECT 1/0"])
def test_an_experiment_begins_outside_any_transaction(lab: Lab, last: LiteralString) -> None:
    """What an interrupt has left open, or failed, is rolled back: others see the empty tables, and what comes after."""
    lab.conn.execute("BEGIN")
    with suppress(psycopg.errors.DivisionByZero):
        lab.conn.execute(last)
    lab.begin()
    lab.backlog(orders=2, changes=2)
    with psycopg.connect(lab.dsn, options="-c lock_timeout=30s") as other:
        assert other.execute("SELECT count(*) FROM outbox").fetchone() == (4,)


@pytest.mark.parametrize("block", ["relay", "warehouse"])
def test_no_experiment_begins_while_something_works_on_another(lab: Lab, block: str) -> None:
    """Refused in one sentence that says what to do, and nothing is touched; after the block, and after its failure, it begins."""
    lab.backlog(orders=2, changes=2)
    topic, told = lab.topic, rf"`with lab\.{block}\(\)` still works on this one: leave that block first, or interrupt"
    with getattr(lab, block)():
        for begin in (lab.begin, lab.reset, lambda: ExitStack().enter_context(lab.on("kafka"))):
            with pytest.raises(RuntimeError, match=told):
                begin()
    assert (lab.topic, lab.judge().acknowledged) == (topic, 4)
    with pytest.raises(KeyboardInterrupt), getattr(lab, block)():
        raise KeyboardInterrupt
    lab.begin()
    assert lab.topic != topic


def test_a_lab_works_on_another_broker_and_comes_back(lab: Lab) -> None:
    """Relay and warehouse run in the block, and their end is not in the way of the next experiment."""
    home = lab.broker_url
    with lab.on("rabbitmq"):
        with lab.relay(), lab.warehouse():
            lab.backlog(orders=2, changes=2)
            lab.settle()
        assert (lab.judge().applied, lab.broker_url != home) == (4, True)
    assert (lab.broker_url, lab.judge().acknowledged) == (home, 0)


def test_a_lag_is_waited_for_only_where_one_is_sampled(lab: Lab) -> None:
    """Before any board and after it: an error that names the board."""
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"call it in `with lab\.board\(\):`"):
            lab.wait_for_lag(1)
        with lab.board():
            lab.wait_for_lag(0)


@pytest.mark.parametrize("count", ["x", 1.5, float("nan"), -1, None, True])
def test_only_a_count_is_predicted(lab: Lab, count: Any) -> None:
    """Said at once, and not when the verdict is there."""
    with pytest.raises(ValueError, match=r"lost=.* is no count: predict a whole number from 0 on"):
        lab.predict(lost=count)


def test_one_count_is_predicted_once(lab: Lab) -> None:
    """It has two names; which of two guesses was meant, nobody knows."""
    with pytest.raises(ValueError, match="committed and acknowledged are two names of one count"):
        lab.predict(committed=1, acknowledged=2)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0])
def test_nothing_is_played_for_no_time(lab: Lab, seconds: float) -> None:
    """Refused before anything runs."""
    with pytest.raises(ValueError, match="is no time to play for"):
        lab.play(seconds=seconds)
    assert len(lab.history) == 0
