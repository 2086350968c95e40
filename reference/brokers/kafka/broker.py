"""Kafka behind the :class:`~reference.brokers.protocol.Broker` protocol, by confluent-kafka.

Publishing is :mod:`reference.brokers.kafka.publisher`, consuming :mod:`reference.brokers.kafka.subscription`, and what the
cluster says of itself :mod:`reference.brokers.kafka.cluster`; each says what it promises when killed.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import Consumer, KafkaError, TopicPartition

from reference.brokers.kafka.address import KafkaAddress
from reference.brokers.kafka.cluster import KafkaCluster
from reference.brokers.kafka.publisher import KafkaPublisher
from reference.brokers.kafka.subscription import KafkaSubscription, is_end, is_record, take, to_delivery
from reference.brokers.members import Members
from reference.brokers.protocol import Capabilities, DeadLetters, Delivery, Message

__all__ = ["KafkaBroker"]

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
    lag=True,
    binary_headers=True,
    repeated_headers=True,
    max_message_bytes=1_048_588,
    notes={
        "exactly_once_delivery": "by transactions inside Kafka, which nothing else is part of: claim each event in an inbox",
        "redelivery_count": "a group has one offset a partition and no count: count in the consumer, or in a header",
        "dead_letters": "a log moves nothing: the consumer publishes what it gives up to a topic of dead letters, then acks",
        "filters": "brokers do not look into records: skip in the consumer, or write to topics of their own",
        "delayed_delivery": "a log is read in order: wait in the consumer, or use retry topics, one a delay",
    },
)


class KafkaBroker:
    """One Kafka cluster. ``url`` is ``kafka://[user:password@]host:port[,host:port…][?librdkafka.setting=value&…]``.

    ``timeout_s`` bounds every wait for the cluster. Connecting is lazy: the first call that needs the cluster and does not
    reach it raises :class:`~reference.brokers.protocol.BrokerUnavailable` with the address and what the client last heard.
    """

    capabilities = CAPABILITIES

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        self._address = KafkaAddress.parse(url)
        self._timeout_s = timeout_s
        self._heard = ""
        self._client = self._address.client | {"error_cb": self._on_error}
        self._cluster = KafkaCluster(self._client, url=self.url, timeout_s=timeout_s, heard=lambda: self._heard)
        self._publisher = KafkaPublisher(self._client, self._cluster, timeout_s=timeout_s)
        self._members = Members[KafkaSubscription](self._is_closed)

    @property
    def url(self) -> str:
        return self._address.url

    @property
    def client(self) -> dict[str, Any]:
        """The librdkafka settings that reach this cluster, credentials included, for a client of one's own."""
        return dict(self._address.client)

    def publish(self, messages: Sequence[Message], *, delay_s: float = 0.0) -> None:
        """See :meth:`Broker.publish`. An event over the topic's ``max.message.bytes`` is refused before it is sent."""
        self._members.demand_open()
        if delay_s > 0:
            CAPABILITIES.demand("delayed_delivery", of=self.url)
        self._publisher.publish(messages)

    def subscribe(
        self,
        topics: Sequence[str],
        *,
        group: str,
        dead_letters: DeadLetters | None = None,
        only: Mapping[str, str] | None = None,
    ) -> KafkaSubscription:
        self._members.demand_open()
        if dead_letters is not None:
            dead_letters.check(topics)
            CAPABILITIES.demand("dead_letters", of=self.url)
        if only:
            CAPABILITIES.demand("filters", of=self.url)
        for topic in topics:
            self._cluster.partitions(topic)
        member = KafkaSubscription(self._client, topics, group=group, url=self.url)
        self._members.admit(member, close=member.close)
        return member

    def create_topic(self, name: str, *, partitions: int = 3) -> None:
        self._members.demand_open()
        self._cluster.create_topic(name, partitions)

    def lag(self, topics: Sequence[str], *, group: str) -> dict[tuple[str, int], int]:
        self._members.demand_open()
        return self._cluster.lag(topics, group)

    def replay(self, topic: str) -> Iterator[Delivery]:
        """See :meth:`Broker.replay`. Aborted transactions are not part of what a topic holds, nor are open ones yet."""
        self._members.demand_open()
        return self._between(self._cluster.starts(topic), self._cluster.ends(topic), topic)

    def rewind(self, topics: Sequence[str], *, group: str, to: datetime) -> None:
        """See :meth:`Broker.rewind`. Kafka refuses while a member is in the group: :class:`BrokerUnavailable` says so."""
        self._members.demand_open()
        self._cluster.rewind(topics, group, to)

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
        """See :meth:`Broker.close`. What is being published has its ``timeout_s`` to be confirmed."""
        members = self._members.shut()
        # The client has no limit of its own for a last commit that nobody answers: what is not through by then comes again.
        by = time.monotonic() + self._timeout_s
        leaving = [threading.Thread(target=member.close, name="kafka-leaving", daemon=True) for member in members]
        for thread in leaving:
            thread.start()
        for thread in leaving:
            thread.join(max(0.0, by - time.monotonic()))
        self._publisher.close()
        self._cluster.close()

    def _is_closed(self) -> RuntimeError:
        return RuntimeError(f"this broker at {self.url} is closed: connect again")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _on_error(self, error: KafkaError) -> None:
        self._heard = error.str()
