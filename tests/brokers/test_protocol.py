"""What every broker promises, asked of each adapter: the same questions, the same answers."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from reference.brokers import Broker, Delivery, Message, NotConfirmed, UnknownTopic

NewTopic = Callable[..., str]
NewMessage = Callable[..., Message]
Receive = Callable[..., list[Delivery]]
OVERSIZE = bytes(2_000_000)


def held(broker: Broker, topic: str) -> list[bytes | None]:
    return [delivery.value for delivery in broker.replay(topic)]


def refused(broker: Broker, messages: list[Message]) -> dict[int, str]:
    with pytest.raises(NotConfirmed) as error:
        broker.publish(messages)
    return error.value.failures


# -- publish -----------------------------------------------------------------------------------------------------------


def test_what_is_confirmed_is_there(broker: Broker, new_topic: NewTopic, message: NewMessage) -> None:
    """Publish returns, and whoever looks finds every message."""
    topic = new_topic()
    broker.publish([message(topic, f"k{n}", f"{n}") for n in range(100)])
    assert {int(value or b"") for value in held(broker, topic)} == set(range(100))


def test_publishing_nothing_is_nothing(broker: Broker) -> None:
    """An empty page needs no broker."""
    broker.publish([])


def test_an_unknown_topic_is_named_and_its_neighbours_are_durable(
    broker: Broker, new_topic: NewTopic, message: NewMessage
) -> None:
    """One bad message of a call costs no other."""
    topic = new_topic(1)
    failures = refused(broker, [message(topic, "a", "1"), message("nowhere", "b", "2"), message(topic, "c", "3")])
    assert (list(failures), "nowhere" in failures[1], held(broker, topic)) == ([1], True, [b"1", b"3"])


def test_a_topic_made_afterwards_takes_what_was_refused(broker: Broker, new_topic: NewTopic, message: NewMessage) -> None:
    """A refusal is not remembered."""
    name = f"late-{uuid.uuid4().hex[:8]}"
    refused(broker, [message(name, "k", "1")])
    broker.create_topic(name)
    broker.publish([message(name, "k", "1")])
    assert held(broker, name) == [b"1"]


def test_an_oversize_message_is_named_and_its_neighbours_are_durable(
    broker: Broker, new_topic: NewTopic, message: NewMessage
) -> None:
    """The reason says how large it is."""
    topic = new_topic(1)
    failures = refused(broker, [message(topic, "a", "1"), message(topic, "b", OVERSIZE), message(topic, "c", "3")])
    assert (list(failures), "2000" in failures[1], held(broker, topic)) == ([1], True, [b"1", b"3"])


def test_nothing_passes_a_refused_message_of_its_key(broker: Broker, new_topic: NewTopic, message: NewMessage) -> None:
    """Behind a hole the order would be broken: the rest of the key stays, and is named too."""
    topic = new_topic(1)
    call = [message(topic, "a", "1"), message(topic, "a", OVERSIZE), message(topic, "b", "3"), message(topic, "a", "4")]
    assert (list(refused(broker, call)), held(broker, topic)) == ([1, 3], [b"1", b"3"])


def test_the_same_key_on_another_topic_goes_on(broker: Broker, new_topic: NewTopic, message: NewMessage) -> None:
    """Order is promised per topic and key, and no more is held."""
    one, other = new_topic(1), new_topic(1)
    assert list(refused(broker, [message(one, "a", OVERSIZE), message(other, "a", "2")])) == [0]
    assert held(broker, other) == [b"2"]


def test_values_keys_and_headers_arrive_byte_for_byte(broker: Broker, new_topic: NewTopic, message: NewMessage) -> None:
    """Binary bodies, any script in a key, repeated and empty headers, in their order."""
    topic = new_topic()
    headers = (("h", bytes(range(256))), ("h", "zweimal ☕"), ("empty", b""))
    broker.publish([message(topic, "schlüssel-☕", bytes(range(256)), headers), message(topic, "empty", b"")])
    found = {d.key: (d.value, d.headers) for d in broker.replay(topic)}
    assert found == {
        "schlüssel-☕".encode(): (
            bytes(range(256)),
            (("h", bytes(range(256))), ("h", "zweimal ☕".encode()), ("empty", b"")),
        ),
        b"empty": (b"", ()),
    }


def test_several_threads_may_publish(broker: Broker, new_topic: NewTopic, message: NewMessage) -> None:
    """Each call keeps its own promise."""
    topic = new_topic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: broker.publish([message(topic, f"k{n}", f"{n}-{m}") for m in range(25)]), range(8)))
    assert len(held(broker, topic)) == 200


# -- order -------------------------------------------------------------------------------------------------------------


def test_a_key_keeps_its_order(broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive) -> None:
    """Whatever partition a key lives in, its messages come as they were published, over several calls."""
    topic = new_topic()
    for start in range(0, 300, 100):
        broker.publish([message(topic, f"k{n % 10}", f"{n}") for n in range(start, start + 100)])
    subscription = broker.subscribe([topic], group=topic)
    by_key = defaultdict(list)
    for delivery in receive(subscription, 300):
        by_key[delivery.key].append(int(delivery.value or b""))
    subscription.close()
    assert all(numbers == sorted(numbers) and len(numbers) == 30 for numbers in by_key.values())


# -- groups ------------------------------------------------------------------------------------------------------------


def test_two_groups_both_receive(broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive) -> None:
    """Each group has all of it, and each delivery says for whom it is."""
    topic = new_topic()
    broker.publish([message(topic, f"k{n}") for n in range(10)])
    received = {}
    for group in (f"{topic}-a", f"{topic}-b"):
        subscription = broker.subscribe([topic], group=group)
        received[group] = {delivery.group for delivery in receive(subscription, 10)}
        subscription.close()
    assert received == {group: {group} for group in received}


def test_members_of_a_group_share(
    broker: Broker, new_topic: NewTopic, message: NewMessage, eventually: Callable[..., None]
) -> None:
    """Once both have joined, each message goes to one of them."""
    topic = new_topic(4)
    members = [broker.subscribe([topic], group=topic) for _ in range(2)]
    got: list[list[bytes | None]] = [[], []]

    def everyone_received(wanted: int) -> bool:
        for member, values in zip(members, got, strict=True):
            for delivery in member.receive(100, 0.05):
                member.ack(delivery)
                values.append(delivery.value)
        return all(got) and sum(map(len, got)) >= wanted

    def joined() -> bool:
        broker.publish([message(topic, f"k{n}") for n in range(40)])
        return everyone_received(1)

    eventually(joined)
    eventually(lambda: sum(broker.lag([topic], group=topic).values()) == 0 or (everyone_received(1) and False))
    got = [[], []]
    broker.publish([message(topic, f"k{n}", f"{n}") for n in range(40)])
    eventually(lambda: everyone_received(40))
    for member in members:
        member.close()
    assert sorted(int(value or b"") for values in got for value in values) == list(range(40))


def test_a_member_that_leaves_hands_over(broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive) -> None:
    """What it had not acked is delivered to the one that stays."""
    topic = new_topic()
    broker.publish([message(topic, f"k{n}", f"{n}") for n in range(20)])
    leaving = broker.subscribe([topic], group=topic)
    receive(leaving, 20, ack=False)
    staying = broker.subscribe([topic], group=topic)
    leaving.close()
    values = {int(delivery.value or b"") for delivery in receive(staying, 20)}
    staying.close()
    assert values == set(range(20))


# -- redelivery --------------------------------------------------------------------------------------------------------


def test_what_was_not_acked_comes_back(broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive) -> None:
    """Closed and joined again, the group goes on behind its last ack."""
    topic = new_topic(1)
    broker.publish([message(topic, "k", f"{n}") for n in range(10)])
    first = broker.subscribe([topic], group=topic)
    for delivery in receive(first, 10, ack=False)[:4]:
        first.ack(delivery)
    first.close()
    second = broker.subscribe([topic], group=topic)
    values = [int(delivery.value or b"") for delivery in receive(second, 6)]
    second.close()
    assert values == [4, 5, 6, 7, 8, 9]


def test_an_ack_covers_only_its_delivery(broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive) -> None:
    """A later one being done says nothing of an earlier one: that one comes back."""
    topic = new_topic(1)
    broker.publish([message(topic, "k", f"{n}") for n in range(4)])
    first = broker.subscribe([topic], group=topic)
    for delivery in receive(first, 4, ack=False)[1:]:
        first.ack(delivery)
    first.close()
    second = broker.subscribe([topic], group=topic)
    values = [delivery.value for delivery in receive(second, 1)]
    second.close()
    assert values == [b"0"]


def test_a_nack_brings_it_back_in_order(broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive) -> None:
    """To the same member, and what stood behind it follows."""
    topic = new_topic(1)
    broker.publish([message(topic, "k", f"{n}") for n in range(5)])
    subscription = broker.subscribe([topic], group=topic)
    deliveries = receive(subscription, 5, ack=False)
    for delivery in deliveries[:2]:
        subscription.ack(delivery)
    subscription.nack(deliveries[2])
    values = [int(delivery.value or b"") for delivery in receive(subscription, 3)]
    subscription.close()
    assert values == [2, 3, 4]


def test_a_late_ack_of_what_came_back_changes_nothing(
    broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive
) -> None:
    """After a nack the old delivery is void; only the new one can be acked."""
    topic = new_topic(1)
    broker.publish([message(topic, "k", "0"), message(topic, "k", "1")])
    subscription = broker.subscribe([topic], group=topic)
    deliveries = receive(subscription, 2, ack=False)
    subscription.nack(deliveries[0])
    subscription.ack(deliveries[1])
    values = [delivery.value for delivery in receive(subscription, 2)]
    subscription.close()
    assert values == [b"0", b"1"]


# -- lag and replay ----------------------------------------------------------------------------------------------------


def test_lag_is_whole_for_a_group_that_never_came(broker: Broker, new_topic: NewTopic, message: NewMessage) -> None:
    """Every partition is listed, with all that it holds."""
    topic = new_topic(4)
    broker.publish([message(topic, f"k{n}") for n in range(50)])
    lag = broker.lag([topic], group=topic)
    assert (sorted(lag), sum(lag.values())) == ([(topic, p) for p in range(4)], 50)


def test_lag_counts_what_is_not_acked(broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive) -> None:
    """Received is not done; a partition without a single ack counts whole."""
    topic = new_topic(4)
    broker.publish([message(topic, f"k{n}") for n in range(50)])
    subscription = broker.subscribe([topic], group=topic)
    for delivery in receive(subscription, 50, ack=False):
        if delivery.partition != 0:
            subscription.ack(delivery)
    subscription.close()
    lag = broker.lag([topic], group=topic)
    untouched = sum(delivery.partition == 0 for delivery in broker.replay(topic))
    assert lag == {(topic, 0): untouched, (topic, 1): 0, (topic, 2): 0, (topic, 3): 0}


def test_acks_become_visible_while_the_member_stays(
    broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive, eventually: Callable[..., None]
) -> None:
    """A picture of the lag does not wait for the end."""
    topic = new_topic()
    broker.publish([message(topic, f"k{n}") for n in range(30)])
    subscription = broker.subscribe([topic], group=topic)
    receive(subscription, 30)
    eventually(lambda: not subscription.receive(1, 0.05) and sum(broker.lag([topic], group=topic).values()) == 0)
    subscription.close()


def test_a_replay_ends_where_the_topic_ended_at_the_call(broker: Broker, new_topic: NewTopic, message: NewMessage) -> None:
    """What is published afterwards belongs to the next one."""
    topic = new_topic()
    broker.publish([message(topic, "k", "before")])
    replay = broker.replay(topic)
    broker.publish([message(topic, "k", "after")])
    assert [delivery.value for delivery in replay] == [b"before"]


def test_an_empty_topic_replays_nothing(broker: Broker, new_topic: NewTopic) -> None:
    """And the replay ends."""
    assert held(broker, new_topic()) == []


def test_a_replay_is_no_consumption(broker: Broker, new_topic: NewTopic, message: NewMessage, receive: Receive) -> None:
    """Groups do not notice it."""
    topic = new_topic()
    broker.publish([message(topic, "k", "1")])
    assert held(broker, topic) == held(broker, topic) == [b"1"]


# -- topics ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["subscribe", "lag", "replay"])
def test_an_unknown_topic_is_an_error_that_names_it(broker: Broker, ask: str) -> None:
    """At the call, not in silence afterwards."""
    asks: dict[str, Callable[[], object]] = {
        "subscribe": lambda: broker.subscribe(["nowhere"], group="g"),
        "lag": lambda: broker.lag(["nowhere"], group="g"),
        "replay": lambda: broker.replay("nowhere"),
    }
    with pytest.raises(UnknownTopic, match="'nowhere' does not exist"):
        asks[ask]()


def test_creating_a_topic_again_changes_nothing(broker: Broker, new_topic: NewTopic, message: NewMessage) -> None:
    """Neither what it holds nor its partitions."""
    topic = new_topic(2)
    broker.publish([message(topic, "k", "1")])
    broker.create_topic(topic, partitions=5)
    assert (held(broker, topic), len(broker.lag([topic], group="g"))) == ([b"1"], 2)


def test_capabilities_are_not_faked(broker: Broker) -> None:
    """Neither adapter counts deliveries, so no delivery claims an attempt."""
    assert (broker.capabilities.ordered_by_key, broker.capabilities.redelivery_count) == (True, False)
