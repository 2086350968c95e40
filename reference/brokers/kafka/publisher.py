"""The publishing half of Kafka: confirmed, in order per key, and honest about what was refused.

Killed at any line: an idempotent producer with ``acks=all`` writes each partition in the order of the call and without
gaps, so what is there after a kill is a prefix, per key, of what was being published. Nothing is kept between calls.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Report

from reference.brokers.kafka.cluster import KafkaCluster
from reference.brokers.kafka.settings import BATCH_BYTES, PRODUCER
from reference.brokers.protocol import Headers, Message, NotConfirmed, UnknownTopic

__all__ = ["PRODUCER", "KafkaPublisher"]

RECORD_OVERHEAD_BYTES: Final = 100  # batch header, varints and timestamps of a lone record, rounded up

# What the client logs of a refusal is in the error that names the message; who wants the rest can listen here.
log = logging.getLogger("reference.brokers.librdkafka")
log.addHandler(logging.NullHandler())


class _Refused(Exception):
    """The broker refused at least one message for good; those behind it in its partition were held up."""


class _Cut(Exception):
    """The client would cut off a part of this message."""


class KafkaPublisher:
    """One producer, made anew whenever it has failed: nothing of one call is ever sent behind a later call's back."""

    def __init__(self, client: Mapping[str, Any], cluster: KafkaCluster, *, timeout_s: float) -> None:
        self._client, self._cluster, self._timeout_s = client, cluster, timeout_s
        self._lock = threading.Lock()
        self._producer: Producer | None = None
        self._closed = False
        self._refused: list[KafkaError] = []
        self._limits: dict[str, int] = {}
        self._names: set[str] = set()  # header names that were looked at

    def publish(self, messages: Sequence[Message]) -> None:
        """See :meth:`Broker.publish`. All at once; one by one only after the broker refused what was let through here."""
        with self._lock:
            if self._closed:
                raise RuntimeError(f"this broker at {self._cluster.url} is closed: connect again")
            try:
                failures = self._attempt(messages, one_by_one=False)
            except _Refused:
                failures = self._attempt(messages, one_by_one=True)
            if failures:
                raise NotConfirmed(failures)

    def close(self) -> None:
        """Wait for what is being published, and refuse all that comes after it."""
        self._closed = True
        with self._lock:
            self._drop()

    def _attempt(self, messages: Sequence[Message], *, one_by_one: bool) -> dict[int, str]:
        try:
            if one_by_one:
                return self._singly(messages)
            failures = self._queue(self._connected(), messages)
            self._flush()
        except BaseException:  # whatever it was, what is queued must not be sent behind a later call's back
            self._drop()
            self._limits.clear()  # a topic may be gone, for which the client waits in silence: the next call asks
            raise
        return failures

    def _queue(self, producer: Producer, messages: Sequence[Message]) -> dict[int, str]:
        """Queue what may be sent; return what may not, and all that stands behind it in the same key, with the reason."""
        limits, unknown = dict(self._limits), dict[str, str]()
        held, blocked = dict[int, str](), dict[tuple[str, str], str]()
        produce, names = producer.produce, self._names
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
                    for name, _ in pairs:
                        if name not in names:
                            self._learn(name)
                    produce(topic, value, key, headers=pairs)
                except BufferError:
                    self._wait_for_room(producer, topic, key, value, pairs)
                except (UnicodeEncodeError, _Cut) as error:
                    held[index] = blocked[(topic, key)] = _unfit(error)
                except KafkaException as error:  # the producer has ended itself: something queued before was refused
                    raise _Refused from error
                if limit < BATCH_BYTES:  # a whole batch could be over the limit
                    self._flush()
        return held

    def _singly(self, messages: Sequence[Message]) -> dict[int, str]:
        """Slow and exact: each is confirmed or refused, by name, before the next one of any key is sent."""
        failures, blocked = dict[int, str](), dict[tuple[str, str], str]()
        for index, message in enumerate(messages):
            key = (message.topic, message.key)
            if key not in blocked:
                try:
                    reason = self._queue(self._connected(), [message]).get(0)
                    self._flush()
                except _Refused:
                    reason = f"refused by {self._cluster.url}: {self._refused[0].str() if self._refused else 'unknown'}"
                    self._drop()
                if reason is None:
                    continue
                blocked[key] = reason
            failures[index] = blocked[key]
        return failures

    def _flush(self) -> None:
        try:
            left = self._flushed(self._connected())
        except (KafkaException, SystemError) as error:  # how the client ends a flush that meets its own fatal state
            if not self._refused:
                raise self._cluster.unavailable(f"ended the producer: {error}") from error
            left = 0
        if self._refused:
            raise _Refused
        if left:
            raise self._cluster.unavailable(f"did not confirm within {self._timeout_s:g} s")

    def _flushed(self, producer: Producer) -> int:
        """Wait as long as something is being confirmed; how much is left after ``timeout_s`` in which nothing was."""
        left, heard_at = len(producer), time.monotonic()
        while now := producer.flush(min(0.5, self._timeout_s)):
            if now < left:
                left, heard_at = now, time.monotonic()
            elif time.monotonic() - heard_at >= self._timeout_s:
                return now
        return 0

    def _wait_for_room(self, producer: Producer, topic: str, key: str, value: bytes | str, headers: list[Any]) -> None:
        deadline = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline:
            producer.poll(0.1)
            try:
                return producer.produce(topic, value, key, headers=headers)
            except BufferError:
                continue
        raise self._cluster.unavailable(f"took nothing for {self._timeout_s:g} s")

    def _learn(self, name: str) -> None:
        """A header's name that UTF-8 cannot hold kills the process in confluent-kafka 2.16, where a value only raises.

        One with a zero byte would arrive as another, in silence: the client ends names there.
        """
        name.encode()
        if "\0" in name:
            raise _Cut(f"header {name!r}: its name holds a zero byte, where Kafka's client would end it; put it into the value")
        if len(self._names) < 1_000:
            self._names.add(name)

    def _limit(self, topic: str, unknown: dict[str, str]) -> int:
        """``max.message.bytes`` of a topic not met before; 0 and the reason while it does not exist: the next call asks again."""
        try:
            self._limits[topic] = self._cluster.max_message_bytes(topic)
        except UnknownTopic as error:
            unknown[topic] = str(error)
            return 0
        return self._limits[topic]

    def _connected(self) -> Producer:
        if self._producer is None:
            self._refused.clear()
            self._producer = Producer({**self._client, **PRODUCER, "on_delivery": self._on_refused}, logger=log)
        return self._producer

    def _on_refused(self, error: KafkaError | None, _: Report) -> None:
        if error is not None:
            self._refused.append(error)

    def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            # What it still has to say, of a gap for instance, must not hide the error for which it is given up.
            with suppress(KafkaException):
                producer.purge()
                producer.flush(0)


def _unfit(error: Exception) -> str:
    return f"cannot be written as UTF-8: {error}" if isinstance(error, UnicodeEncodeError) else str(error)


def _size(key: str, value: bytes | str, headers: Headers) -> int:
    beside = sum(len(name) + len(_bytes(text)) + 4 for name, text in headers)
    return len(_bytes(value)) + len(_bytes(key)) + beside + RECORD_OVERHEAD_BYTES


def _bytes(value: bytes | str) -> bytes:
    return value.encode(errors="replace") if isinstance(value, str) else value
