"""Several boards at once, on real brokers."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable

import pytest

from reference.brokers import Message, connect
from reference.event import Event
from reference.evidence.checker import check
from reference.evidence.history import History, Record
from reference.evidence.recorder import RecordingBroker
from reference.live.multiples import Boards
from reference.stack import Endpoints

SERVICES = ("kafka", "rabbitmq", "pubsub")
COUNT = 60


def carry(url: str, history: History) -> None:
    """Publish some events, receive and ack them all."""
    topic = f"boards-{uuid.uuid4().hex[:8]}"
    with connect(url, timeout_s=60) as inner, RecordingBroker(inner, history) as broker:
        broker.create_topic(topic)
        subscription = broker.subscribe([topic], group=topic)
        events = [Event(type="OrderPlaced", source="shop", subject=f"order-{n % 6}", data={}) for n in range(COUNT)]
        broker.publish([Message(topic, event.key, event.to_value(), event.to_headers()) for event in events])
        seen: set[str] = set()
        while len(seen) < COUNT:
            for delivery in subscription.receive(20, 1.0):
                seen.add(Event.from_wire(delivery.headers, delivery.value).id)
                subscription.ack(delivery)
        subscription.close()


def test_three_brokers_are_watched_at_once(stack: Endpoints) -> None:
    """Each board shows its own broker's history, while all three are at work, and the picture has all of them."""
    histories = {service: History() for service in SERVICES}
    workers = [threading.Thread(target=carry, args=(getattr(stack, name), history)) for name, history in histories.items()]
    with Boards(histories, hz=100) as boards:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
    told = {name: shot.verdict for name, shot in boards.snapshot().data.items()}
    assert told == {name: check(history) for name, history in histories.items()}
    assert [verdict.delivered for verdict in told.values()] == [COUNT] * 3
    assert [thread for thread in threading.enumerate() if thread.name == "board"] == []


def test_an_error_in_the_block_ends_all_of_them(make_orders: Callable[..., list[Record]]) -> None:
    """No thread stays, and what had arrived by then is shown."""
    with pytest.raises(KeyError, match="the block's own"), Boards({"a": History(make_orders(2)), "b": History()}) as boards:
        raise KeyError("the block's own")
    assert [thread for thread in threading.enumerate() if thread.name == "board"] == []
    assert [shot.verdict.acknowledged for shot in boards.snapshot().data.values()] == [2, 0]


def test_no_history_is_no_board() -> None:
    """An error says what is missing."""
    with pytest.raises(ValueError, match="need a history each"):
        Boards({})


def test_all_of_them_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one cannot begin, those before it stand still."""
    boards = Boards({"kafka": History(), "rabbitmq": History()})

    def refused(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(boards.boards["rabbitmq"]._telling, "look", refused)
    with pytest.raises(KeyboardInterrupt):
        boards.__enter__()
    assert [thread for thread in threading.enumerate() if thread.name == "board"] == []
