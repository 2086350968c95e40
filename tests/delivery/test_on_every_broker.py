"""Outbox, relay, inbox and consumer on each of the three brokers: the same code, the same promises."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reference.brokers import Broker, Delivery, Message
from reference.brokers import connect as connect_broker
from reference.delivery.consumer import Consumer
from reference.delivery.relay import Relay
from reference.event import Event
from reference.stack import Endpoints

Conn = psycopg.Connection[Any]
EDA = Path(sys.executable).with_name("eda")
STRUCTURED = "application/cloudevents+json"


@pytest.fixture(params=["kafka", "rabbitmq", "pubsub"])
def url(request: pytest.FixtureRequest, stack: Endpoints) -> str:
    """Each broker's address in turn."""
    address: str = getattr(stack, request.param)
    return address


@pytest.fixture
def broker(url: str) -> Iterator[Broker]:
    """Each broker in turn, patient enough for a slow machine."""
    with connect_broker(url, timeout_s=30) as opened:
        yield opened


@pytest.fixture
def route(broker: Broker) -> str:
    """A topic that its group waits for."""
    topic = f"every-{uuid.uuid4().hex[:8]}"
    broker.create_topic(topic)
    broker.subscribe([topic], group=topic).close()
    return topic


@pytest.fixture
def effects(conn: Conn) -> Callable[[], list[tuple[str, int]]]:
    """Key and number of each event whose effect is in the database, in order."""
    conn.execute("CREATE TABLE effects (entry bigint GENERATED ALWAYS AS IDENTITY, key text, n int)")
    return lambda: conn.execute("SELECT key, n FROM effects ORDER BY entry").fetchall()


def note(conn: Conn, event: Event) -> None:
    conn.execute("INSERT INTO effects (key, n) VALUES (%s, %s)", (event.subject, event.data["n"]))


@pytest.fixture
def consumer(broker: Broker, route: str, db: str) -> Iterator[Callable[..., Consumer]]:
    """Consumers of the topic, all in its group; closed after the test."""
    made: list[Consumer] = []

    def make(handler: Callable[[Conn, Event], None] = note, **options: Any) -> Consumer:
        subscription = broker.subscribe([route], group=route)
        made.append(Consumer(subscription, db, {"OrderAmended": handler}, name="billing", **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_committed_published_applied(
    db: str, conn: Conn, broker: Broker, route: str, consumer: Any, effects: Any, write_many: Any, eventually: Any
) -> None:
    """Two hundred events of ten keys: each applied once, each key in its order, and the outbox empty."""
    write_many(conn, 200)
    with Relay(db, broker, route=route) as relay:
        assert relay.run_once() == 200
    billing = consumer()
    eventually(lambda: billing.run_once(timeout_s=0.2) and len(effects()) == 200)
    by_key = {key: [n for k, n in effects() if k == key] for key, _ in effects()}
    assert by_key == {f"k{k % 10}": list(range(k, 201, 10)) for k in range(1, 11)}


def test_the_relay_is_a_command_for_every_broker(db: str, conn: Conn, url: str, route: str, write_many: Any, left: Any) -> None:
    """The address is all that differs."""
    write_many(conn, 5)
    words = [EDA, "relay", "--dsn", db, "--broker", url, "--route", route, "--once"]
    said = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=120)
    assert (said.returncode, said.stdout, left()) == (0, "published 5 · held back 0 keys\n", 0)


def test_a_failing_handler_holds_its_key_until_it_succeeds(
    db: str, conn: Conn, broker: Broker, route: str, consumer: Any, effects: Any, write: Any, eventually: Any
) -> None:
    """What comes behind it waits; it is applied once, and nothing is out of order."""
    for _ in range(3):
        write(conn, "k")
    with Relay(db, broker, route=route) as relay:
        relay.run_once()
    failures = iter([True, True, False])

    def failing(connection: Conn, event: Event) -> None:
        if event.data["n"] == 2 and next(failures, False):
            raise RuntimeError("not now")
        note(connection, event)

    billing = consumer(failing)
    eventually(lambda: billing.run_once(timeout_s=0.2) and len(effects()) == 3, within_s=60)
    assert effects() == [("k", 1), ("k", 2), ("k", 3)]


def test_a_relay_killed_after_publishing_repeats_and_loses_nothing(
    db: str, conn: Conn, url: str, broker: Broker, route: str, consumer: Any, effects: Any, write_many: Any, eventually: Any
) -> None:
    """SIGKILL between publish and delete: all of the page comes twice, and counts once."""
    write_many(conn, 50)
    command = [sys.executable, "-m", "reference.evidence.victim", "carry", "--dsn", db, "--broker", url, "--route", route]
    killed = subprocess.run([*command, "--kill", "published:1"], stderr=subprocess.DEVNULL, check=False, timeout=120)
    with Relay(db, broker, route=route) as relay:
        eventually(relay.run_once)
    passed: list[str] = []
    billing = consumer(at=lambda point, event: passed.append(point))
    eventually(lambda: billing.run_once(timeout_s=0.2) and passed.count("received") == 100)
    assert (killed.returncode, len(effects()), passed.count("skipped")) == (-9, 50, 50)


def strangers(topic: str, *, binary: bool) -> list[tuple[Message, str]]:
    """What other producers send, each with the reason for which it is a dead letter, or none."""
    whole = {"specversion": "1.0", "id": "s1", "type": "OrderAmended", "source": "/s", "subject": "structured", "data": {"n": 1}}
    mine = Event(type="OrderAmended", source="/orders", subject="binary", data={"n": 2})
    torn = [(name, value) for name, value in mine.to_headers() if name != "ce_subject"]
    found = [
        (Message(topic, "a", json.dumps(whole), [("content-type", STRUCTURED)]), ""),
        (Message(topic, "b", b'{"order": 1}', [("content-type", "application/json")]), "no ce_… header"),
        (Message(topic, "c", b"not JSON", mine.to_headers()), "body is not JSON"),
        (Message(topic, "d", b"[]", [("content-type", STRUCTURED)]), "must be a JSON object"),
        (Message(topic, "e", mine.to_value(), torn), "ce_subject missing"),
        (Message(topic, "f", mine.to_value(), mine.to_headers()), ""),
    ]
    if binary:
        odd = [*mine.to_headers(), ("ce_tenant", b"\xff\xfe")]
        found.append((Message(topic, "g", mine.to_value(), odd), "ce_tenant is not UTF-8"))
    return found


def test_strangers_are_read_or_dead_letters_with_a_reason(
    broker: Broker, route: str, consumer: Any, effects: Any, eventually: Any
) -> None:
    """Structured CloudEvents are applied; plain JSON and torn events are rejected, each with why; nothing is lost or stuck."""
    sent = strangers(route, binary=broker.capabilities.binary_headers)
    broker.publish([message for message, _ in sent])
    rejected: dict[bytes | None, str] = {}

    def reject(delivery: Delivery, reason: str) -> None:
        rejected[delivery.key] = reason

    billing = consumer(reject=reject)
    wanted = {message.key.encode(): reason for message, reason in sent if reason}
    eventually(lambda: billing.run_once(timeout_s=0.2) and len(rejected) == len(wanted) and len(effects()) == 2)
    assert sorted(effects()) == [("binary", 2), ("structured", 1)]
    assert {key: reason for key, reason in wanted.items() if reason not in rejected[key]} == {}


def test_a_header_of_64_kb_is_carried_or_refused_by_name(broker: Broker, route: str) -> None:
    """Never a lost connection, and the message beside it arrives."""
    large = Message(route, "large", b"{}", [("blob", "x" * 65_536)])
    small = Message(route, "small", b"{}", [("blob", "x")])
    expected = {b"small", b"large"}
    if broker.capabilities.max_header_bytes is None or broker.capabilities.max_header_bytes >= 65_536:
        broker.publish([large, small])
    else:
        with pytest.raises(Exception, match="blob") as error:
            broker.publish([large, small])
        assert list(error.value.failures) == [0]  # type: ignore[attr-defined]
        expected = {b"small"}
    subscription = broker.subscribe([route], group=route)
    found: set[bytes | None] = set()
    for _ in range(20):
        for delivery in subscription.receive(10, 0.5):
            found.add(delivery.key)
            subscription.ack(delivery)
        if found == expected:
            break
    subscription.close()
    assert found == expected
