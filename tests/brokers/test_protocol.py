"""What every broker promises, asked of each adapter: the same questions, the same answers.

A test runs for every broker whose capabilities include its promise; see ``conftest.py`` beside this file.
"""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from reference.brokers import (
    Broker,
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
from reference.brokers.promises import PROMISES

NewTopic = Callable[..., str]
NewMessage = Callable[..., Message]
Receive = Callable[..., list[Delivery]]
Read = Callable[..., list[Delivery]]
Eventually = Callable[..., None]
TEXT = (("ce_type", "OrderPlaced"), ("note", "zweimal ☕"), ("empty", ""))


def values(deliveries: list[Delivery]) -> list[bytes | None]:
    return [delivery.value for delivery in deliveries]


def numbers(deliveries: list[Delivery]) -> list[int]:
    return [int(delivery.value or b"") for delivery in deliveries]


def refused(broker: Broker, messages: list[Message]) -> dict[int, str]:
    with pytest.raises(NotConfirmed) as error:
        broker.publish(messages)
    return error.value.failures


def oversize(broker: Broker) -> bytes:
    return bytes(broker.capabilities.max_message_bytes + 1)


# -- publish -----------------------------------------------------------------------------------------------------------


@pytest.mark.promise("confirmed")
def test_what_is_confirmed_is_there(broker: Broker, new_topic: NewTopic, message: NewMessage, read: Read) -> None:
    """Publish returns, and whoever looks finds every message."""
    topic = new_topic()
    broker.publish([message(topic, f"k{n}", f"{n}") for n in range(100)])
    assert sorted(numbers(read(topic, 100))) == list(range(100))


@pytest.mark.promise("confirmed")
def test_publishing_nothing_is_nothing(broker: Broker) -> None:
    """An empty page needs no broker."""
    broker.publish([])


@pytest.mark.promise("confirmed")
def test_what_nobody_would_keep_is_not_confirmed(broker: Broker, new_topic: NewTopic, message: NewMessage) -> None:
    """A broker that keeps messages for groups alone would drop this one: it is refused until a group is there."""
    topic = new_topic(groups=())
    if broker.capabilities.replay_by_offset:
        broker.publish([message(topic, "k", "1")])
        return
    assert "no group" in refused(broker, [message(topic, "k", "1")])[0]
    broker.subscribe([topic], group=topic).close()
    broker.publish([message(topic, "k", "1")])


@pytest.mark.promise("named")
def test_an_unknown_topic_is_named_and_its_neighbours_are_durable(
    broker: Broker, new_topic: NewTopic, message: NewMessage, read: Read
) -> None:
    """One bad message of a call costs no other."""
    topic = new_topic(1)
    failures = refused(broker, [message(topic, "a", "1"), message("nowhere", "b", "2"), message(topic, "c", "3")])
    assert (list(failures), "nowhere" in failures[1], sorted(numbers(read(topic, 2)))) == ([1], True, [1, 3])


@pytest.mark.promise("named")
def test_a_topic_made_afterwards_takes_what_was_refused(broker: Broker, message: NewMessage, read: Read) -> None:
    """A refusal is not remembered."""
    name = f"late-{uuid.uuid4().hex[:8]}"
    refused(broker, [message(name, "k", "1")])
    broker.create_topic(name)
    broker.subscribe([name], group=name).close()
    broker.publish([message(name, "k", "1")])
    assert values(read(name, 1)) == [b"1"]


@pytest.mark.promise("oversize")
def test_an_oversize_message_is_named_and_its_neighbours_are_durable(
    broker: Broker, new_topic: NewTopic, message: NewMessage, read: Read
) -> None:
    """The reason says how large it is."""
    topic = new_topic(1)
    large = oversize(broker)
    failures = refused(broker, [message(topic, "a", "1"), message(topic, "b", large), message(topic, "c", "3")])
    assert (list(failures), str(len(large))[:3] in failures[1]) == ([1], True)
    assert sorted(numbers(read(topic, 2))) == [1, 3]


@pytest.mark.promise("oversize")
def test_nothing_passes_a_refused_message_of_its_key(
    broker: Broker, new_topic: NewTopic, message: NewMessage, read: Read
) -> None:
    """Behind a hole the order would be broken: the rest of the key stays, and is named too."""
    topic, large = new_topic(1), oversize(broker)
    call = [message(topic, "a", "1"), message(topic, "a", large), message(topic, "b", "3"), message(topic, "a", "4")]
    assert (list(refused(broker, call)), sorted(numbers(read(topic, 2)))) == ([1, 3], [1, 3])


@pytest.mark.promise("oversize")
def test_the_same_key_on_another_topic_goes_on(broker: Broker, new_topic: NewTopic, message: NewMessage, read: Read) -> None:
    """Order is promised per topic and key, and no more is held."""
    one, other = new_topic(1), new_topic(1)
    assert list(refused(broker, [message(one, "a", oversize(broker)), message(other, "a", "2")])) == [0]
    assert values(read(other, 1)) == [b"2"]


@pytest.mark.promise("exact")
def test_keys_bodies_and_text_headers_arrive_byte_for_byte(
    broker: Broker, new_topic: NewTopic, message: NewMessage, read: Read
) -> None:
    """Binary bodies, any script in a key, empty bodies and headers, headers in any order."""
    topic = new_topic()
    broker.publish([message(topic, "schlüssel-☕", bytes(range(256)), TEXT), message(topic, "empty", b"", TEXT[:1])])
    found = {d.key: (d.value, sorted(d.headers)) for d in read(topic, 2)}
    sent = [(name, text.encode()) for name, text in TEXT]
    assert found == {"schlüssel-☕".encode(): (bytes(range(256)), sorted(sent)), b"empty": (b"", sent[:1])}


@pytest.mark.promise("exact")
def test_a_delivery_can_be_published_as_it_came(broker: Broker, new_topic: NewTopic, message: NewMessage, read: Read) -> None:
    """As a redrive does: what arrives a second time equals what arrived the first time."""
    topic = new_topic(1)
    broker.publish([message(topic, "k", b"body", TEXT)])
    (first,) = read(topic, 1)
    headers = [(name, value or b"") for name, value in first.headers]
    broker.publish([Message(topic, (first.key or b"").decode(), first.value or b"", headers)])
    (second,) = read(topic, 1)
    assert (second.key, second.value, second.headers) == (first.key, first.value, first.headers)


@pytest.mark.promise("binary headers")
def test_headers_that_are_not_text_arrive_byte_for_byte(
    broker: Broker, new_topic: NewTopic, message: NewMessage, read: Read
) -> None:
    """All 256 bytes."""
    topic = new_topic()
    broker.publish([message(topic, "k", b"", (("h", bytes(range(256))),))])
    assert read(topic, 1)[0].headers == (("h", bytes(range(256))),)


@pytest.mark.promise("repeated headers")
def test_a_header_given_twice_arrives_twice(broker: Broker, new_topic: NewTopic, message: NewMessage, read: Read) -> None:
    """In its order."""
    topic = new_topic()
    broker.publish([message(topic, "k", b"", (("h", "1"), ("h", ""), ("h", "2"), ("other", "3")))])
    assert read(topic, 1)[0].headers == (("h", b"1"), ("h", b""), ("h", b"2"), ("other", b"3"))


@pytest.mark.promise("named")
def test_a_header_the_broker_cannot_carry_is_named(broker: Broker, new_topic: NewTopic, message: NewMessage, read: Read) -> None:
    """Refused before it is sent, and its neighbours arrive."""
    able = broker.capabilities
    bad = [headers for offered, headers in ((able.binary_headers, (("odd", b"\xff"),)),
                                            (able.repeated_headers, (("odd", "1"), ("odd", "2"))),
                                            (able.max_header_bytes is None, (("odd", "x" * ((able.max_header_bytes or 0) + 1)),)))
           if not offered]  # fmt: skip
    topic = new_topic()
    call = [message(topic, f"bad-{n}", b"", headers) for n, headers in enumerate(bad)]
    if call:
        failures = refused(broker, [*call, message(topic, "good", "1")])
        assert (list(failures), all("odd" in reason for reason in failures.values())) == (list(range(len(bad))), True)
    else:
        broker.publish([message(topic, "good", "1")])
    assert values(read(topic, 1)) == [b"1"]


@pytest.mark.promise("exact")
@pytest.mark.parametrize("name", ["a\0b", "\0"])
def test_a_headers_name_is_never_cut(
    broker: Broker, new_topic: NewTopic, message: NewMessage, read: Read, name: str
) -> None:
    """One with a zero byte arrives whole or is named: a client in C may take it for the end of the name."""
    topic, reasons = new_topic(1), list[str]()
    try:
        broker.publish([message(topic, "k", "1", [(name, "1")])])
    except NotConfirmed as error:
        reasons = list(error.failures.values())
    arrived = [] if reasons else [header for delivery in read(topic, 1) for header in delivery.headers]
    assert arrived == [(name, b"1")] or "zero byte" in reasons[0]


@pytest.mark.promise("named")
@pytest.mark.parametrize("where", ["key", "value", "header", "header name"])
def test_text_that_cannot_be_written_is_named(
    broker: Broker, new_topic: NewTopic, message: NewMessage, read: Read, where: str
) -> None:
    """Half a character, as a careless cut leaves it; its neighbours arrive."""
    topic, half = new_topic(1), "\ud83d"
    bad = {
        "key": message(topic, half, "1"),
        "value": message(topic, "bad", half),
        "header": message(topic, "bad", "1", (("h", half),)),
        "header name": message(topic, "bad", "1", ((half, "1"),)),
    }[where]
    assert list(refused(broker, [message(topic, "a", "1"), bad, message(topic, "b", "3")])) == [1]
    assert sorted(numbers(read(topic, 2))) == [1, 3]


@pytest.mark.promise("confirmed")
def test_several_threads_may_publish(broker: Broker, new_topic: NewTopic, message: NewMessage, read: Read) -> None:
    """Each call keeps its own promise."""
    topic = new_topic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: broker.publish([message(topic, f"k{n}", f"{n}-{m}") for m in range(25)]), range(8)))
    assert len(set(values(read(topic, 200)))) == 200


# -- order and number --------------------------------------------------------------------------------------------------


class Member:
    """One member of a group in a thread of its own, which books what it gets in the order of arrival and acks it."""

    def __init__(self, subscription: Subscription, booked: list[Delivery], lock: threading.Lock) -> None:
        self._subscription, self._booked, self._lock = subscription, booked, lock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            for delivery in self._subscription.receive(50, 0.2):
                with self._lock:
                    self._booked.append(delivery)
                self._subscription.ack(delivery)
        self._subscription.close()

    def leave(self) -> None:
        self._stop.set()
        self._thread.join()


def first_deliveries(booked: list[Delivery]) -> dict[bytes | None, list[int]]:
    by_key: dict[bytes | None, dict[int, None]] = defaultdict(dict)
    for delivery in booked:
        by_key[delivery.key].setdefault(int(delivery.value or b""))
    return {key: list(seen) for key, seen in by_key.items()}


@pytest.fixture
def came_and_went(
    broker: Broker, new_topic: NewTopic, message: NewMessage, eventually: Eventually
) -> dict[bytes | None, list[int]]:
    """5,000 messages with 50 keys, while members of the group come and go: by key, the order of first deliveries."""
    topic = new_topic(6)
    booked: list[Delivery] = []
    lock = threading.Lock()
    members = [Member(broker.subscribe([topic], group=topic), booked, lock)]
    try:
        for start in range(0, 5_000, 500):
            broker.publish([message(topic, f"k{n % 50}", f"{n}") for n in range(start, start + 500)])
            if start in {1_000, 2_000}:
                members.append(Member(broker.subscribe([topic], group=topic), booked, lock))
            if start == 3_500:
                members.pop(0).leave()
        eventually(lambda: len({delivery.value for delivery in booked}) == 5_000, within_s=120)
    finally:
        for member in members:
            member.leave()
    return first_deliveries(booked)


SENT = {f"k{k}".encode(): list(range(k, 5_000, 50)) for k in range(50)}


@pytest.mark.promise("whole")
def test_5000_messages_with_50_keys_all_arrive(came_and_went: dict[bytes | None, list[int]]) -> None:
    """Under their keys, whoever has the key at the moment."""
    assert {key: sorted(numbers) for key, numbers in came_and_went.items()} == SENT


@pytest.mark.promise("ordered")
def test_each_key_stays_in_order_though_members_come_and_go(came_and_went: dict[bytes | None, list[int]]) -> None:
    """First deliveries are in the order of publishing."""
    assert came_and_went == SENT


# -- groups ------------------------------------------------------------------------------------------------------------


@pytest.mark.promise("fanned out")
def test_two_groups_both_receive(broker: Broker, new_topic: NewTopic, message: NewMessage, read: Read) -> None:
    """Each group has all of it, and each delivery says for whom it is."""
    topic = new_topic(groups=("-a", "-b"))
    broker.publish([message(topic, f"k{n}") for n in range(10)])
    received = {group: {delivery.group for delivery in read(topic, 10, group=group)} for group in ("-a", "-b")}
    assert received == {group: {f"{topic}{group}"} for group in ("-a", "-b")}


@pytest.mark.promise("shared")
def test_members_of_a_group_share(broker: Broker, new_topic: NewTopic, message: NewMessage, eventually: Eventually) -> None:
    """Once both have joined, each message goes to one of them."""
    topic = new_topic(4)
    locks = threading.Lock()
    booked: list[list[Delivery]] = [[], []]
    members = [Member(broker.subscribe([topic], group=topic), mine, locks) for mine in booked]
    published = 0

    def everyone_has_some() -> bool:
        nonlocal published
        broker.publish([message(topic, f"k{n}", f"{published + n}") for n in range(40)])
        published += 40
        return all(booked)

    try:
        eventually(everyone_has_some)
        eventually(lambda: {int(d.value or b"") for mine in booked for d in mine} == set(range(published)))
    finally:
        for member in members:
            member.leave()


@pytest.mark.promise("shared")
def test_a_member_that_leaves_hands_over(
    broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive
) -> None:
    """What it had not acked is delivered to the one that stays."""
    topic = new_topic()
    broker.publish([message(topic, f"k{n}", f"{n}") for n in range(20)])
    leaving = broker.subscribe([topic], group=topic)
    receive(leaving, 20, ack=False)
    staying = broker.subscribe([topic], group=topic)
    leaving.close()
    handed = numbers(receive(staying, 20))
    staying.close()
    assert set(handed) == set(range(20))


# -- redelivery --------------------------------------------------------------------------------------------------------


@pytest.mark.promise("redelivered")
def test_what_was_not_acked_comes_back(broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive) -> None:
    """Closed and joined again, the group goes on behind its last ack."""
    topic = new_topic(1)
    broker.publish([message(topic, "k", f"{n}") for n in range(10)])
    first = broker.subscribe([topic], group=topic)
    receive(first, 4)
    receive(first, 1, ack=False)
    first.close()
    second = broker.subscribe([topic], group=topic)
    again = numbers(receive(second, 6))
    second.close()
    assert again == [4, 5, 6, 7, 8, 9]


@pytest.mark.promise("redelivered")
def test_an_ack_covers_only_its_delivery(broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive) -> None:
    """Later ones being done says nothing of an earlier one: that one comes back."""
    topic = new_topic(1)
    broker.publish([message(topic, f"k{n}", f"{n}") for n in range(4)])
    first = broker.subscribe([topic], group=topic)
    for delivery in receive(first, 4, ack=False):
        if delivery.value != b"0":
            first.ack(delivery)
    first.close()
    second = broker.subscribe([topic], group=topic)
    again = values(receive(second, 1))
    second.close()
    assert again == [b"0"]


@pytest.mark.promise("nacked")
def test_a_nack_brings_it_back_in_order(broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive) -> None:
    """To the same member, not before its time, and what stood behind it follows."""
    topic = new_topic(1)
    broker.publish([message(topic, "k", f"{n}") for n in range(5)])
    subscription = broker.subscribe([topic], group=topic)
    receive(subscription, 2)
    (failing,) = receive(subscription, 1, ack=False)
    nacked_at = time.monotonic()
    subscription.nack(failing, delay_s=0.5)
    (back,) = receive(subscription, 1)
    waited_s = time.monotonic() - nacked_at
    rest = numbers(receive(subscription, 2))
    subscription.close()
    assert (numbers([failing, back]) + rest, waited_s >= 0.5) == ([2, 2, 3, 4], True)


@pytest.mark.promise("nacked")
def test_a_nack_holds_its_own_partition_only(broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive) -> None:
    """While one waits for its time, the others go on."""
    topic = new_topic(8)
    broker.publish([message(topic, f"k{n}", f"{n}") for n in range(40)])
    subscription = broker.subscribe([topic], group=topic)
    (failing,) = receive(subscription, 1, ack=False)
    subscription.nack(failing, delay_s=3_600)
    others: set[int] = set()
    deadline = time.monotonic() + 60
    while len(others) < 3 and time.monotonic() < deadline:
        others |= {delivery.partition for delivery in subscription.receive(10, 0.5)}
    subscription.close()
    assert (len(others) >= 3, failing.partition in others) == (True, False)


@pytest.mark.promise("nacked")
def test_a_late_ack_of_what_came_back_changes_nothing(
    broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive
) -> None:
    """After a nack the old delivery is void; only the new one can be acked."""
    topic = new_topic(1)
    broker.publish([message(topic, "k", "0"), message(topic, "k", "1")])
    subscription = broker.subscribe([topic], group=topic)
    (old,) = receive(subscription, 1, ack=False)
    subscription.nack(old)
    subscription.ack(old)
    again = values(receive(subscription, 2))
    subscription.close()
    assert again == [b"0", b"1"]


@pytest.mark.promise("counted")
def test_a_delivery_says_which_attempt_it_is(broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive) -> None:
    """Counted from 1, also across members."""
    topic = new_topic(1)
    broker.publish([message(topic)])
    attempts = []
    for _ in range(3):
        subscription = broker.subscribe([topic], group=topic)
        attempts += [delivery.attempt for delivery in receive(subscription, 1, ack=False)]
        subscription.close()
    assert attempts == [1, 2, 3]


@pytest.mark.promise("dead letters")
def test_the_broker_moves_what_failed_too_often(
    broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive, read: Read
) -> None:
    """After as many deliveries as were asked for; the key goes on with what stood behind."""
    topic, dead = new_topic(1, groups=()), new_topic(1)
    wish = DeadLetters(topic=dead, after=5)
    subscription = broker.subscribe([topic], group=topic, dead_letters=wish)
    broker.publish([message(topic, "k", "poison", TEXT), message(topic, "k", "good", TEXT)])
    failed = 0
    done: set[bytes | None] = set()
    deadline = time.monotonic() + 60
    while (deliveries := subscription.receive(10, 1.0)) or (failed < 5 and time.monotonic() < deadline):
        for delivery in deliveries:
            if delivery.value == b"poison":
                failed += 1
                subscription.nack(delivery)
            else:
                done.add(delivery.value)
                subscription.ack(delivery)
    subscription.close()
    (letter,) = read(dead, 1)
    assert (failed, done, letter.key, letter.value, letter.group) == (5, {b"good"}, b"k", b"poison", dead)


def test_dead_letters_that_would_come_back_are_refused(broker: Broker, new_topic: NewTopic) -> None:
    """To a topic of the group itself they would go round for ever; nothing is made of it."""
    topic, other = new_topic(1), new_topic(1)
    with pytest.raises(ValueError, match=f"dead letters of topic '{topic}' would go round"):
        broker.subscribe([other, topic], group=other, dead_letters=DeadLetters(topic=topic, after=5))
    broker.subscribe([other, topic], group=other).close()


# -- time --------------------------------------------------------------------------------------------------------------


@pytest.mark.promise("from the start")
def test_a_new_group_begins_at_the_beginning(broker: Broker, new_topic: NewTopic, message: NewMessage, read: Read) -> None:
    """However late it comes."""
    topic = new_topic()
    broker.publish([message(topic, "k", f"{n}") for n in range(3)])
    assert [numbers(read(topic, 3, group=group)) for group in ("-early", "-late")] == [[0, 1, 2]] * 2


@pytest.mark.promise("from the start")
def test_a_replay_ends_where_the_topic_ended_at_the_call(broker: Broker, new_topic: NewTopic, message: NewMessage) -> None:
    """What is published afterwards belongs to the next one; groups do not notice it, and an empty topic replays nothing."""
    topic = new_topic()
    assert list(broker.replay(topic)) == []
    broker.publish([message(topic, "k", "before")])
    replay = broker.replay(topic)
    broker.publish([message(topic, "k", "after")])
    assert (values(list(replay)), values(list(broker.replay(topic)))) == ([b"before"], [b"before", b"after"])


@pytest.mark.promise("rewound")
def test_a_group_is_set_back_to_a_time(
    broker: Broker, new_topic: NewTopic, message: NewMessage, read: Read, eventually: Eventually
) -> None:
    """What was published since comes again though it was acked; what is older does not."""
    topic = new_topic(1)
    broker.publish([message(topic, "k", "old")])
    assert values(read(topic, 1)) == [b"old"]
    between = datetime.now(UTC)
    eventually(lambda: (datetime.now(UTC) - between).total_seconds() > 0.1)
    broker.publish([message(topic, "k", "new")])
    assert values(read(topic, 1)) == [b"new"]
    broker.rewind([topic], group=topic, to=between)
    assert values(read(topic, 1)) == [b"new"]


@pytest.mark.promise("delayed")
def test_a_message_published_for_later_is_not_early(broker: Broker, new_topic: NewTopic, message: NewMessage, read: Read) -> None:
    """And one published at once passes it."""
    topic = new_topic(1)
    sent_at = time.monotonic()
    broker.publish([message(topic, "k", "later", TEXT)], delay_s=1.5)
    broker.publish([message(topic, "k", "now", TEXT)])
    came = values(read(topic, 2))
    assert (came, time.monotonic() - sent_at >= 1.5) == ([b"now", b"later"], True)


@pytest.mark.promise("filtered")
def test_a_group_asks_for_some_messages_only(broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive) -> None:
    """The others are not delivered to it."""
    topic = new_topic(groups=())
    subscription = broker.subscribe([topic], group=topic, only={"ce_type": "OrderPlaced"})
    broker.publish([message(topic, f"k{n}", f"{n}", (("ce_type", f"Order{'Paid' if n % 2 else 'Placed'}"),)) for n in range(6)])
    came = numbers(receive(subscription, 3))
    rest = subscription.receive(10, 2.0)
    subscription.close()
    assert (sorted(came), rest) == ([0, 2, 4], [])


@pytest.mark.promise("exactly once")
def test_an_acked_delivery_is_never_repeated(broker: Broker, new_topic: NewTopic, message: NewMessage, read: Read) -> None:
    """Though its member leaves at once."""
    topic = new_topic()
    broker.publish([message(topic, f"k{n}", f"{n}") for n in range(100)])
    assert sorted(numbers(read(topic, 100))) == list(range(100))
    assert read(topic, 0) == []


# -- what is not offered -----------------------------------------------------------------------------------------------

ASKS: dict[str, Callable[[Broker, str], object]] = {
    "dead_letters": lambda broker, topic: broker.subscribe([topic], group=topic, dead_letters=DeadLetters(topic="d", after=5)),
    "delayed_delivery": lambda broker, topic: broker.publish([Message(topic, "k", b"", ())], delay_s=1),
    "filters": lambda broker, topic: broker.subscribe([topic], group=topic, only={"a": "b"}),
    "lag": lambda broker, topic: broker.lag([topic], group=topic),
    "replay_by_offset": lambda broker, topic: broker.replay(topic),
    "replay_by_time": lambda broker, topic: broker.rewind([topic], group=topic, to=datetime.now(UTC)),
}


@pytest.mark.parametrize("capability", ASKS)
def test_what_is_not_offered_is_refused(broker: Broker, new_topic: NewTopic, capability: str) -> None:
    """At the call, with the name of it; what is offered is covered above."""
    able = broker.capabilities
    if getattr(able, capability):
        assert capability in {promise.needs for promise in PROMISES.values()}
        return
    with pytest.raises(NotOffered) as error:
        ASKS[capability](broker, new_topic())
    said = str(error.value)
    assert (capability.replace("_", " ") in said, able.notes[capability] in said) == (True, True)
    assert (capability in able.emulator_gaps) == ("emulator" in said.partition(able.notes[capability])[0])


def test_what_is_not_offered_says_why(broker: Broker) -> None:
    """A note beside every capability that is missing, and no note or gap for one there is not."""
    able = broker.capabilities
    optional = {promise.needs for promise in PROMISES.values() if promise.needs}
    missing = {name for name in optional if not getattr(able, name)}
    assert missing <= set(able.notes)
    assert able.emulator_gaps <= missing


# -- lag ---------------------------------------------------------------------------------------------------------------


@pytest.mark.promise("lag")
def test_lag_is_whole_for_a_group_that_has_done_nothing(
    broker: Broker, new_topic: NewTopic, message: NewMessage, eventually: Eventually
) -> None:
    """Every partition is listed, with all that it holds."""
    topic = new_topic(4)
    broker.publish([message(topic, f"k{n}") for n in range(50)])
    eventually(lambda: sum(broker.lag([topic], group=topic).values()) == 50)
    assert sorted(broker.lag([topic], group=topic)) == [(topic, p) for p in range(4)]


@pytest.mark.promise("lag")
def test_the_lag_of_a_group_that_never_came(broker: Broker, new_topic: NewTopic, message: NewMessage) -> None:
    """The whole topic where it could still read it; an error that names it where it could not."""
    topic = new_topic(2)
    broker.publish([message(topic, f"k{n}") for n in range(10)])
    if broker.capabilities.replay_by_offset:
        assert sum(broker.lag([topic], group="stranger").values()) == 10
    else:
        with pytest.raises(UnknownGroup, match="stranger"):
            broker.lag([topic], group="stranger")


@pytest.mark.promise("lag")
def test_lag_counts_what_is_not_acked(
    broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive, eventually: Eventually
) -> None:
    """Received is not done; a partition without a single ack counts whole."""
    topic = new_topic(4)
    broker.publish([message(topic, f"k{n}") for n in range(50)])
    subscription = broker.subscribe([topic], group=topic)
    deliveries = receive(subscription, 50, ack=False)
    for delivery in deliveries:
        if delivery.partition != 0:
            subscription.ack(delivery)
    untouched = sum(delivery.partition == 0 for delivery in deliveries)
    wanted = {(topic, p): 0 if p else untouched for p in range(4)}
    eventually(lambda: not subscription.receive(1, 0.05) and broker.lag([topic], group=topic) == wanted)
    subscription.close()
    eventually(lambda: broker.lag([topic], group=topic) == wanted)


# -- ends --------------------------------------------------------------------------------------------------------------


def waits(thread: int) -> bool:
    """Whether it is in the middle of waiting for a message, and not only on its way there."""
    frame = sys._current_frames().get(thread)
    return frame is not None and frame.f_code.co_name in {"wait", "take"}


def received_while(closing: Callable[[], None], subscription: Subscription, eventually: Eventually) -> list[Delivery]:
    """What another thread's ``receive`` returns, when ``closing`` is called in the middle of its long wait."""
    with ThreadPoolExecutor(1) as pool:
        thread = pool.submit(threading.get_ident).result(timeout=60)
        waiting = pool.submit(subscription.receive, 10, 120.0)
        eventually(lambda: waits(thread))
        closing()
        return waiting.result(timeout=60)


@pytest.mark.promise("closing")
def test_closing_ends_a_waiting_receive(broker: Broker, new_topic: NewTopic, eventually: Eventually) -> None:
    """From another thread, at once rather than after its timeout, with nothing in its hands; closing twice is once."""
    subscription = broker.subscribe([topic := new_topic()], group=topic)
    assert received_while(subscription.close, subscription, eventually) == []
    subscription.close()


@pytest.mark.promise("closing")
def test_closing_a_broker_ends_a_waiting_receive(broker: Broker, new_topic: NewTopic, eventually: Eventually) -> None:
    """What was subscribed there is closed with it, and in time."""
    subscription = broker.subscribe([topic := new_topic()], group=topic)
    assert received_while(broker.close, subscription, eventually) == []
    with pytest.raises(RuntimeError, match="subscription is closed"):
        subscription.receive(1, 5.0)


@pytest.mark.promise("closing")
def test_a_closed_subscription_says_so(
    broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive, read: Read
) -> None:
    """A loop that receives ends, rather than turn without rest; a late ack or nack changes nothing, another member has them."""
    topic = new_topic(1)
    broker.publish([message(topic, "k", "1"), message(topic, "k", "2")])
    subscription = broker.subscribe([topic], group=topic)
    first, second = receive(subscription, 2, ack=False)
    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(subscription.close).result(timeout=60)
    subscription.ack(first)
    subscription.nack(second)
    with pytest.raises(RuntimeError, match="subscription is closed"):
        subscription.receive(1, 5.0)
    assert sorted(numbers(read(topic, 2))) == [1, 2]


@pytest.mark.promise("closing")
def test_a_closed_broker_says_so(broker: Broker, new_topic: NewTopic, message: NewMessage) -> None:
    """Whatever it is asked for of what it offers; nothing is connected behind the back of whoever closed it."""
    topic = new_topic()
    asks: dict[str, Callable[[], object]] = {
        "publish": lambda: broker.publish([message(topic)]),
        "publish nothing": lambda: broker.publish([]),
        "subscribe": lambda: broker.subscribe([topic], group=topic),
        "create_topic": lambda: broker.create_topic(topic),
        "lag": lambda: broker.lag([topic], group=topic),
        "replay_by_offset": lambda: broker.replay(topic),
        "replay_by_time": lambda: broker.rewind([topic], group=topic, to=datetime.now(UTC)),
    }
    broker.close()
    broker.close()
    for name, ask in asks.items():
        if getattr(broker.capabilities, name, True):
            with pytest.raises(RuntimeError, match=r"broker .*is closed"):
                ask()


@pytest.mark.promise("closing")
def test_a_broker_that_closes_leaves_no_thread(
    broker: Broker, new_topic: NewTopic, message: NewMessage, read: Read, eventually: Eventually
) -> None:
    """Of its own that is: what served its connections ends with it."""
    topic = new_topic()
    broker.publish([message(topic)])
    read(topic, 1)
    broker.close()
    eventually(lambda: not [t.name for t in threading.enumerate() if t.name.startswith(("rabbitmq", "pubsub", "Thread-"))])


@pytest.mark.promise("durable")
def test_a_broker_killed_and_started_again_in_mid_stream(
    broker: Broker,
    new_topic: NewTopic,
    message: NewMessage,
    restart: Callable[[str], None],
    request: pytest.FixtureRequest,
    eventually: Eventually,
) -> None:
    """SIGKILL under a publisher and a consumer: both go on by themselves, nothing confirmed is lost, each key in order."""
    topic = new_topic()
    booked: list[Delivery] = []
    outages: list[str] = []
    stop, half = threading.Event(), threading.Event()

    def publish() -> None:
        for start in range(0, 4_000, 100):
            call = [message(topic, f"k{n % 10}", f"{n}") for n in range(start, start + 100)]
            while not stop.is_set():
                try:
                    broker.publish(call)
                    break
                except BrokerUnavailable as error:
                    outages.append(str(error))
            if start == 1_900:
                half.set()

    def consume() -> None:
        subscription = broker.subscribe([topic], group=topic)
        while not stop.is_set():
            try:
                for delivery in subscription.receive(50, 0.2):
                    booked.append(delivery)
                    subscription.ack(delivery)
            except BrokerUnavailable as error:
                outages.append(str(error))
                stop.wait(0.1)
        subscription.close()

    threads = [threading.Thread(target=work) for work in (publish, consume)]
    for thread in threads:
        thread.start()
    try:
        eventually(half.is_set, within_s=120)
        restart(request.node.callspec.params["broker"])
        eventually(lambda: len({delivery.value for delivery in booked}) == 4_000, within_s=180)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert first_deliveries(booked) == {f"k{k}".encode(): list(range(k, 4_000, 10)) for k in range(10)}


# -- topics ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["subscribe", "lag", "replay", "rewind"])
def test_an_unknown_topic_is_an_error_that_names_it(broker: Broker, ask: str) -> None:
    """At the call, not in silence afterwards; where the call is not offered at all, that is the error."""
    asks: dict[str, Callable[[], object]] = {
        "subscribe": lambda: broker.subscribe(["nowhere"], group="g"),
        "lag": lambda: broker.lag(["nowhere"], group="g"),
        "replay": lambda: broker.replay("nowhere"),
        "rewind": lambda: broker.rewind(["nowhere"], group="g", to=datetime.now(UTC)),
    }
    needs = {"lag": "lag", "replay": "replay_by_offset", "rewind": "replay_by_time"}.get(ask)
    if needs is None or getattr(broker.capabilities, needs):
        with pytest.raises(UnknownTopic, match="'nowhere' does not exist"):
            asks[ask]()
    else:
        with pytest.raises(NotOffered):
            asks[ask]()


def test_creating_a_topic_again_changes_nothing(broker: Broker, new_topic: NewTopic, message: NewMessage, read: Read) -> None:
    """Neither what it holds nor its partitions."""
    topic = new_topic(2)
    broker.publish([message(topic, "k", "1")])
    broker.create_topic(topic, partitions=5)
    if broker.capabilities.lag:
        assert len(broker.lag([topic], group=topic)) == 2
    assert values(read(topic, 1)) == [b"1"]


def test_every_promise_has_a_test(request: pytest.FixtureRequest) -> None:
    """Held means tested: no row of the table stands on words."""
    kept = {mark.args[0] for item in request.session.items for mark in item.iter_markers("promise")}
    needing_the_service = {"filtered", "exactly once"}
    if len(request.session.items) > 100:  # a session that was asked for all of them
        assert set(PROMISES) - kept <= needing_the_service
