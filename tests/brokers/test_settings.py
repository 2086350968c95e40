"""Every setting is given to the real client or broker, and everything that is said not to work is seen not to work."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import grpc
import pika
import psutil
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import pubsub_v1
from google.cloud.pubsub_v1 import types
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from pika.exceptions import AMQPError, UnroutableError

from reference.brokers.kafka import settings as kafka
from reference.brokers.kafka.address import KafkaAddress
from reference.brokers.pubsub import settings as pubsub
from reference.brokers.rabbitmq import settings as rabbitmq
from reference.brokers.settings import Setting, Settings
from reference.stack import Endpoints, artifacts, java
from reference.stack.processes import freeze, thaw
from reference.stack.rabbitmq import server

Eventually = Callable[..., Any]
Test = TypeVar("Test", bound=Callable[..., None])
MODULES: Sequence[ModuleType] = (kafka, rabbitmq, pubsub)
KNOWN = {entry.name: entry for module in MODULES for entry in module.NOT_TAKEN}
SHOWN: set[str] = set()


def shows(*names: str) -> Callable[[Test], Test]:
    """Says which entries of the known lists a test is the proof of."""
    assert set(names) <= KNOWN.keys(), set(names) - KNOWN.keys()
    SHOWN.update(names)
    return lambda test: test


def each(cases: dict[str, Any]) -> Callable[[Test], Test]:
    """One test a case: the entry's name and what is tried."""
    shows(*cases)
    return pytest.mark.parametrize(("name", "case"), list(cases.items()), ids=list(cases))


# The settings themselves


def test_a_group_is_a_mapping_with_reasons() -> None:
    """A group unpacks like a dictionary, takes a change of one's own beside it, and tells why."""
    group = Settings("A group", Setting("one", 1, "because"), Setting("on", True, "since"), call="f(**group)")
    assert {**group, "one": 2} == {"one": 2, "on": True}
    assert group.why("one") == "because"
    assert group.as_text() == {"one": "1", "on": "true"}
    with pytest.raises(ValueError, match="twice in the group 'A group'"):
        Settings("A group", Setting("one", 1, "because"), Setting("one", 2, "since"), call="")


def test_everything_has_its_reason() -> None:
    """No setting without a sentence; what differs from the guide names the section; each entry says what to write instead."""
    groups = [group for module in MODULES for group in vars(module).values() if isinstance(group, Settings)]
    for setting in (setting for group in groups for setting in group.settings):
        assert len(setting.reason) > 10, setting
        assert setting.guide or not setting.guide_says, setting
    for entry in KNOWN.values():
        assert entry.happens, entry
        assert entry.instead, entry
        assert entry.error or entry.source or entry.outcome != "refused", entry


def test_the_page_has_not_drifted() -> None:
    """docs/settings.md says what the modules say; `make docs` writes it."""
    generator = Path(__file__).parents[2] / "docs" / "settings.py"
    said = subprocess.run([sys.executable, generator, "--check"], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")


def test_every_entry_is_shown_or_has_a_source() -> None:
    """What the known lists say is shown by a test in this file, unless the entry names where it is written."""
    assert {name for name, entry in KNOWN.items() if not entry.source} == SHOWN


# Kafka

# Where the client reports a setting under another name, or another value, than it was given.
REPORTED = {
    "acks": ("request.required.acks", "-1"),
    "linger.ms": ("queue.buffering.max.ms", "5"),
    "compression.type": ("compression.codec", "zstd"),
    "auto.offset.reset": ("auto.offset.reset", "smallest"),
}


@pytest.fixture
def client(stack: Endpoints) -> dict[str, Any]:
    """librdkafka's settings that reach the session's Kafka, without the adapter's own silence."""
    return {name: value for name, value in KafkaAddress.parse(stack.kafka).client.items() if name != "log_level"}


@pytest.fixture
def admin(client: dict[str, Any]) -> AdminClient:
    """For making topics and looking at them."""
    return AdminClient(client)


@pytest.fixture
def new_topic(admin: AdminClient, eventually: Eventually) -> Iterator[Callable[..., str]]:
    """``new_topic(config={…})`` makes a topic of one partition, and waits until the broker knows it; deleted after the test."""
    made: list[str] = []

    def make(**options: Any) -> str:
        name = f"settings-{uuid.uuid4().hex[:8]}"
        wanted = {"num_partitions": 1, "replication_factor": 1, **options}
        admin.create_topics([NewTopic(name, **wanted)])[name].result(timeout=30)
        made.append(name)
        eventually(lambda: describe(admin, name))
        return name

    yield make
    for deletion in admin.delete_topics(made).values() if made else ():
        deletion.exception(timeout=30)


class Heard(logging.Handler):
    """What a client logs."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.logger = logging.getLogger(f"settings-{uuid.uuid4().hex}")
        self.logger.setLevel(logging.DEBUG)
        self.logger.propagate = False
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def configuration(self) -> dict[str, str]:
        """What the client says it is set to; everything it was not given is left out."""
        pairs = [line.partition("]:   ")[2].split(" = ", 1) for line in self.lines if "CONF [" in line and " = " in line]
        return dict(pairs)


def loaded(kind: type[Producer | Consumer], client: dict[str, Any], group: Settings) -> dict[str, str]:
    """What a real client that was given ``group`` reports back."""
    heard = Heard()
    extra = {"group.id": "settings"} if kind is Consumer else {}
    made = kind({**client, **group, **extra, "debug": "conf"}, logger=heard.logger)
    made.poll(0)
    if isinstance(made, Consumer):
        made.close()
    return heard.configuration()


def expected(group: Settings) -> dict[str, str]:
    return dict(REPORTED.get(name, (name, text)) for name, text in group.as_text().items())


def test_the_producer_takes_every_setting(client: dict[str, Any]) -> None:
    """librdkafka reports each value of PRODUCER as its own, but the one that Python's binding keeps to itself."""
    wanted = expected(kafka.PRODUCER)
    del wanted["delivery.report.only.error"]
    assert wanted.items() <= loaded(Producer, client, kafka.PRODUCER).items()


def test_only_errors_are_reported(client: dict[str, Any], new_topic: Callable[..., str]) -> None:
    """With PRODUCER no callback is called for what went well, and the message is there."""
    reports: list[Any] = []
    topic = new_topic()
    producer = Producer({**client, **kafka.PRODUCER, "on_delivery": lambda error, _: reports.append(error)})
    producer.produce(topic, b"{}", b"k")
    assert producer.flush(30) == 0
    assert [value for _, value in read(client, topic)] == [b"{}"]
    assert reports == []


@pytest.mark.parametrize("group", [kafka.CONSUMER, kafka.CONSUMER_LIMITS], ids=["CONSUMER", "CONSUMER_LIMITS"])
def test_the_consumer_takes_every_setting(client: dict[str, Any], group: Settings) -> None:
    """librdkafka reports each value as its own."""
    assert expected(group).items() <= loaded(Consumer, client, group).items()


def test_the_consumer_consumes(client: dict[str, Any], new_topic: Callable[..., str]) -> None:
    """Both groups together join a group and read a topic from its beginning."""
    topic = new_topic()
    publish(client, topic, [b"1"])
    consumer = Consumer({**client, **kafka.CONSUMER_LIMITS, **kafka.CONSUMER, "group.id": uuid.uuid4().hex})
    consumer.subscribe([topic])
    try:
        assert [record.value() for record in consumer.consume(1, 60)] == [b"1"]
    finally:
        consumer.close()


@pytest.mark.parametrize("group", [kafka.EVENT_TOPIC, kafka.STATE_TOPIC], ids=["EVENT_TOPIC", "STATE_TOPIC"])
def test_the_broker_takes_every_setting_of_a_topic(admin: AdminClient, new_topic: Callable[..., str], group: Settings) -> None:
    """A topic made with them has them, and as many partitions as TOPIC_SIZE says; one broker has one replica."""
    name = new_topic(**{**kafka.TOPIC_SIZE, "replication_factor": 1}, config=group.as_text())
    assert group.as_text().items() <= describe(admin, name).items()
    assert len(admin.list_topics(name, 30).topics[name].partitions) == kafka.TOPIC_SIZE["num_partitions"]


@each({
    "min.insync.replicas in a producer": (Producer, {"min.insync.replicas": 2}),
    "max.in.flight.requests.per.connection=6": (
        Producer,
        {"enable.idempotence": True, "max.in.flight.requests.per.connection": 6},
    ),
    "acks=1 with idempotence": (Producer, {"enable.idempotence": True, "acks": 1}),
    "retention.ms and the like in a client": (Producer, {"retention.ms": 604_800_000}),
    "session.timeout.ms with group.protocol=consumer": (Consumer, {**kafka.CONSUMER, "session.timeout.ms": 45_000}),
    "heartbeat.interval.ms with group.protocol=consumer": (Consumer, {**kafka.CONSUMER, "heartbeat.interval.ms": 3_000}),
    "partition.assignment.strategy with group.protocol=consumer": (
        Consumer,
        {**kafka.CONSUMER, "partition.assignment.strategy": "cooperative-sticky"},
    ),
})  # fmt: skip
def test_the_client_refuses(name: str, case: tuple[type[Producer | Consumer], dict[str, Any]]) -> None:
    """The client is not made, and its error is the one the list quotes."""
    kind, given = case
    with pytest.raises(KafkaException) as refused:
        kind({"bootstrap.servers": "127.0.0.1:9", "group.id": "g", **given})
    assert KNOWN[name].error in refused.value.args[0].str()


@shows("processing.guarantee, commit.interval.ms, num.stream.threads in a client")
@pytest.mark.parametrize(
    "name",
    [
        "processing.guarantee", "commit.interval.ms", "num.stream.threads", "replication.factor",
        "cache.max.bytes.buffering", "statestore.cache.max.bytes",
    ],
)  # fmt: skip
def test_a_plain_client_knows_nothing_of_kafka_streams(name: str) -> None:
    """What the guide sets for Kafka Streams, each name by itself, old or new, is no property of librdkafka."""
    for kind in (Producer, Consumer):
        with pytest.raises(KafkaException, match=f'No such configuration property: "{name}"'):
            kind({"bootstrap.servers": "127.0.0.1:9", "group.id": "g", name: "1"})


@each({
    "replication.factor as a topic's configuration": {"config": {"replication.factor": "3"}},
    "message.max.bytes on a topic": {"config": {"message.max.bytes": "1048588"}},
    "replication_factor=3 on one broker": {"replication_factor": 3},
})  # fmt: skip
def test_the_broker_refuses_a_topic(name: str, case: dict[str, Any], new_topic: Callable[..., str]) -> None:
    """The topic is not made, and the error is the one the list quotes."""
    with pytest.raises(KafkaException) as refused:
        new_topic(**case)
    assert KNOWN[name].error in refused.value.args[0].str()


@shows("min.insync.replicas above the replication factor")
def test_one_replica_is_in_sync_with_itself(client: dict[str, Any], admin: AdminClient, new_topic: Callable[..., str]) -> None:
    """With one replica min.insync.replicas reads 2, and a write with acks=all is confirmed all the same."""
    topic = new_topic(config={"min.insync.replicas": "2"})
    assert describe(admin, topic)["min.insync.replicas"] == "2"
    assert publish(client, topic, [b"1"]) == [None]


@shows("max.in.flight.requests.per.connection=1")
def test_five_requests_in_flight_keep_the_order(client: dict[str, Any], new_topic: Callable[..., str]) -> None:
    """A batch for every message, five requests at a time, and a broker that stops answering meanwhile: in order, once each."""
    topic, values = new_topic(), [b"%d" % number for number in range(2_000)]
    producer = Producer({**client, **kafka.PRODUCER, "batch.num.messages": 1, "linger.ms": 0, "socket.timeout.ms": 1_000})
    with stopped(client) as go_on:
        for value in values:
            producer.produce(topic, value, b"k")
        producer.flush(2)
        go_on()
        assert producer.flush(60) == 0
    assert [value for _, value in read(client, topic)] == values


@shows("retries=10")
def test_time_is_the_bound_and_not_retries(client: dict[str, Any], new_topic: Callable[..., str]) -> None:
    """While the broker is silent no retry is counted, and an event with none allowed is there in the end; time gives it up."""
    topic = new_topic()
    patient = Producer({**client, "enable.idempotence": True, "retries": 1, "socket.timeout.ms": 1_000})
    hurried = Producer({**client, "enable.idempotence": True, "delivery.timeout.ms": 1_500, "linger.ms": 0})
    reports: dict[str, Any] = {}
    for producer in (patient, hurried):  # both know the broker by then
        producer.produce(topic, b"before", b"k")
        assert producer.flush(30) == 0
    with stopped(client) as go_on:
        patient.produce(topic, b"patient", b"k", on_delivery=lambda error, _: reports.update(patient=error))
        hurried.produce(topic, b"hurried", b"k", on_delivery=lambda error, _: reports.update(hurried=error))
        hurried.flush(30)
        go_on()
        assert patient.flush(60) == 0
    assert reports["hurried"].name() == "_MSG_TIMED_OUT"
    assert reports["patient"] is None


@shows("max.poll.records")
def test_max_poll_records_limits_nothing(client: dict[str, Any], new_topic: Callable[..., str]) -> None:
    """Taken without a word, and a consumer that was told 1 returns what it is asked for."""
    topic, heard = new_topic(), Heard()
    publish(client, topic, [b"%d" % number for number in range(50)])
    given = {**client, **kafka.CONSUMER, "group.id": uuid.uuid4().hex, "max.poll.records": 1}
    consumer = Consumer(given, logger=heard.logger)
    consumer.subscribe([topic])
    try:
        assert len(consumer.consume(50, 60)) == 50
    finally:
        consumer.close()
    assert not [line for line in heard.lines if "max.poll.records" in line]


@shows("a consumer's setting in a producer, or the reverse")
def test_the_other_kinds_settings_are_mentioned_in_the_log_alone() -> None:
    """A producer takes a consumer's setting, and nothing but its log says that it means nothing."""
    heard = Heard()
    producer = Producer({"bootstrap.servers": "127.0.0.1:9", "fetch.max.bytes": 10_485_760}, logger=heard.logger)
    producer.poll(0)
    said = KNOWN["a consumer's setting in a producer, or the reverse"].error
    assert [line for line in heard.lines if "CONFWARN" in line and "fetch.max.bytes" in line and said in line]


@shows("cleanup.policy=compact,delete for events")
def test_compaction_removes_events(client: dict[str, Any], new_topic: Callable[..., str], eventually: Eventually) -> None:
    """Events of one order, published until the cleaner has been there (every fifteen seconds): not all are left, the last is."""
    quick = {"segment.ms": "100", "max.compaction.lag.ms": "100", "min.cleanable.dirty.ratio": "0.01"}
    topic, published = new_topic(config={"cleanup.policy": "compact,delete", **quick}), []

    def left() -> list[bytes]:
        published.append(b"%d" % len(published))
        publish(client, topic, published[-1:])
        found = [value for _, value in read(client, topic)]
        return found if len(found) < len(published) else []

    assert eventually(left, within_s=120)[-1] == published[-1]


@shows("quota per topic, reject on breach")
def test_quotas_delay_and_know_no_topic(client: dict[str, Any], new_topic: Callable[..., str], tmp_path: Path) -> None:
    """Over its quota a client is told to wait, and nothing is refused; a topic has no quota, and Python no way to set one."""
    with pytest.raises(KafkaException, match="Unknown topic config name: producer_byte_rate"):
        new_topic(config={"producer_byte_rate": "10000"})
    assert not [name for name in dir(AdminClient) if "quota" in name]
    name, waits, errors = f"slow-{uuid.uuid4().hex[:8]}", [], []
    topic = new_topic()
    kafka_tool(
        client, tmp_path, "kafka.admin.ConfigCommand", "--alter", "--add-config", "producer_byte_rate=10000",
        "--entity-type", "clients", "--entity-name", name,
    )  # fmt: skip
    producer = Producer({**client, "client.id": name, "throttle_cb": lambda event: waits.append(event.throttle_time)})
    for _ in range(7):
        producer.produce(topic, os.urandom(20_000), on_delivery=lambda error, _: errors.append(error))
        producer.flush(60)
    assert max(waits) > 0
    assert errors == [None] * 7


@shows("zookeeper.connect")
def test_kafka_knows_no_zookeeper(tmp_path: Path) -> None:
    """A broker that is configured for ZooKeeper does not start, and asks for KRaft's first setting instead."""
    (tmp_path / "server.properties").write_text("broker.id=0\nzookeeper.connect=127.0.0.1:2181\nlog.dirs=logs\n")
    argv = [java.find(), "-Xmx128m", "-cp", os.pathsep.join(map(str, artifacts.kafka_jars())), "kafka.Kafka", "server.properties"]
    said = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode != 0
    assert KNOWN["zookeeper.connect"].error in said.stdout + said.stderr


def describe(admin: AdminClient, topic: str) -> dict[str, str]:
    """A topic's configuration; empty while the broker has not heard of it yet."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    try:
        return {name: entry.value for name, entry in admin.describe_configs([resource])[resource].result(30).items()}
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return {}
        raise


def publish(client: dict[str, Any], topic: str, values: Sequence[bytes]) -> list[Any]:
    """What became of each value, published with PRODUCER under one key: ``None`` or its error."""
    reports: list[Any] = []
    producer = Producer({**client, **kafka.PRODUCER, "delivery.report.only.error": False})
    for value in values:
        producer.produce(topic, value, b"k", on_delivery=lambda error, _: reports.append(error))
    assert producer.flush(60) == 0
    return reports


def read(client: dict[str, Any], topic: str) -> list[tuple[Any, Any]]:
    """Key and value of all that partition 0 holds."""
    consumer = Consumer({**client, "group.id": uuid.uuid4().hex, "enable.auto.commit": False, "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[tuple[Any, Any]] = []
    try:
        while (record := consumer.poll(60)) is not None and record.error() is None:
            found.append((record.key(), record.value()))
    finally:
        consumer.close()
    return found


class stopped:  # noqa: N801 - it reads as a state: with stopped(client) as go_on
    """The session's Kafka stops answering, connections and all stay; ``go_on()``, or the end of the block, lets it go on."""

    def __init__(self, client: dict[str, Any]) -> None:
        port = int(str(client["bootstrap.servers"]).rpartition(":")[2])
        listening = [c.pid for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port and c.pid]
        self._broker = listening[0]

    def __enter__(self) -> Callable[[], None]:
        freeze(self._broker)  # returns when it stands still: a signal alone may take effect later
        return partial(thaw, self._broker)

    def __exit__(self, *_: object) -> None:
        thaw(self._broker)


def kafka_tool(client: dict[str, Any], directory: Path, *words: str) -> None:
    """One of Kafka's own commands, as the session's user."""
    login = f'username="{client["sasl.username"]}" password="{client["sasl.password"]}"'
    (directory / "client.properties").write_text(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n"
        f"sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required {login};\n"
    )
    command, *options = words
    argv = [java.find(), "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", os.pathsep.join(map(str, artifacts.kafka_jars())), command]
    where = ["--bootstrap-server", str(client["bootstrap.servers"]), "--command-config", str(directory / "client.properties")]
    subprocess.run([*argv, *where, *options], capture_output=True, timeout=120, check=True)


# RabbitMQ

QUORUM = dict(rabbitmq.QUORUM_ARGUMENTS)
Declare = Callable[..., str]


class Management:
    """RabbitMQ's management API, which tells what a broker made of what it was given; its statistics come some seconds late."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", int(parse_qs(parts.query).get("management", ["15672"])[0])
        self._login = b64encode(f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()).decode()

    def __call__(self, path: str) -> Any:
        with closing(HTTPConnection(self._host, self._port, timeout=30)) as connection:
            connection.request("GET", f"/api{path}", headers={"Authorization": f"Basic {self._login}"})
            return json.load(connection.getresponse())


@pytest.fixture
def management(stack: Endpoints) -> Management:
    """``management("/queues/%2F/NAME")``."""
    return Management(stack.rabbitmq)


@pytest.fixture
def connect(stack: Endpoints) -> Iterator[Callable[..., pika.BlockingConnection]]:
    """``connect()`` is a connection to the session's RabbitMQ with the values of CONNECTION; closed after the test."""
    made: list[pika.BlockingConnection] = []
    parts = urlsplit(stack.rabbitmq)
    login = pika.PlainCredentials(unquote(parts.username or ""), unquote(parts.password or ""))

    def make(name: str = "settings") -> pika.BlockingConnection:
        where = pika.ConnectionParameters(
            parts.hostname, parts.port, "/", login, client_properties={"connection_name": name}, **rabbitmq.CONNECTION
        )
        made.append(pika.BlockingConnection(where))
        return made[-1]

    yield make
    for connection in made:
        if connection.is_open:
            connection.close()


@pytest.fixture
def declare(connect: Callable[..., pika.BlockingConnection]) -> Iterator[Declare]:
    """``declare(durable=True, arguments={…})`` makes a queue and returns its name; deleted after the test."""
    channel, made = connect().channel(), list[str]()

    def make(**options: Any) -> str:
        name = f"settings-{uuid.uuid4().hex[:8]}"
        channel.queue_declare(name, **options)
        made.append(name)
        return name

    yield make
    leaving = connect().channel()
    for name in made:
        leaving.queue_delete(name)


@pytest.fixture
def channel(connect: Callable[..., pika.BlockingConnection]) -> Any:
    """A channel in confirm mode, on a connection of its own."""
    opened = connect().channel()
    opened.confirm_delivery()
    return opened


def test_the_connection_takes_every_setting(
    connect: Callable[..., pika.BlockingConnection], management: Management, eventually: Eventually
) -> None:
    """Pika keeps each value, and the broker agrees to the heartbeat."""
    where = pika.ConnectionParameters("127.0.0.1", **rabbitmq.CONNECTION)
    assert {name: getattr(where, name) for name in rabbitmq.CONNECTION} == dict(rabbitmq.CONNECTION)
    name = f"settings-{uuid.uuid4().hex[:8]}"
    connect(name)
    ours = eventually(lambda: [c for c in management("/connections") if c.get("user_provided_name") == name and "timeout" in c])
    assert [connection["timeout"] for connection in ours] == [rabbitmq.CONNECTION["heartbeat"]]


def test_the_channel_takes_every_setting(channel: Any, declare: Declare, management: Management, eventually: Eventually) -> None:
    """The broker knows the consumer's prefetch."""
    queue = declare(**rabbitmq.quorum_queue(ordered=True))
    channel.basic_qos(**rabbitmq.CHANNEL)
    channel.basic_consume(queue, lambda *_: None)
    ours = eventually(lambda: [one for one in management("/consumers/%2F") if one["queue"]["name"] == queue])
    assert [consumer["prefetch_count"] for consumer in ours] == [rabbitmq.CHANNEL["prefetch_count"]]


def test_the_queue_and_the_message_take_every_setting(channel: Any, declare: Declare, management: Management) -> None:
    """The broker reports every argument and property of the queue, and returns the message as it was given."""
    queue = declare(**rabbitmq.quorum_queue(dead_letters_to="", key="nowhere", ordered=True))
    found = management(f"/queues/%2F/{queue}")
    assert {name: found[name] for name in rabbitmq.QUEUE} == dict(rabbitmq.QUEUE)
    dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "nowhere"}
    assert found["arguments"] == {**rabbitmq.QUORUM_ARGUMENTS, **rabbitmq.ORDERED_ARGUMENTS, **dead}
    channel.basic_publish("", queue, b"{}", pika.BasicProperties(**rabbitmq.MESSAGE), **rabbitmq.PUBLISH)
    _, properties, body = next(channel.consume(queue, auto_ack=True, inactivity_timeout=30))
    assert (properties.delivery_mode, body) == (2, b"{}")


@each({
    "x-queue-mode=lazy on a quorum queue": {"durable": True, "arguments": {**QUORUM, "x-queue-mode": "lazy"}},
    "a transient queue": {"durable": False, "arguments": QUORUM},
    "exclusive or auto_delete on a quorum queue": {"durable": True, "auto_delete": True, "arguments": QUORUM},
    "x-max-priority on a quorum queue": {"durable": True, "arguments": {**QUORUM, "x-max-priority": 5}},
    "x-delivery-limit on a classic queue": {"durable": True, "arguments": {"x-delivery-limit": 5}},
})  # fmt: skip
def test_the_broker_refuses_a_queue(name: str, case: dict[str, Any], connect: Callable[..., pika.BlockingConnection]) -> None:
    """The queue is not declared, the channel is closed, and the error is the one the list quotes."""
    with pytest.raises(AMQPError) as refused:
        connect().channel().queue_declare(f"settings-{uuid.uuid4().hex[:8]}", **case)
    assert KNOWN[name].error in str(refused.value)


def test_an_exclusive_quorum_queue_is_refused_too(connect: Callable[..., pika.BlockingConnection]) -> None:
    """What is said of auto_delete holds for exclusive."""
    with pytest.raises(AMQPError, match="invalid property 'exclusive-owner'"):
        connect().channel().queue_declare(f"settings-{uuid.uuid4().hex[:8]}", durable=True, exclusive=True, arguments=QUORUM)


@shows("prefetch for the whole channel (global_qos=True)")
def test_quorum_queues_have_no_global_prefetch(channel: Any, declare: Declare) -> None:
    """The qos is taken; the consume that follows ends the whole connection."""
    queue = declare(**rabbitmq.quorum_queue())
    channel.basic_qos(prefetch_count=10, global_qos=True)
    with pytest.raises(AMQPError, match="does not support global qos"):
        channel.basic_consume(queue, lambda *_: None)
    assert channel.connection.is_closed


@shows("basic_get with x-single-active-consumer")
def test_a_queue_in_order_is_not_polled(channel: Any, declare: Declare) -> None:
    """The poll is refused, and the channel closed."""
    queue = declare(**rabbitmq.quorum_queue(ordered=True))
    with pytest.raises(AMQPError) as refused:
        channel.basic_get(queue)
    assert KNOWN["basic_get with x-single-active-consumer"].error in str(refused.value)


@shows("an argument the broker does not know")
def test_unknown_arguments_are_taken_in_silence(declare: Declare, management: Management) -> None:
    """A misspelt argument is accepted, and even shown, like one that means something."""
    queue = declare(durable=True, arguments={**QUORUM, "x-delivery-limits": 3})
    assert management(f"/queues/%2F/{queue}")["arguments"]["x-delivery-limits"] == 3


@shows("x-message-deduplication")
def test_the_broker_deduplicates_nothing(channel: Any, declare: Declare) -> None:
    """The same message twice is two messages, for all that the queue and the header ask for."""
    queue = declare(durable=True, arguments={"x-message-deduplication": True})
    properties = pika.BasicProperties(message_id="1", headers={"x-deduplication-header": "1"})
    for _ in range(2):
        channel.basic_publish("", queue, b"{}", properties, mandatory=True)
    assert depth(channel, queue) == 2


@shows("x-delivery-limit=3 for three attempts")
def test_a_delivery_limit_of_three_delivers_four_times(channel: Any, declare: Declare, eventually: Eventually) -> None:
    """Returned each time, the message comes four times before it is a dead letter."""
    dead = declare(**rabbitmq.quorum_queue())
    arguments = {"x-delivery-limit": 3, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    queue = declare(durable=True, arguments={"x-queue-type": "quorum", **arguments})
    channel.basic_publish("", queue, b"{}", mandatory=True)
    attempts = 0

    def is_dead() -> bool:
        nonlocal attempts
        method, _, _ = channel.basic_get(queue)
        if method is not None:
            attempts += 1
            channel.basic_nack(method.delivery_tag, requeue=True)
        return depth(channel, dead) == 1

    eventually(is_dead)
    assert attempts == 4


@shows("at-least-once dead letters without x-overflow=reject-publish")
@pytest.mark.parametrize(("overflow", "kept"), [("reject-publish", 1), ("drop-head", 0)])
def test_dead_letters_are_kept_only_with_both_arguments(
    overflow: str, kept: int, connect: Callable[..., pika.BlockingConnection], channel: Any, declare: Declare,
    management: Management, eventually: Eventually,
) -> None:  # fmt: skip
    """Rejected towards an exchange that no queue is bound to: kept for later with both arguments, gone with one of them."""
    exchange = f"settings-{uuid.uuid4().hex[:8]}"
    channel.exchange_declare(exchange, "fanout", durable=True)
    wanted = rabbitmq.quorum_queue(dead_letters_to=exchange)
    queue = declare(**{**wanted, "arguments": {**wanted["arguments"], "x-overflow": overflow}})
    try:
        channel.basic_publish("", queue, b"{}", mandatory=True)
        method, _, _ = channel.basic_get(queue)
        # Statistics come late: only after the message has been seen here does its absence mean anything.
        eventually(lambda: management(f"/queues/%2F/{queue}").get("messages_unacknowledged") == 1)
        channel.basic_reject(method.delivery_tag, requeue=False)
        counts = ("messages", "messages_dlx")
        eventually(lambda: [management(f"/queues/%2F/{queue}").get(count, 0) for count in counts] == [kept, kept])
    finally:
        connect().channel().exchange_delete(exchange)


@shows("publisher confirms without mandatory")
def test_a_confirm_alone_is_no_proof(channel: Any) -> None:
    """A message to nowhere is confirmed without mandatory, and returned with it."""
    channel.basic_publish("", "settings-nowhere", b"{}")
    with pytest.raises(UnroutableError):
        channel.basic_publish("", "settings-nowhere", b"{}", **rabbitmq.PUBLISH)


@shows("a time to live for each message (expiration)")
@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_a_short_time_to_live_waits_behind_a_long_one(channel: Any, declare: Declare, eventually: Eventually, kind: str) -> None:
    """Expired since long, the second message is a dead letter only when the first one goes."""
    dead = declare(**rabbitmq.quorum_queue())
    arguments = {"x-queue-type": kind, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    queue = declare(durable=True, arguments=arguments)
    alone = declare(durable=True, arguments=arguments)
    channel.basic_publish("", queue, b"long", pika.BasicProperties(expiration="3600000"), mandatory=True)
    channel.basic_publish("", queue, b"short", pika.BasicProperties(expiration="1"), mandatory=True)
    channel.basic_publish("", alone, b"alone", pika.BasicProperties(expiration="1"), mandatory=True)
    eventually(lambda: depth(channel, dead) == 1)  # the later one, which nobody stands before
    assert channel.basic_get(dead, auto_ack=True)[2] == b"alone"
    assert depth(channel, queue) == 2
    channel.basic_get(queue, auto_ack=True)
    eventually(lambda: depth(channel, dead) == 1)
    assert channel.basic_get(dead, auto_ack=True)[2] == b"short"


@shows("channel_tick_interval in rabbitmq.conf")
def test_an_unknown_line_in_rabbitmq_conf_stops_the_boot(tmp_path: Path) -> None:
    """The broker says which line it does not know, and does not start."""
    (tmp_path / "rabbitmq.conf").write_text("channel_tick_interval = 1000\n")
    (tmp_path / "enabled_plugins").write_text("[].\n")
    node = {
        "HOME": str(tmp_path), "RABBITMQ_NODENAME": "settings@localhost", "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_CONFIG_FILE": str(tmp_path / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(tmp_path / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(tmp_path / "data"), "RABBITMQ_LOG_BASE": str(tmp_path / "log"), "ERL_CRASH_DUMP": "/dev/null",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-sname settings@localhost", "RUNNING_UNDER_SYSTEMD": "true",
        "ERL_ZFLAGS": "-start_epmd false -dist_listen false -erl_epmd_port 1", "ERL_EPMD_PORT": "1",
    }  # fmt: skip
    said = subprocess.run(
        [server()], cwd=tmp_path, env={**os.environ, **node}, capture_output=True, text=True, timeout=120, check=False
    )
    assert said.returncode != 0
    assert KNOWN["channel_tick_interval in rabbitmq.conf"].error in said.stdout + said.stderr


def depth(channel: Any, queue: str) -> int:
    """How many messages are ready in a queue."""
    found: int = channel.queue_declare(queue, passive=True).method.message_count
    return found


# Pub/Sub


class Emulator:
    """The session's Pub/Sub: clients, and topics and subscriptions with names of their own."""

    def __init__(self, url: str) -> None:
        self.project, _, self.host = urlsplit(url).netloc.partition("@")
        self.publisher = pubsub_v1.PublisherClient()
        self.subscriber = pubsub_v1.SubscriberClient()

    def name(self, kind: str) -> str:
        return f"projects/{self.project}/{kind}/settings-{uuid.uuid4().hex[:8]}"

    def topic(self, **options: Any) -> str:
        made = self.publisher.create_topic(request=types.Topic(name=self.name("topics"), **options))
        return str(made.name)

    def subscription(self, topic: str = "", **options: Any) -> str:
        wanted = types.Subscription(name=self.name("subscriptions"), topic=topic or self.topic(), **options)
        return str(self.subscriber.create_subscription(request=wanted).name)


@pytest.fixture
def emulator(stack: Endpoints, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """What it is told is forgotten when the session's emulator stops: nothing is deleted one by one."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", urlsplit(stack.pubsub).netloc.rpartition("@")[2])
    found = Emulator(stack.pubsub)
    yield found
    found.publisher.stop()
    found.subscriber.close()


def test_the_topic_takes_every_setting(emulator: Emulator) -> None:
    """What is read back is what was given."""
    name = emulator.topic(**pubsub.TOPIC)
    found = emulator.publisher.get_topic(topic=name)
    assert {setting: getattr(found, setting) for setting in pubsub.TOPIC} == dict(pubsub.TOPIC)


def test_the_subscription_takes_every_setting(emulator: Emulator) -> None:
    """What is read back is what was given, retries, dead letters and the absence of an expiry included."""
    wanted = pubsub.subscription(emulator.name("subscriptions"), emulator.topic(), emulator.topic())
    emulator.subscriber.create_subscription(request=wanted)
    found = emulator.subscriber.get_subscription(subscription=wanted.name)
    groups = ((found, pubsub.SUBSCRIPTION), (found.retry_policy, pubsub.RETRY), (found.dead_letter_policy, pubsub.DEAD_LETTERS))
    for message, group in groups:
        assert {setting: getattr(message, setting) for setting in group} == dict(group)
    assert found.dead_letter_policy.dead_letter_topic == wanted.dead_letter_policy.dead_letter_topic
    assert "expiration_policy" in found
    assert "ttl" not in found.expiration_policy


def test_the_publisher_takes_every_setting(emulator: Emulator) -> None:
    """A publisher has them, and publishes a message with an ordering key."""
    options = pubsub.publisher_options()
    publisher = pubsub_v1.PublisherClient(types.BatchSettings(**pubsub.BATCH), options)
    assert publisher.batch_settings._asdict() == dict(pubsub.BATCH)
    assert {name: getattr(options, name) for name in pubsub.PUBLISHER} == dict(pubsub.PUBLISHER)
    assert options.flow_control._asdict() == dict(pubsub.PUBLISHER_FLOW)
    assert publisher.publish(emulator.topic(), b"{}", ordering_key="k").result(30)
    publisher.stop()


class Requests(grpc.StreamStreamClientInterceptor):  # type: ignore[misc]  # grpc has no types
    """What a streaming subscriber asks the service for."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        def noted() -> Iterator[Any]:
            for request in requests:
                self.seen.append(request)
                yield request

        return continuation(details, noted())


def asked_for(emulator: Emulator, flow: types.FlowControl, eventually: Eventually, **options: Any) -> Any:
    """The first that a streaming subscriber with this flow control says to the service."""
    requests = Requests()
    channel = grpc.intercept_channel(grpc.insecure_channel(emulator.host), requests)
    with pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=channel)) as subscriber:
        stream = subscriber.subscribe(emulator.subscription(**options), lambda message: message.nack(), flow_control=flow)
        try:
            eventually(lambda: requests.seen)
        finally:
            stream.cancel()
            stream.result(30)
    return requests.seen[0]


def test_the_subscriber_takes_every_setting(emulator: Emulator, eventually: Eventually) -> None:
    """The limits are asked of the service itself, and each stream's ack deadline is the lease we wish for."""
    flow = types.FlowControl(**pubsub.SUBSCRIBER_FLOW)
    asked = asked_for(emulator, flow, eventually)
    assert asked.max_outstanding_messages == pubsub.SUBSCRIBER_FLOW["max_messages"]
    assert asked.max_outstanding_bytes == pubsub.SUBSCRIBER_FLOW["max_bytes"]
    assert asked.stream_ack_deadline_seconds == pubsub.SUBSCRIBER_FLOW["max_duration_per_lease_extension"]
    assert flow.max_lease_duration == pubsub.SUBSCRIBER_FLOW["max_lease_duration"]


@shows("ack_deadline_seconds with a streaming client")
def test_a_stream_has_a_deadline_of_its_own(emulator: Emulator, eventually: Eventually) -> None:
    """The subscription says twenty seconds; the client, told nothing, asks for sixty."""
    asked = asked_for(emulator, types.FlowControl(), eventually, ack_deadline_seconds=20)
    assert asked.stream_ack_deadline_seconds == 60


@shows("max_duration_per_lease_extension=20.0")
def test_a_lease_in_floating_point_opens_no_stream(
    emulator: Emulator, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    """The client fails in a thread of its own, again and again; the subscriber stays, and hears nothing."""
    topic, came = emulator.topic(), list[Any]()
    flow = types.FlowControl(max_duration_per_lease_extension=20.0)
    stream = emulator.subscriber.subscribe(emulator.subscription(topic), came.append, flow_control=flow)
    try:
        emulator.publisher.publish(topic, b"{}").result(30)
        error = KNOWN["max_duration_per_lease_extension=20.0"].error
        eventually(lambda: sum(error in str(record.exc_info) for record in caplog.records) > 1)
        assert (came, stream.done()) == ([], False)
    finally:
        stream.cancel()
        stream.result(30)


@shows("exactly-once with ordering as one feature")
def test_exactly_once_and_ordering_are_two_features(emulator: Emulator) -> None:
    """Each can be had without the other."""
    for wanted in ({"enable_exactly_once_delivery": True}, {"enable_message_ordering": True}):
        found = emulator.subscriber.get_subscription(subscription=emulator.subscription(**wanted))
        assert found.enable_exactly_once_delivery == ("enable_exactly_once_delivery" in wanted)
        assert found.enable_message_ordering == ("enable_message_ordering" in wanted)


@each({
    "ack_deadline_seconds over 600": {"ack_deadline_seconds": 601},
    "max_delivery_attempts under 5 or over 100": {"dead_letter_policy": {"max_delivery_attempts": 3}},
    "message_retention_duration out of bounds": {"message_retention_duration": {"seconds": 540}},
})  # fmt: skip
def test_the_emulator_refuses_a_subscription(name: str, case: dict[str, Any], emulator: Emulator) -> None:
    """The subscription is not made, and the error is the one the list quotes."""
    if "dead_letter_policy" in case:
        case = {"dead_letter_policy": {"dead_letter_topic": emulator.topic(), **case["dead_letter_policy"]}}
    with pytest.raises(GoogleAPICallError) as refused:
        emulator.subscription(**case)
    assert KNOWN[name].error in str(refused.value)


def test_bounds_have_another_side(emulator: Emulator) -> None:
    """What the list says of the upper bounds: 100 attempts, and seven days for a subscription of the emulator."""
    with pytest.raises(GoogleAPICallError, match="the maximum value is 100"):
        emulator.subscription(dead_letter_policy={"dead_letter_topic": emulator.topic(), "max_delivery_attempts": 101})
    with pytest.raises(GoogleAPICallError, match="message_retention_duration out of bounds"):
        emulator.subscription(message_retention_duration={"seconds": 8 * 86_400})


@shows("enable_message_ordering later")
def test_ordering_is_fixed_from_the_start(emulator: Emulator) -> None:
    """It cannot be switched on for a subscription that is there."""
    changed = types.Subscription(name=emulator.subscription(), enable_message_ordering=True)
    with pytest.raises(GoogleAPICallError) as refused:
        emulator.subscriber.update_subscription(subscription=changed, update_mask={"paths": ["enable_message_ordering"]})
    assert KNOWN["enable_message_ordering later"].error in str(refused.value)


@shows("an ordering key without enable_message_ordering in the publisher")
def test_an_ordering_key_needs_the_publishers_option(emulator: Emulator) -> None:
    """The client refuses before anything is sent."""
    with pytest.raises(ValueError) as refused:
        emulator.publisher.publish(emulator.topic(), b"{}", ordering_key="k")
    assert KNOWN["an ordering key without enable_message_ordering in the publisher"].error in str(refused.value)


@shows("limits without limit_exceeded_behavior")
def test_limits_alone_hold_nothing_back(emulator: Emulator) -> None:
    """With room for one message, twenty are taken, and none is under way; with "block" there, the second would wait."""
    options = types.PublisherOptions(flow_control=types.PublishFlowControl(message_limit=1))
    publisher = pubsub_v1.PublisherClient(types.BatchSettings(max_messages=1000, max_latency=3600), options)
    topic = emulator.topic()
    promised = [publisher.publish(topic, b"{}") for _ in range(20)]
    assert not any(one.done() for one in promised)
    publisher.stop()


@shows("BatchSettings(max_messages=5000)")
def test_a_request_takes_a_thousand_messages(emulator: Emulator) -> None:
    """The client makes a larger batch of it, and all of it is refused."""
    publisher = pubsub_v1.PublisherClient(types.BatchSettings(max_messages=5000, max_bytes=9_000_000, max_latency=3600))
    topic = emulator.topic()
    promised = [publisher.publish(topic, b"{}") for _ in range(1001)]
    publisher.stop()
    for one in promised:
        with pytest.raises(GoogleAPICallError, match=KNOWN["BatchSettings(max_messages=5000)"].error):
            one.result(60)


@shows("filter on the emulator")
def test_the_emulator_filters_nothing(emulator: Emulator) -> None:
    """A message that the filter excludes is delivered, and a filter that is none is taken."""
    topic = emulator.topic()
    subscription = emulator.subscription(topic, filter='attributes.kind = "wanted"')
    emulator.publisher.publish(topic, b"{}", kind="another").result(30)
    answer = emulator.subscriber.pull(subscription=subscription, max_messages=1, timeout=60)
    assert [received.message.attributes["kind"] for received in answer.received_messages] == ["another"]
    assert emulator.subscription(filter="this is none(")
