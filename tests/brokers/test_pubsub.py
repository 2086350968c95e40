"""What only Pub/Sub can get wrong: its limits, its subscriptions, its leases, and where its emulator is not the service.

A gap of the emulator is shown here rather than believed: the test fails when the emulator closes it.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from google.api_core.exceptions import GoogleAPICallError, MethodNotImplemented
from google.pubsub_v1 import types

from reference.brokers import (
    BrokerUnavailable,
    DeadLetters,
    Delivery,
    Message,
    NotConfirmed,
    NotOffered,
    Subscription,
    UnknownGroup,
    UnknownTopic,
)
from reference.brokers.pubsub import PubSubBroker, backlog, publisher, stream, wire
from reference.brokers.pubsub.backlog import Backlog
from reference.brokers.pubsub.leases import Leases
from reference.brokers.pubsub.stream import PubSubStream
from reference.brokers.pubsub.topology import LEASE_S
from reference.stack import Endpoints
from reference.stack.pubsub import JVM, jar

NewTopic = Callable[..., str]
NewMessage = Callable[..., Message]
Receive = Callable[..., list[Delivery]]
Eventually = Callable[..., Any]
ASKS: dict[str, Callable[[PubSubBroker], object]] = {
    "publish": lambda broker: broker.publish([Message("orders", "k", b"v", [])]),
    "subscribe": lambda broker: broker.subscribe(["orders"], group="billing"),
    "create_topic": lambda broker: broker.create_topic("orders"),
    "snapshot": lambda broker: broker.snapshot("orders", group="billing", name="before"),
}


@pytest.fixture
def broker(pubsub: PubSubBroker) -> PubSubBroker:
    """Here it is always Pub/Sub."""
    return pubsub


@pytest.fixture
def unordered(stack: Endpoints) -> Iterator[PubSubBroker]:
    """The same emulator, by an address that does without order."""
    with PubSubBroker(f"{stack.pubsub}?ordered=false", timeout_s=30) as broker:
        yield broker


def numbers(deliveries: list[Delivery]) -> list[int]:
    return [int(delivery.value or b"") for delivery in deliveries]


def take(subscription: Subscription, wanted: Callable[[list[Delivery]], bool], *, within_s: float = 60.0) -> list[Delivery]:
    """Receive without acking until it is what was wanted."""
    taken: list[Delivery] = []
    deadline = time.monotonic() + within_s
    while not wanted(taken):
        assert time.monotonic() < deadline, f"only {taken}"
        taken += subscription.receive(100, 0.2)
    return taken


def raw_subscription(broker: PubSubBroker, topic: str, **options: Any) -> str:
    """A subscription with options that our own would not have."""
    name = f"{broker._connection.topic(topic).replace('/topics/', '/subscriptions/')}.raw"
    path = broker._connection.topic(topic)
    request = types.Subscription(name=name, topic=path, enable_message_ordering=True, ack_deadline_seconds=10, **options)
    broker._connection.subscriber.create_subscription(request)
    return name


class RawStream:
    """What the emulator sends to a subscription, without our adapter between."""

    def __init__(self, broker: PubSubBroker, subscription: str) -> None:
        self._over = threading.Event()
        self.got: list[Any] = []
        client = broker._connection.subscriber
        self._stream = client.streaming_pull(self._requests(subscription), retry=None, timeout=None)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _requests(self, subscription: str) -> Iterator[types.StreamingPullRequest]:
        yield types.StreamingPullRequest(subscription=subscription, stream_ack_deadline_seconds=10)
        self._over.wait()

    def _run(self) -> None:
        with suppress(GoogleAPICallError):  # a subscription that stalls ends its streams so
            for response in self._stream:
                self.got += types.StreamingPullResponse.pb(response).received_messages

    def close(self) -> None:
        self._over.set()
        self._thread.join(30)


# -- away --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ASKS)
def test_a_broker_that_is_away_is_named_in_time(ask: str) -> None:
    """Whatever was asked, the error names the address and comes within the timeout, give or take a slow machine."""
    started = time.monotonic()
    address = "pubsub://lab-project@127.0.0.1:9"
    with PubSubBroker(address, timeout_s=0.5) as nobody, pytest.raises(BrokerUnavailable, match=address):
        ASKS[ask](nobody)
    assert time.monotonic() - started < 10


def test_an_emulator_that_restarted_has_forgotten_everything(tmp_path: Any, eventually: Eventually) -> None:
    """The gap `durable`: a member that was waiting learns that its topic is gone, and nobody hangs."""
    port, emulator = start_emulator()
    try:
        with PubSubBroker(f"pubsub://lab-project@127.0.0.1:{port}", timeout_s=30) as broker:
            broker.create_topic("orders")
            member = broker.subscribe(["orders"], group="billing")
            broker.publish([Message("orders", "k", b"confirmed", [])])
            assert [delivery.value for delivery in take(member, bool)] == [b"confirmed"]
            emulator.kill()
            emulator.wait()
            _, emulator = start_emulator(port)
            with pytest.raises(UnknownTopic, match="'orders'"):
                take(member, lambda _: False)
            with pytest.raises(NotConfirmed, match="'orders' of project 'lab-project'"):
                broker.publish([Message("orders", "k", b"v", [])])
            broker.create_topic("orders")
            again = broker.subscribe(["orders"], group="billing")
            broker.publish([Message("orders", "k", b"anew", [])])
            assert [delivery.value for delivery in take(again, bool)] == [b"anew"]
    finally:
        emulator.kill()
        emulator.wait()


def test_a_topic_made_anew_after_a_restart_is_not_believed_to_have_a_group() -> None:
    """Or the emulator would confirm, and drop, what is published between the topic's making and the group's return."""
    port, emulator = start_emulator()
    message = Message("orders", "k", b"v", [])
    try:
        with PubSubBroker(f"pubsub://lab-project@127.0.0.1:{port}", timeout_s=2) as broker:
            broker.create_topic("orders")
            broker.subscribe(["orders"], group="billing").close()
            broker.publish([message])
            emulator.kill()
            emulator.wait()
            with pytest.raises(BrokerUnavailable):
                broker.publish([message])
            _, emulator = start_emulator(port)
            with PubSubBroker(f"pubsub://lab-project@127.0.0.1:{port}", timeout_s=30) as operator:
                operator.create_topic("orders")
            with pytest.raises(NotConfirmed, match="no group has subscribed yet to topic 'orders'"):
                broker.publish([message])
    finally:
        emulator.kill()
        emulator.wait()


def test_a_frozen_broker_keeps_nobody_longer_than_was_said() -> None:
    """A receive ends after its own timeout, and a later one says what is wrong; closing a member, or all, takes one timeout."""
    patience_s, slack_s = 4.0, 15.0  # the client's own patience is a minute and more
    port, emulator = start_emulator()
    try:
        broker = PubSubBroker(f"pubsub://lab-project@127.0.0.1:{port}", timeout_s=patience_s)
        broker.create_topic("orders")
        members = [broker.subscribe(["orders"], group=group) for group in ("billing", "shipping", "search")]
        broker.publish([Message("orders", "k", b"v", [])])
        taken = [take(member, bool)[0] for member in members]
        emulator.send_signal(signal.SIGSTOP)
        longest_s = longest_receive(members[0], timeout_s=0.5)
        for member, delivery in zip(members, taken, strict=True):
            member.ack(delivery)
        alone_s, together_s = how_long(members[0].close), how_long(broker.close)
        assert (longest_s < 0.5 + slack_s, alone_s < patience_s + slack_s, together_s < patience_s + slack_s) == (True,) * 3
    finally:
        emulator.kill()
        emulator.wait()


def longest_receive(member: Subscription, *, timeout_s: float) -> float:
    """In seconds, up to and with the one that says that the broker is away."""
    longest_s, deadline = 0.0, time.monotonic() + 60
    while time.monotonic() < deadline:
        started = time.monotonic()
        try:
            member.receive(1, timeout_s)
        except BrokerUnavailable:
            return max(longest_s, time.monotonic() - started)
        longest_s = max(longest_s, time.monotonic() - started)
    raise AssertionError("nobody said that the broker is away")


def how_long(act: Callable[[], object]) -> float:
    """In seconds."""
    started = time.monotonic()
    act()
    return time.monotonic() - started


def start_emulator(port: int = 0) -> tuple[int, subprocess.Popen[bytes]]:
    """An emulator of one's own, to be killed; it answers when this returns."""
    if not port:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    command = ["java", *JVM, "-jar", str(jar()), "--host=127.0.0.1", f"--port={port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with PubSubBroker(f"pubsub://lab-project@127.0.0.1:{port}", timeout_s=90) as broker:
        try:
            broker.create_topic("is-it-there")
        except BaseException:
            process.kill()
            raise
    return port, process


# -- ends --------------------------------------------------------------------------------------------------------------


def test_a_member_that_joins_while_its_broker_closes_is_not_left_behind(
    pubsub: PubSubBroker, new_topic: NewTopic, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    """Whoever subscribes is told, and no thread goes on without an owner."""
    topic, join = new_topic(), pubsub._topology.join
    joined, go_on = threading.Event(), threading.Event()

    def slow(*args: Any, **options: Any) -> str:
        path = join(*args, **options)
        joined.set()
        assert go_on.wait(60)
        return path

    monkeypatch.setattr(pubsub._topology, "join", slow)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(pubsub.subscribe, [topic], group="billing")
        assert joined.wait(60)
        pubsub.close()
        go_on.set()
        with pytest.raises(RuntimeError, match=r"broker .*is closed"):
            late.result(timeout=60)
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("pubsub")])


# -- publishing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unfit", "reason"),
    [
        (Message("", "k", b"v", [("h", b"\xff")]), "'h' is binary"),
        (Message("", "k", b"v", [("h", "1"), ("h", "2")]), "'h' is given twice"),
        (Message("", "k", b"v", [("h", "x" * 1025)]), "1025 bytes"),
        (Message("", "k", b"v", [("ü" * 129, "x")]), "1 to 256 bytes"),
        (Message("", "k", b"v", [("", "x")]), "1 to 256 bytes"),
        (Message("", "k", b"v", [("googly", "x")]), "begin with goog"),
        (Message("", "k", b"v", [(f"h{n}", "x") for n in range(101)]), "101 headers"),
        (Message("", "ü" * 513, b"v", []), "1026 bytes"),
        (Message("", "k\ud83d", b"v", []), "its key cannot be written as UTF-8"),
        (Message("", "k", "\ud83d", []), "its value cannot be written as UTF-8"),
        (Message("", "k", b"v", [("g", "x"), ("h", "\ud83d")]), "header 'h' cannot be written as UTF-8"),
        (Message("", "k", b"v", [("h\ud83d", "x")]), r"the name of header 'h\\ud83d' cannot be written as UTF-8"),
        (Message("", "k", b"", []), "neither a value nor a header"),
        (Message("", "k", bytes(10_000_000), []), "over the 10000000"),
    ],
)
def test_what_the_service_refuses_is_refused_here_too(
    pubsub: PubSubBroker, new_topic: NewTopic, receive: Receive, unfit: Message, reason: str
) -> None:
    """The emulator takes most of it: what runs in the lab would fail in production. Its neighbours go."""
    topic = new_topic()
    calls = [Message(topic, "other", b"1", []), unfit._replace(topic=topic), Message(topic, "other", b"2", [])]
    with pytest.raises(NotConfirmed, match=reason) as caught:
        pubsub.publish(calls)
    member = pubsub.subscribe([topic], group=topic)
    assert (list(caught.value.failures), numbers(receive(member, 2))) == ([1], [1, 2])


def test_nothing_overtakes_what_the_service_itself_refused(
    pubsub: PubSubBroker, new_topic: NewTopic, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses a request whole; the message at fault and those behind it in its key are named, and all others go."""

    def lenient(message: Message) -> Any:
        return wire._PubsubMessage(data=message.value, ordering_key=message.key)  # type: ignore[operator]

    monkeypatch.setattr(publisher, "to_wire", lenient)
    topic = new_topic()
    calls = [Message(topic, key, value, []) for key, value in [("a", b"1"), ("a", b""), ("b", b"2"), ("a", b"3"), ("b", b"4")]]
    with pytest.raises(NotConfirmed, match="refused it: Some messages are empty") as caught:
        pubsub.publish(calls)
    member = pubsub.subscribe([topic], group=topic)
    assert (list(caught.value.failures), sorted(numbers(receive(member, 3)))) == ([1, 3], [1, 2, 4])


def test_more_than_a_request_holds_goes_in_several_and_in_order(
    pubsub: PubSubBroker, new_topic: NewTopic, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By number and by bytes."""
    monkeypatch.setattr(publisher, "BATCH_BYTES", 50_000)
    topic = new_topic()
    pubsub.publish([Message(topic, "k", f"{n}", []) for n in range(2_500)])
    pubsub.publish([Message(topic, "k", f"{n}".rjust(20_000), []) for n in range(2_500, 2_520)])
    member = pubsub.subscribe([topic], group=topic)
    assert numbers(receive(member, 2_520)) == list(range(2_520))


def test_a_topic_deleted_behind_our_back_does_not_stop_the_others(
    pubsub: PubSubBroker, new_topic: NewTopic, receive: Receive
) -> None:
    """It is named, and the next call asks for it again."""
    gone, there = new_topic(), new_topic()
    calls = [Message(gone, "k", b"1", []), Message(there, "k", b"1", [])]
    pubsub.publish(calls)
    pubsub._connection.publisher.delete_topic(topic=pubsub._connection.topic(gone))
    for _ in range(2):
        with pytest.raises(NotConfirmed, match=gone) as caught:
            pubsub.publish(calls)
        assert list(caught.value.failures) == [0]
    member = pubsub.subscribe([there], group=there)
    assert numbers(receive(member, 3)) == [1, 1, 1]


def test_a_topic_that_does_not_exist_is_told_from_one_without_groups(pubsub: PubSubBroker, new_topic: NewTopic) -> None:
    """Though the emulator answers the same for both; each error says what to do."""
    with pytest.raises(NotConfirmed, match=f"topic 'never-made' does not exist at {pubsub.url}: create it"):
        pubsub.publish([Message("never-made", "k", b"v", [])])
    with pytest.raises(NotConfirmed, match=r"no group has subscribed yet .* subscribe once"):
        pubsub.publish([Message(new_topic(groups=()), "k", b"v", [])])


@pytest.mark.parametrize("name", ["ab", "1orders", "goog-orders", "orders of today", "a" * 256])
def test_a_name_that_no_topic_can_have_is_named_everywhere(pubsub: PubSubBroker, name: str) -> None:
    """Before anything is asked."""
    with pytest.raises(ValueError, match=r"cannot exist.*3 to 255"):
        pubsub.create_topic(name)
    with pytest.raises(UnknownTopic, match=r"cannot exist.*3 to 255"):
        pubsub.subscribe([name], group="billing")
    with pytest.raises(NotConfirmed, match=r"cannot exist.*3 to 255"):
        pubsub.publish([Message(name, "k", b"v", [])])


# -- groups ------------------------------------------------------------------------------------------------------------


def test_a_group_made_with_other_options_says_which(pubsub: PubSubBroker, unordered: PubSubBroker, new_topic: NewTopic) -> None:
    """Rather than go on with what another member had asked for."""
    topic = new_topic(groups=())
    dead = DeadLetters(topic=new_topic(groups=()), after=5)
    unordered.subscribe([topic], group="billing", dead_letters=dead).close()
    with pytest.raises(ValueError, match=rf"{topic}\.billing.*its number of attempts is 5, and 6 was asked for"):
        unordered.subscribe([topic], group="billing", dead_letters=DeadLetters(topic=dead.topic, after=6))
    with pytest.raises(ValueError, match=r"dead letter topic.*order per key is False, and True was asked for"):
        pubsub.subscribe([topic], group="billing")


@pytest.mark.parametrize("after", [1, 4, 101])
def test_dead_letters_after_a_number_the_service_does_not_take(unordered: PubSubBroker, new_topic: NewTopic, after: int) -> None:
    """The error names its limits."""
    topic = new_topic()
    with pytest.raises(NotOffered, match=f"after 5 to 100 deliveries, not {after}"):
        unordered.subscribe([topic], group="billing", dead_letters=DeadLetters(topic="dead", after=after))


def test_a_message_that_fails_too_often_is_found_at_the_dead_letters(
    unordered: PubSubBroker, new_topic: NewTopic, receive: Receive
) -> None:
    """Each delivery says its attempt; the group keeps its own dead letters, though nobody had subscribed to them."""
    topic = new_topic(groups=())
    dead = f"{topic}-dead"
    member = unordered.subscribe([topic], group="billing", dead_letters=DeadLetters(topic=dead, after=5))
    unordered.publish([Message(topic, "k", b"0", [("ce_id", "e0")]), Message(topic, "k", b"1", [])])
    attempts: list[int | None] = []
    deadline = time.monotonic() + 60
    while len(attempts) < 5 and time.monotonic() < deadline:
        for delivery in member.receive(10, 0.2):
            if delivery.value == b"1":
                member.ack(delivery)
            else:
                attempts.append(delivery.attempt)
                member.nack(delivery)
    [letter] = receive(unordered.subscribe([dead], group="billing"), 1)  # the emulator moves it while a member is there
    assert (attempts, letter.value, letter.key) == ([1, 2, 3, 4, 5], b"0", b"k")
    assert dict(letter.headers)["CloudPubSubDeadLetterSourceDeliveryCount"] == b"5"


def test_a_deleted_topic_ends_its_members_and_can_be_made_anew(pubsub: PubSubBroker, new_topic: NewTopic) -> None:
    """Its subscription stays behind, and brings nothing: joining makes another."""
    topic = new_topic()
    member = pubsub.subscribe([topic], group=topic)
    pubsub._connection.publisher.delete_topic(topic=pubsub._connection.topic(topic))
    with pytest.raises(UnknownTopic, match=f"'{topic}' was deleted"):
        take(member, lambda _: False)
    member.close()
    pubsub.create_topic(topic)
    again = pubsub.subscribe([topic], group=topic)
    pubsub._publisher._kept.clear()
    pubsub.publish([Message(topic, "k", b"1", [])])
    assert numbers(take(again, bool)) == [1]


def test_a_deleted_subscription_ends_its_members(pubsub: PubSubBroker, new_topic: NewTopic) -> None:
    """By the name of the group."""
    topic = new_topic(groups=())
    member = pubsub.subscribe([topic], group="billing")
    pubsub._connection.subscriber.delete_subscription(subscription=pubsub._connection.subscription(topic, "billing"))
    with pytest.raises(UnknownGroup, match=f"'billing' of topic '{topic}'"):
        take(member, lambda _: False)


def test_a_group_goes_back_in_time(
    unordered: PubSubBroker, new_topic: NewTopic, receive: Receive, eventually: Eventually
) -> None:
    """What was published since comes again though it was acked; a group that never came is named."""
    topic = new_topic(groups=())
    unordered.subscribe([topic], group="billing").close()
    unordered.publish([Message(topic, "k", b"1", [])])
    between = datetime.now(UTC)
    eventually(lambda: (datetime.now(UTC) - between).total_seconds() > 0.1)
    unordered.publish([Message(topic, "k", b"2", [])])
    with unordered_member(unordered, topic) as member:
        receive(member, 2)
    unordered.rewind([topic], group="billing", to=between)
    with unordered_member(unordered, topic) as member:
        assert numbers(receive(member, 1)) == [2]
        assert member.receive(10, 0.3) == []
    with pytest.raises(UnknownGroup, match="'shipping'"):
        unordered.rewind([topic], group="shipping", to=between)
    with pytest.raises(ValueError, match="UTC offset"):
        unordered.rewind([topic], group="billing", to=between.replace(tzinfo=None))


class unordered_member:  # noqa: N801  # reads as the call it is
    """A member for the length of a block."""

    def __init__(self, broker: PubSubBroker, topic: str) -> None:
        self._member = broker.subscribe([topic], group="billing")

    def __enter__(self) -> Subscription:
        return self._member

    def __exit__(self, *_: object) -> None:
        self._member.close()


def test_a_group_goes_back_to_a_snapshot(pubsub: PubSubBroker, new_topic: NewTopic, receive: Receive) -> None:
    """To what it had not acked then, and all since."""
    topic = new_topic()
    pubsub.publish([Message(topic, "k", f"{n}", []) for n in range(3)])
    member = pubsub.subscribe([topic], group=topic)
    for delivery in receive(member, 3, ack=False)[:1]:
        member.ack(delivery)
    member.close()
    pubsub.snapshot(topic, group=topic, name=f"{topic}-one-done")
    for start in (1, 3):
        member = pubsub.subscribe([topic], group=topic)
        receive(member, 2 if start == 1 else 1)
        member.close()
        pubsub.publish([Message(topic, "k", b"3", [])] if start == 1 else [])
    pubsub.restore(topic, group=topic, name=f"{topic}-one-done")
    member = pubsub.subscribe([topic], group=topic)
    assert numbers(receive(member, 3)) == [1, 2, 3]
    with pytest.raises(LookupError, match="never-taken"):
        pubsub.restore(topic, group=topic, name="never-taken")


# -- receiving ---------------------------------------------------------------------------------------------------------


def test_a_slow_member_gets_all_of_a_large_backlog(
    pubsub: PubSubBroker, new_topic: NewTopic, receive: Receive, eventually: Eventually
) -> None:
    """What the emulator has sent is taken, however long nobody asks for it: what a stream did not read never came again."""
    topic, count = new_topic(), 12_000
    with closing(pubsub.subscribe([topic], group=topic)) as member:
        pubsub.publish([Message(topic, f"k{n % 40}", f"{n}", []) for n in range(count)])
        eventually(lambda: len(member._backlog) == count, within_s=60)
        assert {int(delivery.value or b"") for delivery in receive(member, count)} == set(range(count))


def test_other_partitions_go_on_however_much_waits_behind_one(pubsub: PubSubBroker, new_topic: NewTopic) -> None:
    """And when the pause is over, the key goes on in order and complete."""
    topic = new_topic()
    member = pubsub.subscribe([topic], group=topic)
    pubsub.publish([Message(topic, "k", f"{n}", []) for n in range(2_000)])
    [first] = take(member, bool)[:1]
    member.nack(first, delay_s=10.0)
    over = time.monotonic() + 10.0
    pubsub.publish([Message(topic, "other", "2000", [])])
    others = take(member, bool)
    assert (numbers(others), time.monotonic() < over) == ([2000], True)
    member.ack(others[0])
    behind: list[Delivery] = []
    deadline = time.monotonic() + 60
    while len(behind) < 2_000 and time.monotonic() < deadline:
        came = member.receive(100, 0.5)
        for delivery in came:
            member.ack(delivery)
        behind += came
    assert numbers(behind) == list(range(2_000))


def test_two_members_keep_the_order_of_fifty_keys(pubsub: PubSubBroker, new_topic: NewTopic, eventually: Eventually) -> None:
    """As long as both stay; both get something, and nothing comes twice."""
    topic = new_topic()
    members = [pubsub.subscribe([topic], group=topic) for _ in range(2)]
    eventually(lambda: all(stream._call is not None for member in members for stream in member._streams.values()))
    booked: list[tuple[int, Delivery]] = []
    pubsub.publish([Message(topic, f"k{n % 50}", f"{n}", []) for n in range(1_000)])
    deadline = time.monotonic() + 60
    while len(booked) < 1_000 and time.monotonic() < deadline:
        for number, member in enumerate(members):
            for delivery in member.receive(100, 0.05):
                member.ack(delivery)
                booked.append((number, delivery))
    by_key = defaultdict(list)
    for _, delivery in booked:
        by_key[delivery.key].append(int(delivery.value or b""))
    assert {number for number, _ in booked} == {0, 1}
    assert dict(by_key) == {f"k{k}".encode(): list(range(k, 1_000, 50)) for k in range(50)}


def test_a_killed_members_messages_come_to_another(pubsub: PubSubBroker, new_topic: NewTopic) -> None:
    """When their leases have run out, and the emulator has dropped the stream that it does not know is dead."""
    topic = new_topic()
    pubsub.publish([Message(topic, f"k{n}", f"{n}", []) for n in range(20)])
    program = (
        "import sys, time\n"
        "from reference.brokers import connect\n"
        f"member = connect({pubsub.url!r}, timeout_s=30).subscribe([{topic!r}], group={topic!r})\n"
        "got = 0\n"
        "while got < 20:\n    got += len(member.receive(20, 1))\n"
        "print('all', flush=True)\n"
        "time.sleep(600)\n"
    )
    victim = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"all\n"
    finally:
        victim.kill()
        victim.communicate()
    member = pubsub.subscribe([topic], group=topic)
    taken = take(member, lambda taken: len({delivery.value for delivery in taken}) == 20, within_s=120)
    assert sorted(set(numbers(taken))) == list(range(20))


def test_a_member_that_opens_its_stream_anew_counts_with_a_handover(
    pubsub: PubSubBroker, new_topic: NewTopic, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was sent before may be sent again: the service says nothing of keys that move."""
    monkeypatch.setattr(stream, "EMULATED_S", 0.5)
    member = pubsub.subscribe([topic := new_topic()], group=topic)
    eventually(lambda: member.receive(10, 0.1) or member.handovers >= 2)


def test_an_error_that_nobody_expects_does_not_end_the_stream(
    pubsub: PubSubBroker, new_topic: NewTopic, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a clock that jumps makes the client's own waiting fail: the member goes on, and is not deaf from then on."""
    read, failed = PubSubStream._read, list[str]()

    def failing(stream: PubSubStream) -> None:
        if not failed:
            failed.append("once")
            raise OSError(22, "Invalid argument")
        read(stream)

    topic = new_topic()  # whose group has a member for a moment, which must not be the one that fails
    monkeypatch.setattr(PubSubStream, "_read", failing)
    with closing(pubsub.subscribe([topic], group=topic)) as member:
        pubsub.publish([Message(topic, "k", "1", [])])
        assert [delivery.value for delivery in receive(member, 1)] == [b"1"]
    assert failed == ["once"]


def test_an_error_that_comes_every_time_is_told_to_whoever_receives(
    stack: Endpoints, new_topic: NewTopic, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A subscription that answers when asked, and whose stream breaks as soon as it is open, is no silence; it is logged once."""

    def failing(_: PubSubStream) -> None:
        raise OSError(22, "Invalid argument")

    topic = new_topic()  # whose group has a member for a moment, which must not be the one that fails
    monkeypatch.setattr(PubSubStream, "_read", failing)
    with (
        PubSubBroker(stack.pubsub, timeout_s=2) as broker,
        closing(broker.subscribe([topic], group=topic)) as member,
        pytest.raises(BrokerUnavailable, match="Invalid argument"),
    ):
        receive_until(member, time.monotonic() + 60)
    assert caplog.text.count("opened anew") == 1


def receive_until(member: Subscription, deadline: float) -> None:
    while time.monotonic() < deadline:
        member.receive(1, 0.05)


def test_an_ack_is_sent_again_after_an_error_that_nobody_expects(
    pubsub: PubSubBroker, new_topic: NewTopic, receive: Receive, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that sends it goes on, and what it was about to send is not forgotten."""
    ack, told = Leases._ack, list[int]()

    def failing(leases: Leases, some: Any) -> Any:
        told.append(len(some))
        if len(told) == 1:
            raise OSError(22, "Invalid argument")
        return ack(leases, some)

    monkeypatch.setattr(Leases, "_ack", failing)
    topic = new_topic()
    with closing(pubsub.subscribe([topic], group=topic)) as member:
        pubsub.publish([Message(topic, "k", "1", [])])
        member.ack(*receive(member, 1))
        eventually(lambda: told == [1, 1])
    with closing(pubsub.subscribe([topic], group=topic)) as other:
        assert other.receive(1, 2.0) == []


def test_what_is_being_worked_on_stays_with_its_member(pubsub: PubSubBroker, new_topic: NewTopic, receive: Receive) -> None:
    """Longer than a lease is: it is extended as long as the member lives, also across the emulator's streams."""
    topic = new_topic()
    pubsub.publish([Message(topic, f"k{n}", f"{n}", []) for n in range(10)])
    working = pubsub.subscribe([topic], group=topic)
    deliveries = receive(working, 10, ack=False)
    other = pubsub.subscribe([topic], group=topic)
    deadline = time.monotonic() + 2 * LEASE_S
    while time.monotonic() < deadline:
        assert (other.receive(10, 0.2), working.receive(10, 0.2)) == ([], [])
    for delivery in deliveries:
        working.ack(delivery)
    working.close()
    assert other.receive(10, 1.0) == []


def test_what_strangers_publish_arrives(pubsub: PubSubBroker, new_topic: NewTopic, receive: Receive) -> None:
    """Without a key, without attributes, with bytes that are no text, or with no bytes at all."""
    topic = new_topic()
    member = pubsub.subscribe([topic], group=topic)
    strangers = [
        types.PubsubMessage(data=bytes(range(256))),
        types.PubsubMessage(attributes={"googclient_version": "1"}),
        types.PubsubMessage(data=b"v", ordering_key="k"),
    ]
    pubsub._connection.publisher.publish(topic=pubsub._connection.topic(topic), messages=strangers)
    came = {(delivery.key, delivery.value, delivery.headers) for delivery in receive(member, 3)}
    assert came == {(b"", bytes(range(256)), ()), (b"", b"", (("googclient_version", b"1"),)), (b"k", b"v", ())}


def test_acks_that_are_confirmed(stack: Endpoints, new_topic: NewTopic, receive: Receive) -> None:
    """With ``?exactly_once=true`` an ack out of its key's order waits for the ones before it, and none is lost."""
    topic = new_topic(groups=())
    with PubSubBroker(f"{stack.pubsub}?exactly_once=true", timeout_s=30) as broker:
        member = broker.subscribe([topic], group="billing")
        broker.publish([Message(topic, "k", f"{n}", []) for n in range(10)])
        for delivery in reversed(receive(member, 10, ack=False)):
            member.ack(delivery)
        member.close()
        assert broker.subscribe([topic], group="billing").receive(10, 1.0) == []


# -- gaps of the emulator, shown -----------------------------------------------------------------------------------------


def test_gap_the_emulator_ignores_filters(pubsub: PubSubBroker, new_topic: NewTopic, eventually: Eventually) -> None:
    """It stores one, and delivers what it excludes: we refuse to ask."""
    topic = new_topic()
    with pytest.raises(NotOffered, match=r"does not offer filters \(a gap of the emulator"):
        pubsub.subscribe([topic], group="billing", only={"ce_type": "OrderPlaced"})
    stream = RawStream(pubsub, raw_subscription(pubsub, topic, filter='attributes.ce_type = "OrderPlaced"'))
    pubsub.publish([Message(topic, "k", b"1", [("ce_type", "OrderCancelled")])])
    eventually(lambda: [received.message.data for received in stream.got] == [b"1"])
    stream.close()


def test_gap_the_emulator_stalls_on_the_dead_letter_of_an_ordered_group(
    pubsub: PubSubBroker, new_topic: NewTopic, eventually: Eventually
) -> None:
    """After the last attempt the message goes nowhere, and nothing of any key is delivered any more."""
    topic, dead = new_topic(), new_topic()
    with pytest.raises(NotOffered, match=r"\?ordered=false"):
        pubsub.subscribe([topic], group="billing", dead_letters=DeadLetters(topic=dead, after=5))
    policy = types.DeadLetterPolicy(dead_letter_topic=pubsub._connection.topic(dead), max_delivery_attempts=5)
    name = raw_subscription(pubsub, topic, dead_letter_policy=policy)
    stream, letters = RawStream(pubsub, name), pubsub.subscribe([dead], group=dead)
    pubsub.publish([Message(topic, "k", b"poison", [])])
    for attempt in range(1, 6):
        eventually(lambda attempt=attempt: len(stream.got) == attempt)
        pubsub._connection.subscriber.modify_ack_deadline(
            subscription=name, ack_ids=[stream.got[-1].ack_id], ack_deadline_seconds=0
        )
    assert letters.receive(1, 3.0) == []
    pubsub.publish([Message(topic, "other", b"later", [])])
    assert letters.receive(1, 3.0) == []
    assert [received.delivery_attempt for received in stream.got] == [1, 2, 3, 4, 5]
    pubsub._connection.subscriber.delete_subscription(subscription=name)
    stream._over.set()


def test_gap_the_emulator_does_not_seek_an_ordered_group_to_a_time(pubsub: PubSubBroker, new_topic: NewTopic) -> None:
    """Only to a snapshot."""
    topic = new_topic()
    with pytest.raises(NotOffered, match="restore a snapshot"):
        pubsub.rewind([topic], group=topic, to=datetime.now(UTC))
    with pytest.raises(MethodNotImplemented):
        pubsub._topology.seek(topic, topic, to=datetime.now(UTC))


def test_gap_the_emulator_puts_what_is_given_back_behind_what_waits(
    pubsub: PubSubBroker, new_topic: NewTopic, eventually: Eventually
) -> None:
    """The gap `ordered_by_key`: a member leaves with a message in its hands, and the next has a later one first."""
    topic = new_topic()
    name = raw_subscription(pubsub, topic)
    leaving = RawStream(pubsub, name)
    pubsub.publish([Message(topic, "k", b"1", [])])
    eventually(lambda: len(leaving.got) == 1)
    leaving.close()
    pubsub.publish([Message(topic, "k", b"2", [])])
    staying = RawStream(pubsub, name)
    eventually(lambda: [received.message.data for received in staying.got] == [b"2"])
    leases = pubsub._connection.subscriber
    leases.modify_ack_deadline(subscription=name, ack_ids=[leaving.got[0].ack_id], ack_deadline_seconds=0)
    eventually(lambda: [received.message.data for received in staying.got] == [b"2", b"1"])
    staying.close()


# -- what a member holds, where the service counts -------------------------------------------------------------------------


def received(value: str, *, key: str = "k", attempt: int = 1, ack_id: str = "") -> Any:
    message = wire._PubsubMessage(data=value.encode(), ordering_key=key, message_id=value)  # type: ignore[operator]
    return types.ReceivedMessage.pb()(message=message, ack_id=ack_id or f"{value}-{attempt}", delivery_attempt=attempt)


@pytest.fixture
def held() -> Backlog:
    """Three messages of one key in a group with dead letters after five attempts, and one of another bucket."""
    backlog = Backlog("billing", after=5)
    for one in (received("0"), received("1"), received("2"), received("9", key="other")):
        backlog.arrived("orders", one)
    return backlog


def test_where_the_service_counts_it_gets_back_what_failed_and_no_more(held: Backlog) -> None:
    """What stands behind stays leased, for going back would count as its own failure, and waits; other buckets go on."""
    first, *_ = held.take(3, now=0.0)
    held.nack(first, now=0.0, delay_s=0.0)
    assert [one.ack_id for one in held.to_give_back] == ["0-1"]
    assert (numbers(held.take(10, now=0.1)), held.leases()) == ([9], {"orders": ["1-1", "2-1", "9-1"]})
    held.arrived("orders", received("0", attempt=2))
    again = held.take(10, now=0.2)
    assert [(int(one.value or b""), one.attempt, one.offset) for one in again] == [(0, 2, 0), (1, 1, 1), (2, 1, 2)]


def test_a_delay_is_over_before_the_service_gets_it_back(held: Backlog) -> None:
    """It could have it delivered at once, to anybody."""
    first, *_ = held.take(4, now=0.0)
    held.nack(first, now=0.0, delay_s=3.0)
    assert (held.take(10, now=2.9), held.to_give_back, held.next_change()) == ([], [], 3.0)
    held.take(10, now=3.0)
    assert [one.ack_id for one in held.to_give_back] == ["0-1"]


def test_what_used_up_its_attempts_is_not_waited_for(held: Backlog) -> None:
    """The key goes on with what stood behind."""
    held.arrived("orders", received("0", attempt=5))
    first, *_ = held.take(4, now=0.0)
    held.nack(first, now=0.0, delay_s=0.0)
    assert numbers(held.take(10, now=0.0)) == [1, 2]


def test_what_does_not_come_back_takes_its_key_with_it(held: Backlog) -> None:
    """Another member has it, and is owed all that follows."""
    first, *_ = held.take(4, now=0.0)
    held.nack(first, now=0.0, delay_s=0.0)
    held.arrived("orders", received("3"))
    later = held.next_change()
    assert later is not None
    assert later == backlog.RETURN_S
    assert held.take(10, now=later) == []
    assert [one.ack_id for one in held.to_give_back] == ["0-1", "1-1", "2-1", "3-1"]
    assert held.leases() == {"orders": ["9-1"]}


def test_a_redelivery_changes_the_lease_and_not_the_place() -> None:
    """What is held already is not handed out a second time, and its ack goes under the latest id."""
    backlog = Backlog("billing")
    backlog.arrived("orders", received("0", ack_id="old"))
    [delivery] = backlog.take(10, now=0.0)
    backlog.arrived("orders", received("0", ack_id="new"))
    assert backlog.take(10, now=0.0) == []
    backlog.ack(delivery)
    assert [one.ack_id for one in backlog.to_ack] == ["new"]


def test_acks_reach_the_service_in_order() -> None:
    """One ahead of its turn waits, and survives a nack of the one before it."""
    backlog = Backlog("billing")
    for n in range(3):
        backlog.arrived("orders", received(f"{n}"))
    first, second, _ = backlog.take(10, now=0.0)
    backlog.ack(second)
    backlog.nack(first, now=0.0, delay_s=0.0)
    assert backlog.to_ack == []
    again = backlog.take(10, now=0.0)
    for delivery in again:
        backlog.ack(delivery)
    assert (numbers(again), [one.message_id for one in backlog.to_ack]) == ([0, 2], ["0", "1", "2"])


def test_a_bucket_is_the_same_in_every_process() -> None:
    """Or two members would not mean the same by it."""
    assert [wire.bucket(key) for key in ("", "k", "schlüssel-☕")] == [0, 13, 15]
