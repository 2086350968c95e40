"""What a test may ask for beside the session's ``stack``: a database and a topic of its own, and time."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from psycopg import sql

from reference.brokers.kafka.address import KafkaAddress
from reference.stack import Endpoints, status, up


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
def restart(stack: Endpoints, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``restart("kafka")`` kills the session's broker with SIGKILL and starts it again on its old data."""

    def kill_and_start(service: str) -> None:
        monkeypatch.setenv("EDA_BACKEND", "native")
        victim = psutil.Process(next(state.pid for state in status() if state.name == service and state.pid))
        victim.kill()
        gone, _ = psutil.wait_procs([victim], timeout=30)
        assert gone
        up([service])
        monkeypatch.setenv("EDA_BACKEND", "env")

    return kill_and_start


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
