"""Faults of whole services, in one line each, on a private stack."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg
import pytest

from reference.brokers import connect
from reference.delivery import outbox
from reference.event import Event
from reference.evidence.faults import services as faults
from reference.evidence.history import History
from reference.stack import Endpoints, PrivateStack, StackError, private_stack, status


@pytest.fixture(scope="module")
def mine() -> Iterator[PrivateStack]:
    """A Postgres of this module's own, on a disk of its own where mounting is allowed."""
    with private_stack("postgres", postgres_disk_mb=128 if os.geteuid() == 0 else 0) as private:
        yield private


def notes(history: History) -> list[str]:
    return [record.note for record in history if record.op == "fault"]


def answer(dsn: str) -> int:
    with psycopg.connect(dsn) as conn:
        row = conn.execute("SELECT 42").fetchone()
        return int(row[0]) if row else 0


@pytest.mark.parametrize("mode", ["kill", "orderly", "immediate"])
def test_a_restart_in_each_way(mode: faults.Way, mine: PrivateStack) -> None:
    """One line takes it down and brings it back; how long that took is returned, and the history has it."""
    history = History()
    assert faults.restart("postgres", mode=mode, home=mine.home, history=history) > 0
    assert (answer(mine.endpoints.postgres), notes(history)) == (42, ["restart postgres"])


def test_a_killed_service_stays_down_until_it_is_restarted(mine: PrivateStack) -> None:
    """The labs and the campaign count what is lost meanwhile."""
    history = History()
    faults.kill("postgres", home=mine.home, history=history)
    assert next(state.state for state in status(home=mine.home) if state.name == "postgres") == "failed"
    faults.restart("postgres", home=mine.home, history=history)
    assert (answer(mine.endpoints.postgres), notes(history)) == (42, ["kill postgres", "restart postgres"])


def test_frozen_while_the_block_runs(mine: PrivateStack) -> None:
    """Thawed whatever ends it; a client that waited gets its answer then."""
    history = History()
    with ThreadPoolExecutor() as clients:
        with pytest.raises(KeyError), faults.frozen("postgres", home=mine.home, history=history):  # noqa: PT012
            waiting = clients.submit(answer, mine.endpoints.postgres)
            raise KeyError
        assert waiting.result(timeout=60) == 42
    assert notes(history) == ["freeze postgres", "thaw postgres"]


def test_terminated_backends(mine: PrivateStack) -> None:
    """Those of the name, or all of the database but the caller's own; each client learns it when it speaks next."""
    dsn = mine.endpoints.postgres
    with closing(psycopg.connect(dsn, application_name="relay")) as relay, closing(psycopg.connect(dsn)) as other:
        assert faults.terminate_backends(dsn, application_name="nobody") == 0
        assert faults.terminate_backends(dsn, application_name="relay") == 1
        with pytest.raises(psycopg.OperationalError):
            relay.execute("SELECT 1")
        assert other.execute("SELECT 42").fetchone() == (42,)
        assert faults.terminate_backends(dsn) == 1
        with pytest.raises(psycopg.OperationalError):
            other.execute("SELECT 1")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_full_disk_while_the_block_runs(mine: PrivateStack) -> None:
    """Afterwards Postgres answers again, whatever it died of, and all that was committed is there."""
    history, committed = History(), 0
    with psycopg.connect(mine.endpoints.postgres) as conn:
        conn.execute("CREATE TABLE filled (n int, body text)")
    with faults.disk_full(home=mine.home, history=history), closing(psycopg.connect(mine.endpoints.postgres)) as conn:
        try:
            while True:
                conn.execute("INSERT INTO filled VALUES (%s, repeat('x', 1000))", (committed,))
                conn.commit()
                committed += 1
        except psycopg.errors.DiskFull:
            pass
    with psycopg.connect(mine.endpoints.postgres) as conn:
        assert conn.execute("SELECT count(*) FROM filled").fetchone() == (committed,)
    assert notes(history) == ["disk full", "disk drained"]


def test_only_a_small_disk_is_filled() -> None:
    """Anybody else's would be everybody's."""
    with pytest.raises(StackError, match="is no small disk"), faults.disk_full(home=None):
        pass


@pytest.mark.parametrize("broker", ["kafka", "rabbitmq", "pubsub"])
@pytest.mark.parametrize("hours", [1, -1])
def test_a_relay_whose_clock_is_off_carries_on(
    broker: str, hours: int, stack: Endpoints, postgres: str, eventually: Callable[..., Any]
) -> None:
    """The process that really runs, with another time of day: everything committed arrives, and again after a pause."""
    with psycopg.connect(postgres) as conn:
        conn.execute(outbox.schema())
    url = getattr(stack, broker)
    topic = f"clock-{time.time_ns()}"
    with connect(url) as target:
        target.create_topic(topic)
        subscription = target.subscribe([topic], group=topic)
        subscription.receive(1, 0.1)  # it has joined
        words = [sys.executable, "-m", "reference.evidence.victim", "carry", "--dsn", postgres]
        words += ["--broker", url, "--route", topic]
        seen: set[str] = set()

        def received(count: int) -> bool:
            for delivery in subscription.receive(100, 0.1):
                seen.add(Event.from_wire(delivery.headers, delivery.value).id)
                subscription.ack(delivery)
            return len(seen) >= count

        with subprocess.Popen(words, env=os.environ | faults.shifted_clock(hours=hours), stderr=subprocess.DEVNULL) as relay:
            try:
                for so_far in (20, 40):
                    for n in range(20):
                        with psycopg.connect(postgres) as conn:
                            outbox.append(conn, Event(type="Ticked", source="/clock", subject=f"clock-{n % 3}", data={"n": n}))
                    eventually(lambda so_far=so_far: received(so_far), within_s=60)
                assert relay.poll() is None
            finally:
                relay.kill()
        subscription.close()
    assert len(seen) == 40
