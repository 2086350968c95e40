"""What a Kafka cluster says of itself: topics, limits, offsets, lag; and its two levers, topics made and groups rewound."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import stamina
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec, ResourceType

from reference.brokers.protocol import BrokerUnavailable, UnknownTopic

__all__ = ["KafkaCluster"]

DEFAULT_MAX_MESSAGE_BYTES = 1_048_588
# Passing states, over as soon as leader or coordinator knows that it is one.
_MOVING = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR,
    KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
}  # fmt: skip


class KafkaCluster:
    """Administrative questions, each answered within ``timeout_s`` or ended by :class:`BrokerUnavailable`."""

    def __init__(self, client: Mapping[str, Any], *, url: str, timeout_s: float, heard: Callable[[], str]) -> None:
        self._client = {**client, "socket.timeout.ms": max(1000, int(timeout_s * 1000))}
        self.url, self._timeout_s, self._heard = url, timeout_s, heard
        self._admin: AdminClient | None = None
        self._askers: dict[str, Consumer] = {}
        self._lock = threading.Lock()
        self._closed = False

    def partitions(self, topic: str) -> list[int]:
        """The topic's partitions. Raises :class:`UnknownTopic`."""
        admin = self._ask()
        try:
            found = admin.list_topics(topic, self._timeout_s).topics[topic]
        except KafkaException as error:
            raise self.unavailable(f"does not answer: {error.args[0].str()}") from error
        except UnicodeEncodeError as error:
            raise UnknownTopic(f"topic {topic!r} cannot exist at {self.url}: it is no text that UTF-8 can hold") from error
        except RuntimeError as error:  # over 512 characters, the client refuses the name itself
            raise UnknownTopic(f"topic {topic[:80]!r}… cannot exist at {self.url}: its name is too long") from error
        if found.error is not None and found.error.code() == KafkaError.TOPIC_EXCEPTION:
            raise UnknownTopic(
                f"topic {topic!r} cannot exist at {self.url}: Kafka takes 1 to 249 letters, digits, '.', '_', '-'"
            )
        if found.error is not None:
            raise UnknownTopic(f"topic {topic!r} does not exist at {self.url}: create it")
        return sorted(found.partitions)

    def max_message_bytes(self, topic: str) -> int:
        """The topic's own limit in bytes, or Kafka's default where this client may not read it."""
        self.partitions(topic)
        resource = ConfigResource(ResourceType.TOPIC, topic)
        try:
            return int(self._ask().describe_configs([resource])[resource].result(self._timeout_s)["max.message.bytes"].value)
        except (KafkaException, TimeoutError):
            return DEFAULT_MAX_MESSAGE_BYTES

    def create_topic(self, name: str, partitions: int) -> None:
        """Make the topic with the cluster's default replication, and wait until it can be used; a no-op when it is there."""
        try:
            self._ask().create_topics([NewTopic(name, partitions)])[name].result(self._timeout_s)
        except (KafkaException, TimeoutError) as error:
            if not (isinstance(error, KafkaException) and error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS):
                raise self.unavailable(f"did not create topic {name!r}: {_why(error)}") from error
        for attempt in self._retrying(UnknownTopic):  # the controller has it; the brokers hear of it a moment later
            with attempt:
                self.partitions(name)

    def ends(self, topic: str) -> dict[int, int]:
        """One past the last offset of every partition."""
        return {partition: offset for (_, partition), offset in self._offsets([topic], OffsetSpec.latest()).items()}

    def starts(self, topic: str) -> dict[int, int]:
        """The first offset of every partition that has not expired."""
        return {partition: offset for (_, partition), offset in self._offsets([topic], OffsetSpec.earliest()).items()}

    def lag(self, topics: Sequence[str], group: str) -> dict[tuple[str, int], int]:
        """Per partition, what ``group`` has not committed yet; a partition without a commit counts whole."""
        ends, starts = self._offsets(topics, OffsetSpec.latest()), self._offsets(topics, OffsetSpec.earliest())
        committed = self._committed(group, [TopicPartition(*at) for at in ends])
        return {at: max(0, end - max(committed.get(at, -1), starts[at])) for at, end in ends.items()}

    def rewind(self, topics: Sequence[str], group: str, to: datetime) -> None:
        """Set what ``group`` has committed to the first record at ``to`` or later, in every partition at once.

        Raises :class:`ValueError` for a time without its UTC offset.
        """
        if to.tzinfo is None:
            raise ValueError(f"a time to rewind to must carry its UTC offset, got {to.isoformat()}")
        ends = self._offsets(topics, OffsetSpec.latest())
        since = self._offsets(topics, OffsetSpec.for_timestamp(int(to.timestamp() * 1000)))
        offsets = [TopicPartition(*at, since[at] if since[at] >= 0 else end) for at, end in ends.items()]
        try:
            for attempt in self._retrying(_is_moving):
                with attempt:
                    self._asker(group).commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            raise self.unavailable(f"did not rewind group {group!r}, which must be empty: {_why(error)}") from error

    def unavailable(self, what: str) -> BrokerUnavailable:
        """The error to raise when the cluster does not do its part, with what the client last heard from it."""
        heard = f" (last heard: {self._heard()})" if self._heard() else ""
        return BrokerUnavailable(f"broker {self.url} {what}{heard}")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._admin = None
            for asker in self._askers.values():
                asker.close()
            self._askers.clear()

    def _demand_open(self) -> None:
        if self._closed:
            raise RuntimeError(f"this broker at {self.url} is closed: connect again")

    def _ask(self) -> AdminClient:
        with self._lock:
            self._demand_open()
            if self._admin is None:  # kept, since a temporary one dies in mid-request
                self._admin = AdminClient(self._client)
            return self._admin

    def _retrying(self, on: type[Exception] | Callable[[Exception], bool]) -> Iterable[stamina.Attempt]:
        return stamina.retry_context(
            on=on, timeout=self._timeout_s, attempts=None, wait_initial=0.02, wait_max=0.5, wait_jitter=0.02
        )

    def _offsets(self, topics: Sequence[str], spec: OffsetSpec) -> dict[tuple[str, int], int]:
        wanted = {TopicPartition(topic, p): spec for topic in topics for p in self.partitions(topic)}
        try:
            # A partition that was made, or whose leader moved, a moment ago does not know its own epoch yet.
            for attempt in self._retrying(_is_moving):
                with attempt:
                    answers = self._ask().list_offsets(wanted)
                    return {(tp.topic, tp.partition): a.result(self._timeout_s).offset for tp, a in answers.items()}
        except (KafkaException, TimeoutError) as error:
            raise self.unavailable(f"does not tell offsets: {_why(error)}") from error
        raise AssertionError("stamina either returned or raised")

    def _committed(self, group: str, partitions: list[TopicPartition]) -> dict[tuple[str, int], int]:
        # Not AdminClient.list_consumer_group_offsets: while the group's coordinator moves or loads, librdkafka 2.16 hands
        # the answer to a consumer group that an admin client does not have, and the process dies of it. A consumer that
        # subscribes to nothing joins nothing and asks the same question.
        asker = self._asker(group)
        try:
            for attempt in self._retrying(_is_moving):
                with attempt:
                    return {(tp.topic, tp.partition): tp.offset for tp in asker.committed(partitions, self._timeout_s)}
        except KafkaException as error:
            raise self.unavailable(f"does not tell group {group!r}: {_why(error)}") from error
        raise AssertionError("stamina either returned or raised")

    def _asker(self, group: str) -> Consumer:
        with self._lock:
            self._demand_open()
            if group not in self._askers:
                self._askers[group] = Consumer({**self._client, "group.id": group, "enable.auto.commit": False})
            return self._askers[group]


def _is_moving(error: Exception) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() in _MOVING


def _why(error: Exception) -> str:
    return str(error.args[0].str()) if isinstance(error, KafkaException) else "no answer in time"
