"""What every test may ask for: a real stack of its own, a fresh database, a fresh topic.

One native stack a session, in a temporary home, on free ports, started when the first test or notebook needs it. It is
tied to this process, so that not even ``kill -9`` leaves anything behind. ``EDA_TEST_STACK=env`` uses the services that
``EDA_KAFKA_URL`` and ``EDA_POSTGRES_DSN`` name instead.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from psycopg import sql

from reference.brokers.kafka_address import KafkaAddress
from reference.stack import Endpoints, down, endpoints, erase, up

VARIABLES = ("EDA_HOME", "EDA_PORTS", "EDA_BACKEND", "EDA_KAFKA_URL", "EDA_POSTGRES_DSN")


class SessionStack:
    """The session's stack: started by the first :meth:`open`, stopped by :meth:`close`."""

    def __init__(self) -> None:
        self._outside = os.environ.get("EDA_TEST_STACK") == "env"
        self._before = {name: os.environ.get(name) for name in VARIABLES}
        self._running: Endpoints | None = None
        self.home = Path(tempfile.mkdtemp(prefix="eda-test-"))
        if not self._outside:
            for name in VARIABLES:
                os.environ.pop(name, None)
            # A test that starts something without saying where does it here, never in the user's own stack.
            os.environ |= {"EDA_HOME": str(self.home), "EDA_PORTS": "free", "EDA_BACKEND": "native"}

    def open(self) -> Endpoints:
        """Start it if need be, and put its addresses into the environment, where notebook kernels find them."""
        if self._running is None:
            self._running = endpoints() if self._outside else up(owner=True)
            os.environ |= {**self._running.as_env(), "EDA_BACKEND": "env"}
        return self._running

    def close(self) -> None:
        for name in VARIABLES:
            os.environ.pop(name, None)
        try:
            if not self._outside:
                os.environ["EDA_BACKEND"] = "native"
                erase(home=self.home) if self._running else down(home=self.home)
        finally:
            os.environ.pop("EDA_BACKEND", None)
            os.environ |= {name: value for name, value in self._before.items() if value is not None}
            shutil.rmtree(self.home, ignore_errors=True)


SESSION = pytest.StashKey[SessionStack]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SESSION] = SessionStack()


def pytest_unconfigure(config: pytest.Config) -> None:
    if SESSION in config.stash:
        config.stash[SESSION].close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before pytest starts a notebook's kernel, which inherits the environment: have the stack there."""
    if type(item).__name__ == "IPyNbCell":
        item.config.stash[SESSION].open()


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Endpoints:
    """The addresses of a real Kafka and a real Postgres that belong to this test session."""
    return request.config.stash[SESSION].open()


@pytest.fixture
def postgres(stack: Endpoints) -> Iterator[str]:
    """The DSN of a database that this test alone uses, empty, and dropped after it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(stack.postgres, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        yield urlunsplit(urlsplit(stack.postgres)._replace(path=f"/{name}"))
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def topic(stack: Endpoints) -> Iterator[Callable[..., str]]:
    """``topic("orders", partitions=3)`` makes a topic with a name of its own and returns it; deleted after the test."""
    admin = AdminClient({**KafkaAddress.parse(stack.kafka).client})
    made: list[str] = []

    def make(name: str = "orders", *, partitions: int = 3) -> str:
        unique = f"{name}-{uuid.uuid4().hex[:8]}"
        admin.create_topics([NewTopic(unique, partitions, 1)])[unique].result(timeout=30)
        made.append(unique)
        return unique

    yield make
    for deletion in admin.delete_topics(made).values() if made else ():
        deletion.exception(timeout=30)


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """``eventually(condition, within_s=30)`` asks again and again until the answer is true, and returns it."""

    def wait(condition: Callable[[], Any], *, within_s: float = 30.0) -> Any:
        deadline = time.monotonic() + within_s
        while not (answer := condition()):
            assert time.monotonic() < deadline, f"not within {within_s:g} s"
            time.sleep(0.02)
        return answer

    return wait
