"""A broker of each kind, and what a test says to one.

A test that keeps ``@pytest.mark.promise("name")`` runs for every broker whose capabilities include that promise; at the
end of a session that ran them, the table broker × promise is printed with what came out.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from reference.brokers import Broker, Capabilities, Delivery, Message, Subscription, connect
from reference.brokers.kafka import KafkaBroker
from reference.brokers.memory import MemoryBroker
from reference.brokers.promises import EMULATOR_GAP, HELD, PROMISES, standing
from reference.stack import Endpoints

# Adapters connect at their first request: what they are capable of can be asked of an address where nobody is. Only a
# Pub/Sub from outside may be the real service, which is capable of more than the emulator.
NOWHERE = {
    "memory": "memory://",
    "kafka": "kafka://127.0.0.1:9",
    "rabbitmq": "amqp://127.0.0.1:9",
    "pubsub": os.environ.get("EDA_PUBSUB_URL", "pubsub://lab-project@127.0.0.1:9"),
}
NOWHERE["unordered"] = f"{NOWHERE['pubsub']}?ordered=false"
CAPABILITIES: dict[str, Capabilities] = {}
for _name, _url in NOWHERE.items():
    with connect(_url) as _broker:
        CAPABILITIES[_name] = _broker.capabilities


class Outcomes:
    """What came out of each promise on each broker, gathered from the reports of all processes that ran tests."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], bool] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for at in (value for name, value in report.user_properties if name == "promise"):
            promise, broker = str(at).split(" on ")
            self.found[promise, broker] = self.found.get((promise, broker), True) and report.passed


OUTCOMES = pytest.StashKey[Outcomes]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[OUTCOMES] = Outcomes()
    config.pluginmanager.register(config.stash[OUTCOMES])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each conformance test for every broker that keeps its promises: what is not offered is not run, nor called skipped."""
    if "broker" in metafunc.fixturenames and metafunc.module.__name__.endswith("test_protocol"):
        wanted = [PROMISES[marker.args[0]] for marker in metafunc.definition.iter_markers("promise")]
        kept = [name for name, able in CAPABILITIES.items() if all(standing(promise, able) == HELD for promise in wanted)]
        metafunc.parametrize("broker", kept, indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A promise that no broker here keeps leaves a test for nobody: it is not run, and not called skipped either."""
    items[:] = [item for item in items if not item.name.endswith("[NOTSET]")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    if call.when == "call" or report.failed:
        params = getattr(getattr(item, "callspec", None), "params", {})
        for marker in item.iter_markers("promise"):
            report.user_properties.append(("promise", f"{marker.args[0]} on {marker.kwargs.get('broker') or params['broker']}"))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    outcomes = config.stash[OUTCOMES].found
    if not outcomes:
        return
    terminalreporter.section("brokers and promises")
    terminalreporter.write_line("".join(["promise".ljust(18), *(name.ljust(14) for name in CAPABILITIES)]))
    for promise in PROMISES.values():
        cells = [_cell(promise.name, name, outcomes) for name in CAPABILITIES]
        terminalreporter.write_line("".join([promise.name.ljust(18), *(cell.ljust(14) for cell in cells)]))


def _cell(promise: str, broker: str, outcomes: dict[tuple[str, str], bool]) -> str:
    said = standing(PROMISES[promise], CAPABILITIES[broker])
    if said != HELD:
        return said if said == EMULATOR_GAP else "-"
    return {True: HELD, False: "BROKEN", None: "not run"}[outcomes.get((promise, broker))]


@pytest.fixture
def kafka(stack: Endpoints) -> Iterator[KafkaBroker]:
    """The real one, patient enough for a slow machine."""
    with KafkaBroker(stack.kafka, timeout_s=30) as broker:
        yield broker


@pytest.fixture
def rabbitmq(stack: Endpoints) -> Iterator[Broker]:
    """The real one, patient enough for a slow machine."""
    with connect(stack.rabbitmq, timeout_s=30) as broker:
        yield broker


@pytest.fixture
def pubsub(stack: Endpoints) -> Iterator[Broker]:
    """Google's emulator, with patience."""
    with connect(stack.pubsub, timeout_s=30) as broker:
        yield broker


@pytest.fixture
def unordered(stack: Endpoints) -> Iterator[Broker]:
    """The same emulator without order per key, which it can do more with."""
    with connect(f"{stack.pubsub}?ordered=false", timeout_s=30) as broker:
        yield broker


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> Broker:
    """Each adapter in turn: they keep the same promises."""
    return MemoryBroker() if request.param == "memory" else request.getfixturevalue(request.param)


@pytest.fixture
def new_topic(broker: Broker) -> Iterator[Callable[..., str]]:
    """``new_topic(partitions=3)``: a topic that a group of the same name waits for; ``groups`` names others."""
    made: list[str] = []

    def make(partitions: int = 3, *, groups: tuple[str, ...] = ("",)) -> str:
        topic = f"conformance-{uuid.uuid4().hex[:8]}"
        made.append(topic)
        broker.create_topic(topic, partitions=partitions)
        for group in groups:
            if not broker.capabilities.replay_by_offset:  # a group begins with its first subscription
                broker.subscribe([topic], group=f"{topic}{group}").close()
        return topic

    yield make
    if isinstance(broker, KafkaBroker) and made:
        admin = AdminClient(broker.client)
        for deletion in admin.delete_topics(made).values():
            deletion.exception(timeout=30)


@pytest.fixture
def message() -> Callable[..., Message]:
    """``message(topic, key, value)``, with no headers unless given."""

    def make(
        topic: str, key: str = "k", value: bytes | str = b"{}", headers: tuple[tuple[str, str | bytes], ...] = ()
    ) -> Message:
        return Message(topic, key, value, headers)

    return make


@pytest.fixture
def receive() -> Callable[..., list[Delivery]]:
    """``receive(subscription, 10)`` takes deliveries until there are ten; acks them if told to."""

    def take(subscription: Subscription, count: int, *, ack: bool = True) -> list[Delivery]:
        taken: list[Delivery] = []
        deadline = time.monotonic() + 60
        while len(taken) < count:
            assert time.monotonic() < deadline, f"only {len(taken)} of {count} deliveries came"
            for delivery in subscription.receive(count - len(taken), 0.5):
                taken.append(delivery)
                if ack:
                    subscription.ack(delivery)
        return taken

    return take


@pytest.fixture
def read(broker: Broker, receive: Callable[..., list[Delivery]]) -> Callable[..., list[Delivery]]:
    """``read(topic, 3)``: what the topic's own group receives, exactly three; they are acked."""

    def take(topic: str, count: int, *, group: str = "") -> list[Delivery]:
        subscription = broker.subscribe([topic], group=f"{topic}{group}")
        try:
            taken = receive(subscription, count)
            assert subscription.receive(10, 0.3) == []
        finally:
            subscription.close()
        return taken

    return take
