"""What only Kafka can get wrong: addresses, credentials, limits that change, transactions, topics that go away."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from reference.brokers import Broker, BrokerUnavailable, Delivery, Message, NotConfirmed, UnknownTopic
from reference.brokers.kafka import KafkaBroker
from reference.brokers.kafka import publisher as module
from reference.stack import Endpoints

NewTopic = Callable[..., str]
NewMessage = Callable[..., Message]
Receive = Callable[..., list[Delivery]]
Eventually = Callable[..., Any]
ASKS: dict[str, Callable[[KafkaBroker], object]] = {
    "publish": lambda broker: broker.publish([Message("orders", "k", b"v", [])]),
    "subscribe": lambda broker: broker.subscribe(["orders"], group="g"),
    "create_topic": lambda broker: broker.create_topic("orders"),
    "lag": lambda broker: broker.lag(["orders"], group="g"),
    "replay": lambda broker: broker.replay("orders"),
}


@pytest.fixture
def broker(kafka: KafkaBroker) -> Broker:
    """Here it is always Kafka."""
    return kafka


@pytest.fixture
def admin(kafka: KafkaBroker) -> AdminClient:
    """For what an operator does to a topic."""
    return AdminClient(kafka.client)


@pytest.fixture
def set_limit(admin: AdminClient) -> Callable[[str, int], None]:
    """``set_limit(topic, 2_000)`` changes the topic's ``max.message.bytes``."""

    def change(topic: str, limit: int) -> None:
        entry = ConfigEntry("max.message.bytes", str(limit), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        admin.incremental_alter_configs([resource])[resource].result(30)

    return change


def held(broker: Broker, topic: str) -> list[bytes | None]:
    return [delivery.value for delivery in broker.replay(topic)]


# -- addresses and credentials -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ASKS)
def test_a_broker_that_is_away_is_named_in_time(ask: str) -> None:
    """Whatever was asked, the error names the address and comes within the timeout, give or take a slow machine."""
    started = time.monotonic()
    with KafkaBroker("kafka://127.0.0.1:9", timeout_s=0.5) as nobody, pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:9"):
        ASKS[ask](nobody)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("ask", ["publish", "subscribe", "create_topic"])
def test_a_wrong_password_names_the_address_and_not_the_password(stack: Endpoints, ask: str) -> None:
    """The reader learns where it failed; the log does not learn the secret."""
    address = urlsplit(stack.kafka).netloc.rpartition("@")[2]
    with (
        KafkaBroker(f"kafka://lab:geheim@{address}", timeout_s=1) as broker,
        pytest.raises(BrokerUnavailable, match=address) as error,
    ):
        ASKS[ask](broker)
    assert "geheim" not in str(error.value)


def test_a_broker_that_was_away_is_used_when_it_is_back(kafka: KafkaBroker, new_topic: NewTopic, message: NewMessage) -> None:
    """One failed call does not spoil the next."""
    topic = new_topic()
    kafka._cluster.max_message_bytes, ask = (
        lambda topic: (_ for _ in ()).throw(BrokerUnavailable("away")),
        (  # type: ignore[method-assign]
            kafka._cluster.max_message_bytes
        ),
    )
    with pytest.raises(BrokerUnavailable):
        kafka.publish([message(topic)])
    kafka._cluster.max_message_bytes = ask  # type: ignore[method-assign]
    kafka.publish([message(topic, value="1")])
    assert held(kafka, topic) == [b"1"]


def test_its_url_may_be_printed(stack: Endpoints, kafka: KafkaBroker) -> None:
    """Credentials are in the client's settings and nowhere else."""
    assert (kafka.url, kafka.client["sasl.password"]) == (
        f"kafka://{urlsplit(stack.kafka).netloc.rpartition('@')[2]}",
        urlsplit(stack.kafka).password,
    )


# -- publishing --------------------------------------------------------------------------------------------------------


def test_nothing_overtakes_what_the_broker_itself_refused(
    kafka: KafkaBroker, new_topic: NewTopic, message: NewMessage, set_limit: Callable[[str, int], None]
) -> None:
    """A limit lowered behind our back: the event it hits and those behind it in its key are held, and all others go."""
    topic = new_topic(3)
    kafka.publish([message(topic, "k", "first")])  # from here on the publisher believes in the old limit
    set_limit(topic, 100_000)
    large = random.Random(0).randbytes(400_000).hex()
    calls = [message(topic, "k", "second"), message(topic, "k", large), message(topic, "k", "third")]
    calls += [message(topic, f"other-{n}", "neighbour") for n in range(200)]
    with pytest.raises(NotConfirmed) as caught:
        kafka.publish(calls)
    assert set(caught.value.failures) == {1, 2}
    found = list(kafka.replay(topic))
    assert list(dict.fromkeys(d.value for d in found if d.key == b"k")) == [b"first", b"second"]
    assert len({d.key for d in found if d.value == b"neighbour"}) == 200


def test_a_topic_deleted_behind_our_back_does_not_stop_the_others(
    stack: Endpoints, admin: AdminClient, new_topic: NewTopic, message: NewMessage
) -> None:
    """The client waits in silence for a topic that is gone; the call after that asks, names it, and all others go."""
    gone, there = new_topic(1), new_topic(1)
    with KafkaBroker(stack.kafka, timeout_s=3) as broker:
        broker.publish([message(gone, "k", "1"), message(there, "k", "1")])
        admin.delete_topics([gone])[gone].result(30)
        calls = [message(gone, "k", "2"), message(there, "k", "2")]
        with pytest.raises((BrokerUnavailable, NotConfirmed)):
            broker.publish(calls)
        with pytest.raises(NotConfirmed) as caught:
            broker.publish(calls)
        assert (set(caught.value.failures), set(held(broker, there))) == ({0}, {b"1", b"2"})


def test_nothing_of_a_call_that_failed_is_sent_later(
    kafka: KafkaBroker, new_topic: NewTopic, message: NewMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller who saw an error publishes again; what was still queued must not come on top, out of place."""
    monkeypatch.setattr(module, "PRODUCER", {**module.PRODUCER, "linger.ms": 60_000})
    topic = new_topic(1)

    def breaking() -> Iterator[Message]:
        yield message(topic, "k", "queued")
        raise RuntimeError("a bug in the caller's sequence")

    with pytest.raises(RuntimeError, match="a bug"):
        kafka.publish(breaking())  # type: ignore[arg-type]
    kafka.publish([message(topic, "k", "later")])
    assert held(kafka, topic) == [b"later"]


def test_a_delivery_can_be_published_as_it_came(kafka: KafkaBroker, new_topic: NewTopic, message: NewMessage) -> None:
    """Forwarding keeps key, value and headers."""
    topic, onward = new_topic(1), new_topic(1)
    kafka.publish([message(topic, "k", "1", (("id", "e1"), ("none", b"")))])
    [came] = kafka.replay(topic)
    kafka.publish([Message(onward, "k", came.value or b"", came.headers)])  # type: ignore[arg-type]
    [went] = kafka.replay(onward)
    assert (went.key, went.value, went.headers) == (came.key, came.value, came.headers)


def test_a_full_queue_is_waited_for(
    kafka: KafkaBroker, new_topic: NewTopic, message: NewMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the client holds at once goes all the same, in order."""
    monkeypatch.setattr(module, "PRODUCER", {**module.PRODUCER, "queue.buffering.max.messages": 10})
    topic = new_topic(1)
    kafka.publish([message(topic, "k", f"{n}") for n in range(200)])
    assert [int(value or b"") for value in held(kafka, topic)] == list(range(200))


def test_small_topics_take_what_fits_each(
    kafka: KafkaBroker, new_topic: NewTopic, message: NewMessage, set_limit: Callable[[str, int], None]
) -> None:
    """A topic's limit is on a batch: many messages, each below it, all go."""
    topic = new_topic(1)
    set_limit(topic, 1_000)
    kafka.publish([message(topic, "k", bytes([n]) * 800) for n in range(50)])
    assert len(held(kafka, topic)) == 50


def test_a_raised_limit_is_noticed(
    kafka: KafkaBroker, new_topic: NewTopic, message: NewMessage, set_limit: Callable[[str, int], None]
) -> None:
    """The operator's mend helps without a restart."""
    topic = new_topic(1)
    set_limit(topic, 1_000)
    with pytest.raises(NotConfirmed, match=r"max\.message\.bytes=1000"):
        kafka.publish([message(topic, "k", bytes(2_000))])
    set_limit(topic, 10_000)
    kafka.publish([message(topic, "k", bytes(2_000))])
    assert held(kafka, topic) == [bytes(2_000)]


def test_what_the_broker_itself_refuses_is_named(
    kafka: KafkaBroker, new_topic: NewTopic, message: NewMessage, set_limit: Callable[[str, int], None]
) -> None:
    """A limit lowered behind the client's back: the broker says no, and the index of the message is still known."""
    topic = new_topic(1)
    kafka.publish([message(topic, "a", "1")])
    set_limit(topic, 1_000)
    call = [message(topic, "b", bytes(50_000) + b"2" * 3_000), message(topic, "c", b"x" * 50_000)]
    with pytest.raises(NotConfirmed) as error:
        kafka.publish([Message(topic, key, _noise(len(value)), []) for _, key, value, _ in call])
    assert sorted(error.value.failures) == [0, 1]
    assert all("max.message.bytes=1000" in reason for reason in error.value.failures.values())


@pytest.mark.parametrize("name", ["", "a b", "ü", ".", "..", "x" * 250, "x" * 600, "a/b"])
def test_a_name_kafka_forbids_is_refused_and_not_an_outage(
    kafka: KafkaBroker, new_topic: NewTopic, message: NewMessage, name: str
) -> None:
    """A bad name costs its own message; an outage would hold everything."""
    topic = new_topic(1)
    with pytest.raises(NotConfirmed) as error:
        kafka.publish([message(topic, "a", "1"), message(name, "a", "2"), message(topic, "a", "3")])
    assert (list(error.value.failures), held(kafka, topic)) == ([1], [b"1", b"3"])


@pytest.mark.parametrize(
    ("key", "hashed"), [("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536)]
)
def test_keys_live_where_java_clients_put_them(
    kafka: KafkaBroker, new_topic: NewTopic, message: NewMessage, key: str, hashed: int
) -> None:
    """Changing over from another client moves no key. The hashes are those of Kafka's own test of murmur2."""
    topic = new_topic(7)
    kafka.publish([message(topic, key)])
    assert [delivery.partition for delivery in kafka.replay(topic)] == [(hashed & 0x7FFFFFFF) % 7]


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.promise("transactions", broker="kafka")
def test_a_replay_passes_aborted_transactions_and_ends(kafka: KafkaBroker, new_topic: NewTopic) -> None:
    """What was aborted is not there, and the markers at the end are not waited for."""
    topic = new_topic(1)
    producer = Producer({**kafka.client, "transactional.id": topic})
    producer.init_transactions(30)
    for value, commit in (("1", True), ("2", False), ("3", True), ("4", False)):
        producer.begin_transaction()
        producer.produce(topic, value, "k")
        producer.flush(30)
        (producer.commit_transaction if commit else producer.abort_transaction)(30)
    assert held(kafka, topic) == [b"1", b"3"]


def test_a_replay_of_expired_records_ends(
    kafka: KafkaBroker, new_topic: NewTopic, message: NewMessage, admin: AdminClient
) -> None:
    """Retention took everything: the topic's end is not its beginning, and nothing is between them."""
    topic = new_topic(1)
    kafka.publish([message(topic) for _ in range(5)])
    deletion = admin.delete_records([TopicPartition(topic, 0, 5)])
    next(iter(deletion.values())).result(30)
    assert (held(kafka, topic), kafka.lag([topic], group=topic)) == ([], {(topic, 0): 0})


def test_a_topic_deleted_while_it_is_read_is_an_error_that_names_it(
    kafka: KafkaBroker,
    new_topic: NewTopic,
    message: NewMessage,
    receive: Receive,
    admin: AdminClient,
    eventually: Callable[..., None],
) -> None:
    """Silence would look like a quiet day."""
    topic = new_topic(1)
    kafka.publish([message(topic)])
    subscription = kafka.subscribe([topic], group=topic)
    receive(subscription, 1)
    admin.delete_topics([topic])[topic].result(30)
    with pytest.raises(UnknownTopic, match=topic):
        eventually(lambda: subscription.receive(1, 0.2))
    subscription.close()


def test_what_a_failed_client_still_says_hides_no_error(
    kafka: KafkaBroker, new_topic: NewTopic, message: NewMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given up in mid-flight, librdkafka reports a gap as fatal; whoever publishes hears of the absence that caused it."""

    class Gap:
        def __init__(self, *_: object, **__: object) -> None: ...

        def produce(self, *_: object, **__: object) -> None:
            raise BrokerUnavailable("away")

        poll = purge = lambda *_: None

        def flush(self, *_: object) -> None:
            raise KafkaException(KafkaError(KafkaError._GAPLESS_GUARANTEE, "Purged in flight", fatal=True))

    topic = new_topic(1)
    with monkeypatch.context() as failing:
        failing.setattr(module, "Producer", Gap)
        with pytest.raises(BrokerUnavailable, match="away"):
            kafka.publish([message(topic)])
    kafka.publish([message(topic)])  # with a client made anew
    assert len(held(kafka, topic)) == 1


def _noise(size: int) -> bytes:
    """Bytes that zstd cannot make small."""
    return b"".join(n.to_bytes(4, "big") for n in (pow(3, k, 4_294_967_291) for k in range(size // 4)))


def test_a_member_that_joins_while_its_broker_closes_is_told(
    kafka: KafkaBroker, new_topic: NewTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody stays in the group without an owner."""
    topic = new_topic()
    monkeypatch.setattr(kafka._cluster, "partitions", lambda _: kafka.close())
    with pytest.raises(RuntimeError, match=r"broker .*is closed"):
        kafka.subscribe([topic], group=topic)


def test_a_member_hears_of_a_handover_when_another_joins(kafka: KafkaBroker, new_topic: NewTopic, eventually: Eventually) -> None:
    """First it is given all partitions; then some are taken from it, and given back when the other leaves."""
    topic = new_topic()
    first = kafka.subscribe([topic], group=topic)
    assert first.handovers == 0
    eventually(lambda: first.receive(10, 0.1) or first.handovers >= 1)
    second = kafka.subscribe([topic], group=topic)
    eventually(lambda: first.receive(10, 0.1) or second.receive(10, 0.1) or (first.handovers > 1 and second.handovers))
    alone = first.handovers
    second.close()
    eventually(lambda: first.receive(10, 0.1) or first.handovers > alone)
