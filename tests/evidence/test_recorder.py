from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.errors import AdminShutdown, DeadlockDetected, UniqueViolation

from reference.brokers import BrokerUnavailable, Message, NotConfirmed
from reference.brokers.kafka import KafkaBroker
from reference.brokers.memory import MemoryBroker
from reference.event import Event
from reference.evidence.checker import check
from reference.evidence.faults import Crash
from reference.evidence.history import History
from reference.evidence.recorder import LagProbe, RecordingBroker, RecordingSubscription, applied, committing

EVENT = Event(type="OrderPlaced", source="/orders", subject="order-1", data={}, id="e1", sequence=4)


@pytest.fixture
def memory() -> MemoryBroker:
    broker = MemoryBroker()
    broker.create_topic("orders", partitions=2)
    return broker


@pytest.fixture
def history() -> History:
    return History()


def told(history: History) -> list[tuple[Any, ...]]:
    return [(record.op, record.phase, record.event, record.key) for record in history]


def wire(topic: str = "orders", event: Event = EVENT) -> Message:
    return Message(topic, event.key, event.to_value(), event.to_headers())


def test_what_was_confirmed_refused_and_unknown_is_told_apart(memory: MemoryBroker, history: History) -> None:
    """Per message, as the broker answered; each was begun before."""
    broker = RecordingBroker(memory, history)
    broker.publish([wire()])
    with pytest.raises(NotConfirmed):
        broker.publish([wire("nowhere"), wire()])
    nobody = KafkaBroker("kafka://127.0.0.1:9", timeout_s=0.2)
    with RecordingBroker(nobody, history) as away, pytest.raises(BrokerUnavailable):
        away.publish([wire()])
    phases = ("invoke", "ok", "invoke", "invoke", "fail", "ok", "invoke", "info")
    assert told(history) == [("publish", phase, "e1", "order-1") for phase in phases]


def test_deliveries_and_acks_are_recorded_where_they_happened(memory: MemoryBroker, history: History) -> None:
    """Event, key, sequence, partition, offset and group."""
    memory.publish([wire()])
    with RecordingBroker(memory, history) as broker:
        subscription = broker.subscribe(["orders"], group="g")
        [delivery] = subscription.receive()
        subscription.nack(delivery)
        [delivery] = subscription.receive()
        subscription.ack(delivery)
        subscription.close()
    joined, *records = history
    assert [record.op for record in records] == ["deliver", "nack", "deliver", "ack"]
    assert (joined.op, joined.topic, joined.group, joined.note) == ("join", "orders", "g", "earliest")
    assert {(r.event, r.key, r.seq, r.topic, r.partition, r.offset, r.group, r.process) for r in records} == {
        ("e1", "order-1", 4, "orders", delivery.partition, 0, "g", joined.process)
    }


def test_where_a_broker_numbers_nothing_no_offset_is_told(memory: MemoryBroker, history: History) -> None:
    """A member's own count is no place in a log."""
    memory.publish([wire()])
    member = RecordingSubscription(memory.subscribe(["orders"], group="g"), history, group="billing")
    member.receive()
    assert [(record.offset, record.group) for record in history] == [(None, "billing")]


def test_a_handover_is_told_before_what_it_explains(memory: MemoryBroker, history: History) -> None:
    """Deliveries may go back then, and only then, without a nack."""
    broker = RecordingBroker(memory, history)
    first = broker.subscribe(["orders"], group="g")
    memory.publish([wire()])
    first.receive()
    second = memory.subscribe(["orders"], group="g")
    second.close()
    first.receive(timeout_s=0)
    joined, _, assigned, *_ = history
    assert [record.op for record in history][:3] == ["join", "deliver", "assign"]
    assert (assigned.process, assigned.group) == (joined.process, "g")  # or it would explain nothing of this reader's


def test_bytes_that_are_no_event_are_recorded_where_they_lie(memory: MemoryBroker, history: History) -> None:
    """So that they too can be counted."""
    memory.publish([Message("orders", "k", b"\xff", [("ce_sequence", b"third")])])
    RecordingBroker(memory, history).subscribe(["orders"], group="g").receive()
    [_, record] = history
    assert (record.event.startswith("orders["), record.key, record.seq) == (True, "k", None)


def test_a_message_without_an_id_is_published_and_not_told(memory: MemoryBroker, history: History) -> None:
    """No record is written that could not be read again."""
    broker = RecordingBroker(memory, history)
    broker.publish([Message("orders", "k", b"\xff", []), wire()])
    assert told(history) == [("publish", phase, "e1", "order-1") for phase in ("invoke", "ok")]
    assert len(broker.subscribe(["orders"], group="g").receive()) == 2


def test_it_promises_what_the_broker_inside_promises(memory: MemoryBroker, history: History) -> None:
    """Everything else passes through."""
    broker = RecordingBroker(memory, history)
    broker.create_topic("more")
    memory.publish([wire("more")])
    assert (broker.url, broker.capabilities, sum(broker.lag(["more"], group="g").values()), len(list(broker.replay("more")))) == (
        memory.url, memory.capabilities, 1, 1,
    )  # fmt: skip


CUT_OFF = psycopg.OperationalError  # without a word from the server


@pytest.mark.parametrize(
    ("raised", "phase"),
    [(None, "ok"), (ValueError, "fail"), (UniqueViolation, "fail"), (DeadlockDetected, "fail"), (Crash, "info"),
     (CUT_OFF, "info"), (AdminShutdown, "info")],
)  # fmt: skip
def test_a_commit_ends_well_badly_or_unknown(history: History, raised: type[BaseException] | None, phase: str) -> None:
    """A writer that died says nothing of its commit, and neither does a database that went away before it answered."""
    try:
        with committing(history, EVENT):
            if raised:
                raise raised
    except (ValueError, psycopg.Error, Crash):
        pass
    assert [(record.op, record.phase, record.event, record.seq) for record in history] == [
        ("commit", "invoke", "e1", 4),
        ("commit", phase, "e1", 4),
    ]


def test_only_a_committed_effect_counts_as_applied(history: History) -> None:
    """Not one that was merely begun; a redelivery that was skipped, and a type nobody handles, are told as such."""
    at = applied(history, group="g")
    for point in ("received", "applied", "committed", "acked", "received", "skipped", "received", "ignored"):
        at(point, EVENT)  # type: ignore[arg-type]
    begun, ended = ("apply", "invoke"), [("apply", "ok"), ("skip", "ok"), ("apply", "fail")]
    assert [(r.op, r.phase) for r in history] == [step for end in ended for step in (begun, end)]
    assert check(history).applied == 1


def test_lag_is_sampled_per_partition(memory: MemoryBroker, history: History) -> None:
    """And summed for whoever waits for zero."""
    memory.publish([wire()])
    assert LagProbe(memory, ["orders"], history, group="g").sample() == 1
    assert sorted((record.partition or 0, record.value or 0) for record in history) == sorted(
        (partition, depth) for (_, partition), depth in memory.lag(["orders"], group="g").items()
    )


def test_lag_is_sampled_while_the_block_runs(memory: MemoryBroker, history: History, eventually: Callable[..., Any]) -> None:
    """In the background, until it ends."""
    with LagProbe(memory, ["orders"], history, group="g", hz=200):
        eventually(lambda: len(history) >= 6)
    assert {record.op for record in history} == {"lag"}


def test_the_last_sample_is_of_the_end(memory: MemoryBroker, history: History) -> None:
    """However seldom it looks: what a picture says of the end is true of the end."""
    with LagProbe(memory, ["orders"], history, group="g", hz=0.001):
        memory.publish([wire()])
    assert sum(record.value or 0 for record in history) == 1


def test_a_broker_that_is_away_is_a_gap_in_the_picture(history: History, eventually: Callable[..., Any]) -> None:
    """Not the end of it."""
    with LagProbe(MemoryBroker(), ["nowhere"], history, group="g", hz=200):
        eventually(lambda: len(history) >= 2)
    assert {(record.op, record.phase, "nowhere" in record.note) for record in history} == {("lag", "fail", True)}


def test_a_sequence_that_counts_nothing_is_not_recorded(memory: MemoryBroker, history: History) -> None:
    """A header may hold thousands of digits: the delivery is recorded all the same."""
    memory.publish([Message("orders", "order-1", b"{}", [("ce_sequence", "9" * 5_000)])])
    RecordingSubscription(memory.subscribe(["orders"], group="g"), history).receive()
    assert [(record.op, record.key, record.seq) for record in history] == [("deliver", "order-1", None)]
