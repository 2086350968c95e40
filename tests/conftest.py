"""What a test may ask for beside the session's ``stack``: a database and a topic of its own, and time."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import structlog
from confluent_kafka.admin import AdminClient, NewTopic
from hypothesis import HealthCheck, settings
from psycopg import sql

from reference.brokers.kafka.address import KafkaAddress
from reference.evidence import chromium as evidence
from reference.stack import Endpoints, kill, up

if TYPE_CHECKING:
    from playwright.sync_api import Browser


# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


@pytest.fixture(autouse=True)
def _logs_as_they_come() -> None:
    """Whatever an earlier test, or a command it called in this process, made of the logs is forgotten."""
    structlog.reset_defaults()


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
def restart(stack_home: Path | None) -> Callable[[str], None]:
    """``restart("kafka")`` kills the session's broker with SIGKILL and starts it again on its old data."""

    def kill_and_start(service: str) -> None:
        kill(service, home=stack_home)
        up([service], home=stack_home)

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


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's Chromium, without a window. It ends with the module and not with the session.

    While Playwright runs, asyncio believes that a loop runs in this thread, and would serve other modules, and notebooks,
    in another way.
    """
    with evidence.chromium() as browser:
        yield browser
