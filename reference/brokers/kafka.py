"""Kafka behind the :class:`~reference.brokers.protocol.Broker` protocol, by confluent-kafka.

Killed at any line: an idempotent producer with ``acks=all`` writes each partition in the order of the call without gaps,
so what is there after a kill is a prefix, per key, of what was being published. Nothing is kept between calls.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka import Message as Report

from reference.brokers.kafka_address import KafkaAddress
from reference.brokers.kafka_cluster import KafkaCluster
from reference.brokers.kafka_subscription import KafkaSubscription, is_end, is_record, take, to_delivery
from reference.brokers.protocol import BrokerUnavailable, Capabilities, Delivery, Headers, Message, NotConfirmed, UnknownTopic

__all__ = ["KafkaBroker"]

BATCH_BYTES: Final = 1_000_000
RECORD_OVERHEAD_BYTES: Final = 100  # batch header, varints and timestamps of a lone record, rounded up

PRODUCER: Final[Mapping[str, Any]] = {
    "acks": "all",  # guide: Kafka Essentials
    "enable.idempotence": True,  # keeps order with up to five requests in flight, not only one
    "compression.type": "zstd",
    "partitioner": "murmur2_random",  # as Java clients place keys: changing over from Debezium moves none
    "linger.ms": 5,  # a flush ends the linger, so it costs a page nothing
    "batch.size": BATCH_BYTES,
    "message.max.bytes": 64 * BATCH_BYTES,  # the topic's own limit is checked before sending, and named
    "message.timeout.ms": 0,  # librdkafka must not drop one event of a key and send the next; publish bounds the wait
    "delivery.report.only.error": True,  # a report per event costs a tenth of the throughput
    "queue.buffering.max.messages": 1_000_000,
}

REPLAY: Final[Mapping[str, Any]] = {"enable.auto.commit": False, "enable.partition.eof": True, "fetch.wait.max.ms": 100}

CAPABILITIES: Final = Capabilities(
    ordered_by_key=True,
    redelivery_count=False,
    dead_letters=False,
    replay_by_offset=True,
    replay_by_time=True,
    transactions=True,
    filters=False,
    delayed_delivery=False,
    max_message_bytes=1_048_588,
)


class KafkaBroker:
    """One Kafka cluster. ``url`` is ``kafka://[user:password@]host:port[,host:port…][?librdkafka.setting=value&…]``.

    ``timeout_s`` bounds every wait for the cluster. Connecting is lazy: the first call that needs the cluster and does not
    reach it raises :class:`BrokerUnavailable` with the address and what the client last heard.
    """

    capabilities = CAPABILITIES

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        self._address = KafkaAddress.parse(url)
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._heard = ""
        self._refused: list[tuple[KafkaError, Report]] = []
        self._limits: dict[str, int] = {}
        self._client = self._address.client | {"error_cb": self._on_error}
        self._cluster = KafkaCluster(self._client, url=self.url, timeout_s=timeout_s, heard=lambda: self._heard)
        self._producer: Producer | None = None

    @property
    def url(self) -> str:
        return self._address.url

    @property
    def client(self) -> dict[str, Any]:
        """The librdkafka settings that reach this cluster, credentials included, for a client of one's own."""
        return dict(self._address.client)

    def publish(self, messages: Sequence[Message]) -> None:
        """See :meth:`Broker.publish`. An event over the topic's ``max.message.bytes`` is refused before it is sent."""
        with self._lock:
            if self._producer is None:
                self._producer = Producer({**self._client, **PRODUCER, "on_delivery": self._on_refused})
            self._refused.clear()
            try:
                held = self._send(self._producer, messages)
            except BaseException:  # whatever it was, what is queued must not be sent behind a later call's back
                self._drop_producer()
                raise
            if self._producer.flush(self._timeout_s):
                raise self._give_up(f"did not confirm within {self._timeout_s:g} s")
            failures = held | self._blame(messages)
            if failures:
                raise NotConfirmed(dict(sorted(failures.items())))

    def subscribe(self, topics: Sequence[str], *, group: str) -> KafkaSubscription:
        for topic in topics:
            self._cluster.partitions(topic)
        return KafkaSubscription(self._client, topics, group=group, url=self.url)

    def create_topic(self, name: str, *, partitions: int = 3) -> None:
        self._cluster.create_topic(name, partitions)

    def lag(self, topics: Sequence[str], *, group: str) -> dict[tuple[str, int], int]:
        return self._cluster.lag(topics, group)

    def replay(self, topic: str) -> Iterator[Delivery]:
        """See :meth:`Broker.replay`. Aborted transactions are not part of what a topic holds, nor are open ones yet."""
        return self._between(self._cluster.starts(topic), self._cluster.ends(topic), topic)

    def _between(self, starts: Mapping[int, int], ends: Mapping[int, int], topic: str) -> Iterator[Delivery]:
        # An end may stand behind a transaction's marker, or behind records that have expired meanwhile: no record is the
        # last one then, so the broker is asked to say when there is no more.
        consumer = Consumer({**self._client, **REPLAY, "group.id": f"replay-{uuid.uuid4()}"})
        consumer.assign([TopicPartition(topic, *start) for start in starts.items()])
        left, heard_at = {partition for partition, end in ends.items() if starts[partition] < end}, time.monotonic()
        try:
            while left:
                records = take(consumer, 5_000, 0.2)
                if not records and time.monotonic() - heard_at > self._timeout_s:
                    raise self._cluster.unavailable(f"sent nothing more of topic {topic!r} for {self._timeout_s:g} s")
                for record in records:
                    delivery = to_delivery(record, "")
                    if is_record(record, self.url) and delivery.offset < ends[delivery.partition]:
                        yield delivery
                    if is_end(record) or delivery.offset >= ends[delivery.partition] - 1:
                        left.discard(delivery.partition)
                heard_at = time.monotonic() if records else heard_at
        finally:
            consumer.close()

    def close(self) -> None:
        """Let go of the cluster; anything not confirmed by then was never promised."""
        with self._lock:
            self._drop_producer()
        self._cluster.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # -- publishing ---------------------------------------------------------------------------------------------------

    def _send(self, producer: Producer, messages: Sequence[Message]) -> dict[int, str]:
        """Queue what may be sent; return what may not, and all that stands behind it in the same key, with the reason."""
        limits, held, blocked = dict(self._limits), dict[int, str](), dict[tuple[str, str], str]()
        unknown: dict[str, str] = {}
        produce = producer.produce
        for index, (topic, key, value, headers) in enumerate(messages):
            limit = limits.get(topic)
            if limit is None:
                limit = limits[topic] = self._limit(topic, unknown)
            if blocked and (topic, key) in blocked:
                held[index] = blocked[(topic, key)]
            elif limit == 0:
                held[index] = blocked[(topic, key)] = unknown[topic]
            elif len(value) * 4 > limit and (size := _size(key, value, headers)) > limit:
                held[index] = blocked[(topic, key)] = f"{size} bytes, over max.message.bytes={limit} of topic {topic!r}"
                self._limits.pop(topic, None)  # it may be raised: the next call asks again
            else:
                pairs: list[Any] = headers if type(headers) is list else list(headers)  # a delivery has a tuple
                try:
                    produce(topic, value, key, headers=pairs)
                except BufferError:
                    self._wait_for_room(producer, topic, key, value, pairs)
                except KafkaException as error:  # a fatal state: fenced, or the broker lost the producer's sequence
                    raise self._give_up(str(error.args[0])) from error
                if limit < BATCH_BYTES:  # a whole batch could be over the limit, and be refused past its neighbours
                    producer.flush(self._timeout_s)
        return held

    def _wait_for_room(self, producer: Producer, topic: str, key: str, value: bytes | str, headers: list[Any]) -> None:
        deadline = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline:
            producer.poll(0.1)
            try:
                return producer.produce(topic, value, key, headers=headers)
            except BufferError:
                continue
        raise self._give_up(f"took nothing for {self._timeout_s:g} s")

    def _limit(self, topic: str, unknown: dict[str, str]) -> int:
        """``max.message.bytes`` of a topic not met before; 0 and the reason while it does not exist: the next call asks again."""
        try:
            self._limits[topic] = self._cluster.max_message_bytes(topic)
        except UnknownTopic as error:
            unknown[topic] = str(error)
            return 0
        return self._limits[topic]

    def _blame(self, messages: Sequence[Message]) -> dict[int, str]:
        """Indices of the messages the broker refused, matched by topic, key and value in the order they were sent."""
        failures: dict[int, str] = {}
        for error, report in self._refused:
            if error.fatal():
                raise self._give_up(str(error))
            self._limits.pop(report.topic() or "", None)  # the topic, or its limit, may have changed
            wanted = (report.topic(), report.key(), report.value())
            index = next(i for i, m in enumerate(messages) if i not in failures and _identity(m) == wanted)
            failures[index] = f"refused by {self.url}: {error.str()}"
        return failures

    def _on_refused(self, error: KafkaError | None, report: Report) -> None:
        if error is not None:
            self._refused.append((error, report))

    def _on_error(self, error: KafkaError) -> None:
        self._heard = error.str()

    def _give_up(self, what: str) -> BrokerUnavailable:
        """Start over with a new producer next time: nothing of this call may be sent behind a later one's back."""
        self._drop_producer()
        return self._cluster.unavailable(what)

    def _drop_producer(self) -> None:
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(0)
            self._producer = None


def _size(key: str, value: bytes | str, headers: Headers) -> int:
    beside = sum(len(name) + len(_bytes(text)) + 4 for name, text in headers)
    return len(_bytes(value)) + len(key.encode()) + beside + RECORD_OVERHEAD_BYTES


def _identity(message: Message) -> tuple[str, bytes, bytes]:
    return message.topic, message.key.encode(), _bytes(message.value)


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value
