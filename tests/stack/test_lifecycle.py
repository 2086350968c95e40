"""Start, stop, start again; and what is left when something is killed. On real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from reference.stack import Endpoints, StackDown, StackError, State, down, endpoints, erase, ports, starting, status, up
from reference.stack.accounts import SYSTEM, unprivileged
from reference.stack.home import Home
from reference.stack.postgres import Postgres
from reference.stack.processes import MARK, processes, sweep
from reference.stack.pubsub import PubSub
from reference.stack.service import Program, Site

ONLY = ["postgres"]  # the quickest, where one is enough


def wait_until(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def pids(place: Path) -> set[int]:
    return {process.pid for process in processes(Home.open(place))}


def state_of(service: str) -> State:
    return next(state for state in status() if state.name == service)


def test_a_second_up_changes_nothing(place: Path) -> None:
    """It says so, and the processes are the same."""
    first, before, said = up(ONLY), pids(place), list[str]()
    assert up(ONLY, say=said.append) == first
    assert said == [f"postgres is up already at 127.0.0.1:{Home.open(place).ports()['postgres']}"]
    assert pids(place) == before


def test_down_leaves_no_process_and_keeps_the_data(place: Path) -> None:
    """The same address, the same password, the same rows afterwards."""
    before = up(ONLY)
    with psycopg.connect(before.postgres) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    assert down() == 1
    assert pids(place) == set()
    assert up(ONLY) == before
    with psycopg.connect(before.postgres) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_down_again_has_nothing_to_do(place: Path) -> None:
    """Zero services were running."""
    assert down() == 0


def test_nothing_is_started_by_asking(place: Path) -> None:
    """The error names the command that starts it."""
    with pytest.raises(StackDown, match="kafka, rabbitmq, pubsub and postgres not running: eda up"):
        endpoints()
    assert pids(place) == set()


def test_a_service_of_its_own(place: Path) -> None:
    """One service can run without the others; asking for all says which are missing."""
    up(ONLY)
    assert endpoints("postgres").kafka == ""
    with pytest.raises(StackDown, match=r"^kafka, rabbitmq and pubsub not running: eda up$"):
        endpoints()


def test_a_killed_supervisor_takes_its_services_along(place: Path) -> None:
    """Linux tells them; the next start begins from nothing and finds the data."""
    up(ONLY)
    os.kill(int((place / "supervisord.pid").read_text()), signal.SIGKILL)
    wait_until(lambda: not pids(place))
    assert {state.state for state in status()} == {"stopped"}
    up(ONLY)


def test_what_a_dead_supervisor_left_behind_is_found(place: Path) -> None:
    """By the mark in its environment, although nobody remembers its pid."""
    orphan = subprocess.Popen(["sleep", "600"], env={**os.environ, MARK: str(place)}, start_new_session=True)
    assert sweep(Home.open(place)) == 1
    assert orphan.poll() is not None


def test_a_killed_owner_takes_the_stack_along(place: Path) -> None:
    """Not even ``kill -9`` of a test run leaves a process behind."""
    code = "import time; from reference.stack import up; up(['postgres'], owner=True); print('up', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        server = psutil.Process(state_of("postgres").pid)
        everything = {server, *server.children(recursive=True), *processes(Home.open(place))}
        owner.kill()
    wait_until(lambda: not any(process.is_running() for process in everything))


def test_a_start_that_was_killed_half_way_is_started_again(place: Path) -> None:
    """Wherever it died, whatever it left."""
    for delay in (0.3, 0.6, 0.9, 1.2, 1.8, 2.4):
        half = subprocess.Popen([sys.executable, "-c", "from reference.stack import up; up(['kafka', 'postgres'])"])
        time.sleep(delay)
        half.kill()
        half.wait()
    with psycopg.connect(up(["kafka", "postgres"]).postgres) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("shop",)


def test_two_starts_at_once_are_one(place: Path) -> None:
    """The second waits for the first, and finds it done."""
    code = "from reference.stack import up; up(['postgres'])"
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [one.wait(120) for one in both] == [0, 0]
    servers = [process for process in processes(Home.open(place)) if process.name() == "postgres"]
    assert len(servers) == 1


def test_a_remembered_port_that_was_taken_is_given_up(place: Path) -> None:
    """One line says to whom, and the service is somewhere else."""
    up(ONLY)
    before = Home.open(place).ports()["postgres"]
    down()
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", before))
        stranger.listen()
        said: list[str] = []
        up(ONLY, say=said.append)
    after = Home.open(place).ports()["postgres"]
    assert after != before
    assert said[0] == f"port {before} is taken by {psutil.Process().name()} (pid {os.getpid()}): postgres moves to {after}"


def outrun(monkeypatch: pytest.MonkeyPatch, losses: int, service: type[Postgres | PubSub], *, at: str = "127.0.0.1") -> list[int]:
    """Somebody takes this service's port so often, each time after it was looked at and before the service did."""
    prepare, name, lost, strangers = service.prepare, service().name, list[int](), ExitStack()

    def late(self: Any, site: Site) -> Program:
        program = prepare(self, site)
        if len(lost) < losses:
            stranger = socket.socket(socket.AF_INET6 if ":" in at else socket.AF_INET)
            strangers.enter_context(stranger).bind((at, site.ports[name]))
            stranger.listen()
            lost.append(site.ports[name])
        return program

    monkeypatch.setattr(service, "prepare", late)
    return lost


@pytest.mark.parametrize("service", [Postgres, PubSub])
def test_a_port_lost_while_starting_is_given_up(
    place: Path, monkeypatch: pytest.MonkeyPatch, service: type[Postgres | PubSub]
) -> None:  # fmt: skip
    """The service is started on another; also the emulator, which goes on without its port, as if nothing had happened."""
    name, said = service().name, list[str]()
    lost = outrun(monkeypatch, 1, service)
    up([name], say=said.append)
    assert said[0].startswith(f"port {lost[0]} is taken by {psutil.Process().name()} (pid {os.getpid()}): {name} moves to ")
    assert state_of(name).is_ready


def test_a_port_lost_too_often_is_an_error(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After three attempts, each on another port."""
    lost = outrun(monkeypatch, starting.ATTEMPTS, Postgres)
    with pytest.raises(StackError, match=r"(?s)^postgres .*Address already in use"):
        up(ONLY)
    assert len(set(lost)) == starting.ATTEMPTS


def test_a_listener_at_another_address_is_none_of_ours(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the service takes to answer."""
    lost = outrun(monkeypatch, 1, Postgres, at="127.0.0.2")
    probe, until = Postgres.probe, time.monotonic() + 3 * starting.RARELY_S

    def slow(self: Postgres, url: str) -> None:
        probe(self, url)
        if time.monotonic() < until:
            raise OSError("not yet")

    monkeypatch.setattr(Postgres, "probe", slow)
    up(ONLY)
    assert Home.open(place).ports()["postgres"] == lost[0]


def test_who_answers_in_its_place_is_noticed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another home's emulator, which lets everybody in: the one that has lost its port to it is started on another."""
    up(["pubsub"])
    theirs, assign = Home.open(place).ports(), ports.assign
    outdated = [theirs]  # as it looked a moment ago

    def assigned(*words: Any, **more: Any) -> dict[str, int]:
        return outdated.pop() if outdated else assign(*words, **more)

    monkeypatch.setattr(starting.ports, "assign", assigned)
    other = Path(tempfile.mkdtemp(prefix="eda-test-"))
    try:
        up(["pubsub"], home=other)
        assert Home.open(other).ports() != theirs
        assert state_of("pubsub").is_ready
    finally:
        erase(home=other)


def test_a_service_that_dies_is_reported_with_its_last_words(place: Path) -> None:
    """The error has the end of its log and the log's path; the other service is up."""
    both = ["kafka", "postgres"]
    up(ONLY)
    down()
    version = next((place / "postgres").glob("cluster-*/PG_VERSION"))
    version.write_text("9.1\n")
    with pytest.raises(StackError, match="postgres stopped while it was starting") as failure:
        up(both)
    assert str(place / "log" / "postgres.log") in str(failure.value)
    assert "not compatible with this version" in str(failure.value)
    assert {state.name: state.state for state in status() if state.name in both} == {"kafka": "ready", "postgres": "failed"}


def test_a_service_that_died_later_is_not_ready(place: Path) -> None:
    """It stays down, for the labs kill on purpose; the next up brings it back."""
    up(ONLY)
    os.kill(state_of("postgres").pid or 0, signal.SIGKILL)
    wait_until(lambda: state_of("postgres").state == "failed")
    with pytest.raises(StackDown):
        endpoints("postgres")
    up(ONLY)
    assert state_of("postgres").is_ready


def test_a_home_with_an_odd_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blanks, commas, brackets, percent signs and umlauts, whatever the locale: all of them mean something to somebody."""
    monkeypatch.setenv("LC_ALL", "C")
    odd = place / "a clone, 100% [grün]"
    try:
        up(home=odd)
    finally:
        down(home=odd)


@pytest.mark.skipif(unprivileged() is None, reason="only root runs Postgres as somebody else")
def test_a_home_that_postgres_cannot_reach(native: None, tmp_path: Path) -> None:
    """A clone below ``/root``: the cluster is kept where its user can walk to, and goes with the home."""
    hidden = tmp_path / "root" / "clone"
    hidden.parent.mkdir(mode=0o700)
    cluster = SYSTEM / Home.open(hidden).token
    try:
        up(ONLY, home=hidden)
        assert cluster.stat().st_mode & 0o777 == 0o700
    finally:
        erase(home=hidden)
    assert not cluster.exists()


def test_a_service_somebody_else_runs(stack: Endpoints, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by the environment, it is asked whether it answers, used, and left alone."""
    monkeypatch.setenv("EDA_BACKEND", "env")
    monkeypatch.setenv("EDA_POSTGRES_DSN", stack.postgres)
    monkeypatch.setenv("EDA_KAFKA_URL", stack.kafka)
    assert up().backend == "env"
    assert down() == 0
    assert pids(place) == set()


def test_a_service_somebody_else_does_not_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable and the address, without the password."""
    monkeypatch.setenv("EDA_BACKEND", "env")
    port = ports.spare()
    monkeypatch.setenv("EDA_POSTGRES_DSN", f"postgresql://lab:hush@127.0.0.1:{port}/shop")
    with pytest.raises(StackError, match=f"EDA_POSTGRES_DSN names 127.0.0.1:{port}, which does not answer") as failure:
        up(ONLY)
    assert "hush" not in str(failure.value)
