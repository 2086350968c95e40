"""One member of a Kafka consumer group.

Killed at any line: only offsets below the lowest delivery that is not yet acked are ever committed, so a delivery that
was not acked comes back, to this member or to another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Record

from reference.brokers.kafka.settings import CONSUMER
from reference.brokers.protocol import BrokerUnavailable, Delivery, UnknownTopic

__all__ = ["KafkaSubscription", "is_end", "is_record", "take", "to_delivery"]

COMMIT_EVERY_S: Final = 0.1
LOOK_EVERY_S: Final = 1.0
SLICE_S: Final = 0.2
_GONE = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED}


class KafkaSubscription:
    """See :class:`~reference.brokers.protocol.Subscription`. Acks reach the broker every 0.1 s and when it closes."""

    def __init__(self, client: Mapping[str, Any], topics: Sequence[str], *, group: str, url: str) -> None:
        self._topics, self._group, self._url = tuple(topics), group, url
        self._open: dict[tuple[str, int], dict[int, bool]] = {}  # by partition: offset → acked, in delivery order
        self._commit: dict[tuple[str, int], int] = {}
        self._resume_at: dict[tuple[str, int], float] = {}
        self._committed_at = self._looked_at = time.monotonic()
        self._receiving, self._closing, self._left = threading.Lock(), threading.Event(), False
        self.handovers = 0
        self._consumer = Consumer({**client, **CONSUMER, "group.id": group})
        self._consumer.subscribe(
            list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def receive(self, limit: int = 100, timeout_s: float = 1.0) -> list[Delivery]:
        """See the protocol. Raises :class:`UnknownTopic` when a topic was deleted, :class:`BrokerUnavailable` otherwise."""
        with self._receiving:
            if self._closing.is_set():
                raise RuntimeError("this subscription is closed: subscribe again")
            self._commit_acked(within_s=COMMIT_EVERY_S)
            records = self._take(limit, self._resume_due(timeout_s))
            if self._closing.is_set():  # while we waited; what came meanwhile is another member's
                return []
            if not records:
                self._look_for_topics()
        deliveries = [to_delivery(record, self._group) for record in records if is_record(record, self._url)]
        for delivery in deliveries:
            self._open.setdefault((delivery.topic, delivery.partition), {})[delivery.offset] = False
        return deliveries

    def ack(self, delivery: Delivery) -> None:
        at = (delivery.topic, delivery.partition)
        offsets = self._open.get(at, {})
        if delivery.offset not in offsets:  # the partition went to another member, which has it now
            return
        offsets[delivery.offset] = True
        while offsets and offsets[next(iter(offsets))]:
            self._commit[at] = next(iter(offsets)) + 1
            del offsets[next(iter(offsets))]

    def nack(self, delivery: Delivery, *, delay_s: float = 0.0) -> None:
        """Rewind the partition to this delivery: everything from it on comes again, in order."""
        at = (delivery.topic, delivery.partition)
        with self._receiving:  # nobody closes the client under it
            offsets = self._open.get(at, {})
            if delivery.offset not in offsets or self._closing.is_set():
                return
            self._open[at] = {offset: acked for offset, acked in offsets.items() if offset < delivery.offset}
            self._consumer.seek(TopicPartition(*at, delivery.offset))
            if delay_s > 0:
                self._consumer.pause([TopicPartition(*at)])
                self._resume_at[at] = time.monotonic() + delay_s

    def close(self) -> None:
        self._closing.set()
        with self._receiving:
            if self._left:
                return
            self._left = True
            self._commit_acked(within_s=0, wait=True)
            self._consumer.close()

    def _take(self, limit: int, timeout_s: float) -> list[Record]:
        """Wait in slices, so that whoever closes us from another thread does not wait for the whole timeout."""
        until = time.monotonic() + timeout_s
        while True:
            left = until - time.monotonic()
            records = take(self._consumer, limit, max(0.0, min(left, SLICE_S)))
            if records or left <= SLICE_S or self._closing.is_set():
                return records

    def _resume_due(self, timeout_s: float) -> float:
        """Let partitions go on whose delay is over; how long to wait at most, so that the next one is in time."""
        now = time.monotonic()
        due = [at for at, when in self._resume_at.items() if when <= now]
        if due:
            self._consumer.resume([TopicPartition(*at) for at in due])
        for at in due:
            del self._resume_at[at]
        return min([timeout_s, *(when - now for when in self._resume_at.values())])

    def _look_for_topics(self) -> None:
        """A deleted topic is only taken out of the assignment: to the client it is silence, so we ask while it is silent."""
        if time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = time.monotonic()
        for topic in self._topics:
            try:
                error = self._consumer.list_topics(topic, LOOK_EVERY_S).topics[topic].error
            except KafkaException:  # nobody answers: that says nothing of the topic
                return
            if error is not None and error.code() in _GONE:
                raise UnknownTopic(f"topic {topic!r} is gone from {self._url}, or may not be read: {error.str()}")

    def _commit_acked(self, *, within_s: float, wait: bool = False) -> None:
        if self._commit and time.monotonic() - self._committed_at >= within_s:
            self._commit_offsets(list(self._commit), wait=wait)
            self._committed_at = time.monotonic()

    def _commit_offsets(self, partitions: list[tuple[str, int]], *, wait: bool) -> None:
        offsets = [TopicPartition(*at, self._commit.pop(at)) for at in partitions if at in self._commit]
        if not offsets:
            return
        try:
            if wait:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            else:
                self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException:  # not told to the broker: those deliveries come again, as promised
            return

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """The client itself begins to read them, where the group stood."""
        self.handovers += bool(partitions)  # a member that joins is first told of none

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.handovers += bool(partitions)
        taken = [(tp.topic, tp.partition) for tp in partitions]
        self._commit_offsets(taken, wait=True)
        for at in taken:
            self._open.pop(at, None)
            self._resume_at.pop(at, None)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.handovers += bool(partitions)
        for tp in partitions:
            self._open.pop((tp.topic, tp.partition), None)
            self._commit.pop((tp.topic, tp.partition), None)
            self._resume_at.pop((tp.topic, tp.partition), None)


def take(consumer: Consumer, limit: int, timeout_s: float) -> list[Record]:
    """Wait for one, then take what has already arrived: ``consume`` alone would wait for the whole batch."""
    first = consumer.poll(timeout_s)
    if first is None:
        return []
    return [first, *(consumer.consume(limit - 1, 0) if limit > 1 else ())]


def is_record(record: Record, url: str) -> bool:
    """False for news that passes: an end, a leader that moves. Raises when nothing more will come of itself."""
    error = record.error()
    if error is None:
        return True
    if error.code() in _GONE:
        raise UnknownTopic(f"topic {record.topic()!r} is gone from {url}, or may not be read: {error.str()}")
    if is_end(record) or error.retriable():
        return False
    raise BrokerUnavailable(f"broker {url}: {error.str()}")


def is_end(record: Record) -> bool:
    """Not a record but the broker's word that the partition holds no more."""
    error = record.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF


def to_delivery(record: Record, group: str) -> Delivery:
    """A Kafka record as a :class:`Delivery`; header values stay bytes."""
    return Delivery(
        record.topic() or "", record.partition() or 0, record.offset() or 0, record.key(), record.value(),
        tuple(record.headers() or ()), group,  # type: ignore[arg-type]  # the stub has str values: consumed ones are bytes
    )  # fmt: skip
