"""``eda relay`` and ``eda schema`` as an operator meets them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reference.brokers.kafka import KafkaBroker
from reference.delivery import outbox
from reference.stack import Endpoints

EDA = Path(sys.executable).with_name("eda")
ROW = "INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES ('orders', %s, 'OrderPlaced', %s)"


def eda(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([EDA, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=120)


@pytest.fixture
def db(postgres: str) -> str:
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(eda("schema").stdout)
    return postgres


@pytest.fixture
def relay(db: str, stack: Endpoints, topic: Callable[..., str]) -> list[str]:
    """The command's words but for ``--once``."""
    route = topic("orders")
    with KafkaBroker(stack.kafka) as broker:
        broker.create_topic(route)  # there already, and known by the time this returns
    return ["relay", "--dsn", db, "--broker", stack.kafka, "--route", route]


def test_the_schema_is_printed_as_it_is() -> None:
    """To be piped into psql."""
    assert eda("schema").stdout == outbox.schema()


def test_once_carries_what_is_there(db: str, relay: list[str]) -> None:
    """And says how many; 0 is all well."""
    with psycopg.connect(db, autocommit=True) as conn:
        for n in range(3):
            conn.execute(ROW, (f"k{n}", "{}"))
    said = eda(*relay, "--once")
    assert (said.returncode, said.stdout) == (0, "published 3 · held back 0 keys\n")


def test_once_tells_of_a_row_it_had_to_hold_back(db: str, relay: list[str]) -> None:
    """Exit code 1, and the log names position, id and column."""
    with psycopg.connect(db, autocommit=True) as conn:
        conn.execute(ROW, ("good", "{}"))
        position, event_id = conn.execute(ROW + " RETURNING position, id::text", ("bad", "[]")).fetchone() or (0, "")
    said = eda(*relay, "--once")
    assert (said.returncode, said.stdout) == (1, "published 1 · held back 1 keys\n")
    assert all(word in said.stderr for word in (str(position), event_id, "payload must be a JSON object"))


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--dsn", "postgresql://lab:geheim@127.0.0.1:9/shop", "127.0.0.1:9/shop"),
        ("--dsn", "geheim", "not a database address"),
        ("--broker", "kafka://lab:geheim@127.0.0.1:9", "127.0.0.1:9"),
    ],
)
def test_what_does_not_answer_is_one_line(db: str, relay: list[str], option: str, value: str, named: str) -> None:
    """The address, no traceback, no password; exit code 1."""
    with psycopg.connect(db, autocommit=True) as conn:
        conn.execute(ROW, ("k", "{}"))
    said = eda(*relay, "--once", option, value)
    assert (said.returncode, len(said.stderr.splitlines()), named in said.stderr) == (1, 1, True)
    assert "geheim" not in said.stderr


def test_a_database_without_an_outbox_is_one_line(postgres: str, stack: Endpoints) -> None:
    """With the remedy."""
    said = eda("relay", "--dsn", postgres, "--broker", stack.kafka, "--once")
    where = postgres.rpartition("@")[2]
    assert (said.returncode, said.stderr) == (1, f"error: database {where} has no outbox: apply what `eda schema` prints\n")


@pytest.mark.parametrize(
    ("option", "value"),
    [("--broker", "http://geheim@one"), ("--route", "{type}"), ("--lanes", "0"), ("--lanes", "65"), ("--page", "0")],
)
def test_an_option_that_cannot_be_right_is_a_usage_error(relay: list[str], option: str, value: str) -> None:
    """Exit code 2, as for any misuse."""
    said = eda(*relay, option, value)
    assert (said.returncode, "Traceback" in said.stderr, "geheim" in said.stderr) == (2, False, False)


def test_sigterm_ends_it_in_order(db: str, relay: list[str], eventually: Callable[..., Any]) -> None:
    """The round in hand is finished, and the exit code is 0."""
    with psycopg.connect(db, autocommit=True) as conn:
        conn.execute(ROW, ("k", "{}"))
        process = subprocess.Popen([EDA, *relay], stderr=subprocess.PIPE, text=True, env=os.environ)
        try:
            eventually(lambda: conn.execute("SELECT count(*) FROM outbox").fetchone() == (0,))
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert (process.returncode, said) == (0, "")
