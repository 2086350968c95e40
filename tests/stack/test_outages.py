"""Services that are killed, stopped and frozen on purpose, and brought back. On real processes of a private stack."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from reference.stack import (
    Endpoints,
    PrivateStack,
    StackDown,
    StackError,
    endpoints,
    freeze,
    kill,
    private_stack,
    status,
    stop,
    thaw,
    up,
)
from reference.stack.catalog import SERVICES
from reference.stack.home import Home
from reference.stack.processes import family
from reference.stack.supervision import Supervisor


@pytest.fixture(scope="module")
def mine() -> Iterator[PrivateStack]:
    """All four services, for this module to break; the session's own are named by the environment meanwhile."""
    with private_stack() as private:
        yield private


@pytest.fixture
def whole(mine: PrivateStack) -> PrivateStack:
    """The same, whatever the test before has broken."""
    assert up(home=mine.home) == mine.endpoints
    return mine


def processes_of(service: str, private: PrivateStack) -> list[psutil.Process]:
    return family(Supervisor(Home.open(private.home)).pid(service))


def alive(those: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in those if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def state_of(service: str, private: PrivateStack) -> str:
    return next(state.state for state in status(home=private.home) if state.name == service)


def answers(service: str, private: PrivateStack) -> bool:
    SERVICES[service].probe(getattr(private.endpoints, service))
    return True


def eda(private: PrivateStack, *words: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("eda")
    env = {**os.environ, "EDA_HOME": str(private.home)}
    return subprocess.run([program, *words], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_is_gone_whole_and_comes_back_at_its_address(service: str, whole: PrivateStack) -> None:
    """Nothing of it lives when ``kill`` returns; ``up`` returns when it answers again, where it was."""
    before = processes_of(service, whole)
    kill(service, home=whole.home)
    assert (alive(before), state_of(service, whole)) == ([], "failed")
    assert getattr(up([service], home=whole.home), service) == getattr(whole.endpoints, service)
    assert answers(service, whole)


@pytest.mark.parametrize("service", SERVICES)
def test_a_frozen_service_stands_still_until_it_is_thawed(service: str, whole: PrivateStack) -> None:
    """No process of it moves, and all are the same afterwards; to freeze it twice, or thaw it twice, changes nothing."""
    before = processes_of(service, whole)
    freeze(service, home=whole.home)
    freeze(service, home=whole.home)
    assert {process.status() for process in alive(before)} == {psutil.STATUS_STOPPED}
    assert state_of(service, whole) == "frozen"
    assert (thaw(service, home=whole.home), thaw(service, home=whole.home)) == (True, False)
    assert answers(service, whole)
    assert processes_of(service, whole)[0] == before[0]


def test_up_thaws_what_is_frozen(whole: PrivateStack) -> None:
    """Whoever does not know what was done to the stack gets it back with the one verb for that."""
    before = processes_of("postgres", whole)[0]
    freeze("postgres", home=whole.home)
    with pytest.raises(psycopg.OperationalError):
        answers("postgres", whole)
    said: list[str] = []
    up(["postgres"], home=whole.home, say=said.append)
    assert (answers("postgres", whole), processes_of("postgres", whole)[0]) == (True, before)
    assert "postgres moves again at" in said[0]


def test_a_frozen_service_is_not_called_one_that_does_not_run(whole: PrivateStack) -> None:
    """Whoever asks where it answers is told that it is frozen, and what does not run beside it."""
    freeze("postgres", home=whole.home)
    with pytest.raises(StackDown, match=r"^postgres frozen: eda up postgres$"):
        endpoints("postgres", home=whole.home)
    stop("pubsub", home=whole.home)
    with pytest.raises(StackDown, match=r"^pubsub not running, postgres frozen: eda up$"):
        endpoints(home=whole.home)


def test_a_frozen_service_can_be_killed_and_stopped(whole: PrivateStack) -> None:
    """Neither waits for somebody to thaw it."""
    for end in (kill, stop):
        before = processes_of("postgres", whole)
        freeze("postgres", home=whole.home)
        end("postgres", home=whole.home)
        assert alive(before) == []
        up(["postgres"], home=whole.home)


def test_no_backend_outlives_a_killed_postmaster(whole: PrivateStack) -> None:
    """Not even one in the middle of a statement; what it had not committed is not there, what was committed is."""
    dsn = whole.endpoints.postgres
    with closing(psycopg.connect(dsn)) as client, closing(psycopg.connect(dsn)) as busy:
        client.execute("DROP TABLE IF EXISTS kept")
        client.execute("CREATE TABLE kept AS SELECT 1 AS n")
        client.commit()
        client.execute("INSERT INTO kept VALUES (2)")
        busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 1000000000)")
        before = processes_of("postgres", whole)
        kill("postgres", home=whole.home)
        assert alive(before) == []
        assert {client.info.backend_pid, busy.info.backend_pid} < {process.pid for process in before}
    up(["postgres"], home=whole.home)
    with psycopg.connect(dsn) as client:
        assert client.execute("SELECT n FROM kept ORDER BY n").fetchall() == [(1,)]


def test_an_immediate_stop_of_postgres_is_a_crash_that_it_recovers_from(whole: PrivateStack) -> None:
    """No checkpoint, no goodbye to clients; committed rows are there afterwards."""
    with closing(psycopg.connect(whole.endpoints.postgres, autocommit=True)) as client:
        client.execute("CREATE TABLE IF NOT EXISTS crashed (n int)")
        client.execute("INSERT INTO crashed VALUES (1)")
        before = processes_of("postgres", whole)
        stop("postgres", mode="immediate", home=whole.home)
        assert alive(before) == []
        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT 1")
    up(["postgres"], home=whole.home)
    with psycopg.connect(whole.endpoints.postgres) as client:
        assert client.execute("SELECT count(*) > 0 FROM crashed").fetchone() == (True,)
    assert "automatic recovery in progress" in Home.open(whole.home).log("postgres").read_text()


@pytest.mark.parametrize("service", ["postgres", "kafka"])
def test_an_orderly_stop_leaves_the_rest_running(service: str, whole: PrivateStack) -> None:
    """It is stopped, not failed, and the others do not notice."""
    before = processes_of(service, whole)
    stop(service, home=whole.home)
    assert alive(before) == []
    states = {state.name: state.state for state in status(home=whole.home)}
    assert states == {name: "stopped" if name == service else "ready" for name in SERVICES}


def test_what_has_crashed_behind_our_back_is_started_again(whole: PrivateStack, eventually: Callable[..., Any]) -> None:
    """``up`` asks also those that answered before: one that is about to die is no service that is up."""
    first = processes_of("pubsub", whole)[0]
    first.kill()
    up(["pubsub"], home=whole.home)
    assert answers("pubsub", whole)
    assert eventually(lambda: alive([first]) == [])


def test_only_postgres_stops_immediately(whole: PrivateStack) -> None:
    """The error says what there is instead, and nothing was stopped."""
    with pytest.raises(StackError, match="kafka has no immediate stop: kill it, or stop it in order"):
        stop("kafka", mode="immediate", home=whole.home)
    assert state_of("kafka", whole) == "ready"


def test_what_does_not_run_cannot_be_broken(whole: PrivateStack) -> None:
    """The error names the command that starts it."""
    stop("postgres", home=whole.home)
    for verb in (kill, stop, freeze, thaw):
        with pytest.raises(StackDown, match=r"^postgres is not running: eda up postgres$"):
            verb("postgres", home=whole.home)


def test_an_unknown_service_is_answered_with_the_names(whole: PrivateStack) -> None:
    """As by every verb."""
    with pytest.raises(StackError, match="no service is called kafak: there are kafka, rabbitmq, pubsub, postgres"):
        kill("kafak", home=whole.home)


def test_somebody_elses_service_is_not_touched(stack: Endpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable; the service answers as before."""
    monkeypatch.setenv("EDA_BACKEND", "env")
    monkeypatch.setenv("EDA_POSTGRES_DSN", stack.postgres)
    for verb in (kill, stop, freeze, thaw):
        with pytest.raises(StackError, match="postgres is named by EDA_POSTGRES_DSN and belongs to somebody else"):
            verb("postgres", home=tmp_path)
    SERVICES["postgres"].probe(stack.postgres)


def test_the_same_from_the_command_line(whole: PrivateStack) -> None:
    """``eda freeze``, ``thaw`` and ``kill`` say what they did and what ends it; a second kill is one line of error."""
    assert eda(whole, "freeze", "postgres").stdout == "postgres stands still; on with: eda thaw postgres\n"
    assert "frozen" in eda(whole, "status").stdout
    assert [eda(whole, "thaw", "postgres").stdout for _ in range(2)] == ["postgres moves again\n", "postgres was not frozen\n"]
    assert eda(whole, "kill", "postgres").stdout == "postgres is killed; back with: eda up postgres\n"
    again = eda(whole, "kill", "postgres")
    assert (again.returncode, again.stderr) == (1, "error: postgres is not running: eda up postgres\n")
