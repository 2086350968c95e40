"""The consumer on the real broker and the real database: applied once, whatever comes again, crashes or is no event."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from reference.brokers import Delivery, Message
from reference.brokers.kafka import KafkaBroker
from reference.delivery.consumer import Consumer
from reference.event import Event
from reference.evidence.controls.inboxes import no_inbox
from reference.evidence.faults import Crash, DeliverTwice

Conn = psycopg.Connection[Any]
Eventually = Callable[..., Any]
Applied = Callable[[], dict[str, list[int]]]


@pytest.fixture
def publish(kafka: KafkaBroker, route: str) -> Callable[..., None]:
    """``publish("a", 1)``: event number 1 of key a."""

    def send(key: str, n: int, kind: str = "OrderAmended") -> None:
        event = Event(type=kind, source="/orders", subject=key, data={"n": n}, sequence=n)
        kafka.publish([Message(route, key, event.to_value(), event.to_headers())])

    return send


@pytest.fixture
def applied(conn: Conn) -> Applied:
    """By key, the numbers of the events whose effects are in the database, in order."""
    conn.execute("CREATE TABLE effects (entry bigint GENERATED ALWAYS AS IDENTITY, key text, n int)")

    def read() -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for key, n in conn.execute("SELECT key, n FROM effects ORDER BY entry"):
            found.setdefault(key, []).append(n)
        return found

    return read


def note(conn: Conn, event: Event) -> None:
    conn.execute("INSERT INTO effects (key, n) VALUES (%s, %s)", (event.subject, event.data["n"]))


@pytest.fixture
def consumer(db: str, kafka: KafkaBroker, route: str) -> Callable[..., Consumer]:
    """A consumer of the topic, in the test's group."""

    def make(handler: Callable[[Conn, Event], None] = note, *, twice: bool = False, **options: Any) -> Consumer:
        subscription: Any = kafka.subscribe([route], group=route)
        if twice:
            subscription = DeliverTwice(subscription, every=1)
        return Consumer(subscription, db, {"OrderAmended": handler}, name="billing", **options)

    return make


def consume(consumer: Consumer, until: Callable[[], bool], eventually: Eventually) -> None:
    eventually(lambda: consumer.run_once(timeout_s=0.2) and until())


@contextmanager
def running(consumer: Consumer) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=consumer.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


def test_each_effect_is_applied_in_order(
    publish: Callable[..., None], consumer: Callable[..., Consumer], applied: Applied, eventually: Eventually
) -> None:
    """One transaction an event."""
    for n in range(1, 6):
        publish("a", n)
    with consumer() as billing:
        consume(billing, lambda: len(applied().get("a", [])) == 5, eventually)
    assert applied() == {"a": [1, 2, 3, 4, 5]}


def test_a_type_without_a_handler_is_passed_over(
    publish: Callable[..., None],
    consumer: Callable[..., Consumer],
    applied: Applied,
    kafka: KafkaBroker,
    route: str,
    eventually: Eventually,
) -> None:
    """Acked, and no lag is left."""
    publish("a", 1, "SomethingElse")
    publish("a", 2)
    with consumer() as billing:
        consume(billing, applied, eventually)
    assert (applied(), sum(kafka.lag([route], group=route).values())) == ({"a": [2]}, 0)


def test_every_delivery_doubled_is_applied_once(
    publish: Callable[..., None], consumer: Callable[..., Consumer], applied: Applied, eventually: Eventually
) -> None:
    """The inbox absorbs what at-least-once costs."""
    skipped: list[str] = []
    for n in range(1, 6):
        publish("a", n)
    with consumer(twice=True, at=lambda point, event: point == "skipped" and skipped.append(event.id)) as billing:
        consume(billing, lambda: len(skipped) == 5, eventually)
    assert applied() == {"a": [1, 2, 3, 4, 5]}


def test_without_an_inbox_it_would_be_applied_twice(
    publish: Callable[..., None], consumer: Callable[..., Consumer], applied: Applied, eventually: Eventually
) -> None:
    """The control fails."""
    publish("a", 1)
    with consumer(twice=True, claim=no_inbox) as billing:
        consume(billing, applied, eventually)
    assert applied() == {"a": [1, 1]}


@pytest.mark.parametrize("point", ["received", "applied", "committed"])
def test_a_crash_anywhere_applies_it_once(
    publish: Callable[..., None], consumer: Callable[..., Consumer], applied: Applied, eventually: Eventually, point: str
) -> None:
    """Before the effect, between effect and commit, between commit and ack: the redelivery puts it right."""
    crashed: list[str] = []

    def crash(name: str, _event: Event) -> None:
        if name == point:
            crashed.append(name)
            raise Crash(name)

    publish("a", 1)
    with consumer(at=crash) as doomed, pytest.raises(Crash):
        consume(doomed, lambda: False, eventually)
    before = applied()
    publish("a", 2)
    with consumer() as billing:
        consume(billing, lambda: applied().get("a", [])[-1:] == [2], eventually)
    assert (before, applied()) == ({"a": [1]} if point == "committed" else {}, {"a": [1, 2]})


def test_acked_first_a_crash_loses_it(
    publish: Callable[..., None], consumer: Callable[..., Consumer], applied: Applied, eventually: Eventually
) -> None:
    """At most once: for what may be lost."""

    def crash(name: str, _event: Event) -> None:
        if name == "applied":
            raise Crash(name)

    publish("a", 1)
    with consumer(at=crash, ack_first=True) as doomed, pytest.raises(Crash):
        consume(doomed, lambda: False, eventually)
    publish("a", 2)
    with consumer() as billing:
        consume(billing, applied, eventually)
    assert applied() == {"a": [2]}


def test_a_failing_handler_holds_its_partition_and_heals(
    publish: Callable[..., None],
    consumer: Callable[..., Consumer],
    applied: Applied,
    kafka: KafkaBroker,
    route: str,
    eventually: Eventually,
) -> None:
    """Others go on; when the cause is gone, it is applied, and then what stood behind it."""
    broken = threading.Event()
    broken.set()

    def fragile(conn: Conn, event: Event) -> None:
        note(conn, event)
        if broken.is_set() and (event.subject, event.data["n"]) == ("a", 2):
            raise RuntimeError("the card service is down")

    keys = [f"k{n}" for n in range(20)]
    for n in (1, 2, 3):
        publish("a", n)
    for key in keys:
        publish(key, 1)
    [stuck] = {d.partition for d in kafka.replay(route) if d.key == b"a"}
    elsewhere = {(d.key or b"").decode() for d in kafka.replay(route) if d.partition != stuck}
    with consumer(fragile) as billing, capture_logs() as said, running(billing):
        eventually(lambda: elsewhere <= set(applied()) and any(line["event"] == "consumer.held" for line in said))
        held = applied()
        broken.clear()
        eventually(lambda: sum(map(len, applied().values())) == 23)
    assert (held["a"], set(held) - {"a"}, applied()["a"]) == ([1], elsewhere, [1, 2, 3])
    assert "RuntimeError: the card service is down" in next(line["reason"] for line in said if line["event"] == "consumer.held")


def test_poison_without_a_place_for_it_holds_its_partition(
    publish: Callable[..., None],
    consumer: Callable[..., Consumer],
    applied: Applied,
    kafka: KafkaBroker,
    route: str,
    eventually: Eventually,
) -> None:
    """Nothing may be lost in silence."""
    kafka.publish([Message(route, "a", b"\xff", [])])
    publish("a", 1)
    with consumer() as billing, capture_logs() as said:
        consume(billing, lambda: any("no ce_… header" in line["reason"] for line in said), eventually)
    assert (applied(), sum(kafka.lag([route], group=route).values())) == ({}, 2)


def test_poison_is_rejected_with_its_reason_and_the_rest_goes_on(
    publish: Callable[..., None],
    consumer: Callable[..., Consumer],
    applied: Applied,
    kafka: KafkaBroker,
    route: str,
    eventually: Eventually,
) -> None:
    """Whoever takes it gets the bytes as they came."""
    rejected: list[tuple[Delivery, str]] = []
    kafka.publish([Message(route, "a", b"\xff", [])])
    publish("a", 1)
    with consumer(reject=lambda delivery, why: rejected.append((delivery, why))) as billing:
        consume(billing, applied, eventually)
    assert (applied(), [delivery.value for delivery, _ in rejected]) == ({"a": [1]}, [b"\xff"])
    assert "no ce_… header" in rejected[0][1]


def test_a_reject_that_fails_keeps_the_poison(
    consumer: Callable[..., Consumer], kafka: KafkaBroker, route: str, eventually: Eventually
) -> None:
    """It is acked only when the other side has it."""

    def full(_delivery: Delivery, _why: str) -> None:
        raise OSError("no room for dead letters")

    kafka.publish([Message(route, "a", b"\xff", [])])
    with consumer(reject=full) as billing, capture_logs() as said:
        consume(billing, lambda: any("no room" in line["reason"] for line in said), eventually)
    assert sum(kafka.lag([route], group=route).values()) == 1


def test_a_database_that_goes_away_is_come_back_to(
    conn: Conn, publish: Callable[..., None], consumer: Callable[..., Consumer], applied: Applied, eventually: Eventually
) -> None:
    """Its session is ended in the middle of an event: that one comes again, none is lost, none applied twice."""
    cut: list[str] = []

    def cut_off(point: str, _event: Event) -> None:
        if point == "applied" and len(cut) < 2:
            cut.append(point)
            conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'eda-consumer billing'")

    for n in (1, 2, 3):
        publish("a", n)
    with consumer(at=cut_off) as billing, capture_logs() as said, running(billing):
        eventually(lambda: applied().get("a", [])[-1:] == [3])
    assert (applied(), len([line for line in said if line["event"] == "consumer.waiting"])) == ({"a": [1, 2, 3]}, 2)


def test_a_loop_of_single_steps_survives_a_lost_session_too(
    conn: Conn, publish: Callable[..., None], consumer: Callable[..., Consumer], applied: Applied, eventually: Eventually
) -> None:
    """Whoever calls run_once sees one error and may simply call it again."""
    publish("a", 1)
    with consumer() as billing:
        consume(billing, applied, eventually)
        conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'eda-consumer billing'")
        publish("a", 2)
        with pytest.raises(psycopg.OperationalError):
            consume(billing, lambda: False, eventually)
        consume(billing, lambda: applied() == {"a": [1, 2]}, eventually)


def test_a_second_consumer_applies_for_itself(
    db: str, kafka: KafkaBroker, route: str, publish: Callable[..., None], applied: Applied, eventually: Eventually
) -> None:
    """Two groups, two names, two effects."""
    publish("a", 1)
    for name in ("billing", "stock"):
        with closing(Consumer(kafka.subscribe([route], group=f"{route}-{name}"), db, {"OrderAmended": note}, name=name)) as one:
            wanted = len(applied().get("a", [])) + 1
            consume(one, lambda wanted=wanted: len(applied().get("a", [])) == wanted, eventually)  # type: ignore[misc]
    assert applied() == {"a": [1, 1]}


def test_closed_from_another_thread_it_ends(
    publish: Callable[..., None], consumer: Callable[..., Consumer], applied: Applied
) -> None:
    """In silence, and without another connection to the database; the event in hand is finished first."""
    handling, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def slow(conn: Conn, event: Event) -> None:
        handling.set()
        assert go_on.wait(60)
        note(conn, event)

    for n in (1, 2):
        publish("a", n)
    billing = consumer(slow)
    run = threading.Thread(target=billing.run, args=(threading.Event(),))
    close = threading.Thread(target=lambda: (billing.close(), closed.set()))
    with capture_logs() as logs:
        run.start()
        assert handling.wait(60)
        close.start()
        assert billing._closed.wait(60)
        go_on.set()
        run.join(60)
        assert closed.wait(60)
    assert (run.is_alive(), applied(), billing._conn, logs) == (False, {"a": [1]}, None, [])


def test_a_subscription_closed_by_somebody_else_is_an_error(consumer: Callable[..., Consumer], kafka: KafkaBroker) -> None:
    """The loop does not turn without rest over what cannot bring anything more."""
    with consumer() as billing:
        kafka.close()
        with pytest.raises(RuntimeError, match="subscription is closed"):
            billing.run(threading.Event())
