from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reference.brokers import BrokerUnavailable, Message, NotConfirmed
from reference.brokers.kafka import KafkaBroker
from reference.brokers.memory import MemoryBroker
from reference.event import Event
from reference.evidence.faults import Crash
from reference.evidence.history import History
from reference.evidence.recorder import LagProbe, RecordingBroker, applied, committing

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
    """Per message, as the broker answered."""
    broker = RecordingBroker(memory, history)
    broker.publish([wire()])
    with pytest.raises(NotConfirmed):
        broker.publish([wire("nowhere"), wire()])
    nobody = KafkaBroker("kafka://127.0.0.1:9", timeout_s=0.2)
    with RecordingBroker(nobody, history) as away, pytest.raises(BrokerUnavailable):
        away.publish([wire()])
    assert told(history) == [("publish", phase, "e1", "order-1") for phase in ("ok", "fail", "ok", "info")]


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
    records = list(history)
    assert [record.op for record in records] == ["deliver", "deliver", "ack"]
    first = records[0]
    assert (first.event, first.key, first.seq, first.partition, first.offset, first.group) == (
        "e1", "order-1", 4, delivery.partition, 0, "g",
    )  # fmt: skip


def test_bytes_that_are_no_event_are_recorded_where_they_lie(memory: MemoryBroker, history: History) -> None:
    """So that they too can be counted."""
    memory.publish([Message("orders", "k", b"\xff", [("ce_sequence", b"third")])])
    RecordingBroker(memory, history).subscribe(["orders"], group="g").receive()
    [record] = history
    assert (record.event.startswith("orders["), record.key, record.seq) == (True, "k", None)


def test_it_promises_what_the_broker_inside_promises(memory: MemoryBroker, history: History) -> None:
    """Everything else passes through."""
    broker = RecordingBroker(memory, history)
    broker.create_topic("more")
    memory.publish([wire("more")])
    assert (broker.url, broker.capabilities, sum(broker.lag(["more"], group="g").values()), len(list(broker.replay("more")))) == (
        memory.url, memory.capabilities, 1, 1,
    )  # fmt: skip


@pytest.mark.parametrize(("raised", "phase"), [(None, "ok"), (ValueError, "fail"), (Crash, "info")])
def test_a_commit_ends_well_badly_or_unknown(history: History, raised: type[BaseException] | None, phase: str) -> None:
    """A writer that died says nothing of its commit."""
    try:
        with committing(history, EVENT):
            if raised:
                raise raised
    except (ValueError, Crash):
        pass
    assert [(record.op, record.phase, record.event, record.seq) for record in history] == [
        ("commit", "invoke", "e1", 4),
        ("commit", phase, "e1", 4),
    ]


def test_only_a_committed_effect_counts_as_applied(history: History) -> None:
    """Not one that was merely begun, nor a redelivery that was skipped."""
    at = applied(history, group="g")
    for point in ("received", "applied", "committed", "skipped", "acked"):
        at(point, EVENT)  # type: ignore[arg-type]
    assert [(record.op, record.event, record.group) for record in history] == [("apply", "e1", "g")]


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


def test_a_broker_that_is_away_is_a_gap_in_the_picture(history: History, eventually: Callable[..., Any]) -> None:
    """Not the end of it."""
    with LagProbe(MemoryBroker(), ["nowhere"], history, group="g", hz=200):
        eventually(lambda: len(history) >= 2)
    assert {(record.op, record.phase, "nowhere" in record.note) for record in history} == {("lag", "fail", True)}
