"""The publishing half of Pub/Sub: confirmed, in order per key, and honest about what was refused.

Killed at any line: the requests of a call go one after the other, and the service takes each whole or not at all, so what
is there after a kill is a prefix, per topic, of what was being published. Nothing is kept between calls but the names of
topics that have a subscription.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from google.api_core import exceptions as errors
from google.pubsub_v1 import types

from reference.brokers.protocol import Message, NotConfirmed, UnknownTopic
from reference.brokers.pubsub.connection import FORBIDDEN, PubSubConnection
from reference.brokers.pubsub.settings import BATCH
from reference.brokers.pubsub.topology import PubSubTopology
from reference.brokers.pubsub.wire import Unfit, to_wire

__all__ = ["PubSubPublisher"]

BATCH_MESSAGES: Final = int(BATCH["max_messages"])
BATCH_BYTES: Final = 9_000_000  # its other limit is 10 MB; the emulator answers what is over it with silence
REFUSED: Final = (errors.InvalidArgument, errors.FailedPrecondition, errors.NotFound, errors.OutOfRange, *FORBIDDEN)

Key = tuple[str, str]


@dataclass(slots=True)
class _Batch:
    """What goes to one topic in the next request."""

    indexes: list[int] = field(default_factory=list)
    wires: list[Any] = field(default_factory=list)
    size: int = 0


@dataclass(slots=True)
class _Call:
    """One call of publish: what is waiting to be sent, and what was refused."""

    batches: dict[str, _Batch] = field(default_factory=dict)
    topics: dict[str, str] = field(default_factory=dict)
    blocked: dict[Key, str] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)

    def refuse(self, index: int, key: Key, reason: str) -> None:
        self.failures[index] = self.blocked.setdefault(key, reason)


class PubSubPublisher:
    """One request at a time: a key's messages can be in several of them.

    That a topic has a group is asked once, and believed until a call fails, or every call would wait for one answer more: an
    emulator that was started again has forgotten the group, even where somebody has made the topic anew. When the last group's
    subscription is deleted later, the service confirms and drops what is published, and nobody here notices.
    """

    def __init__(self, connection: PubSubConnection, topology: PubSubTopology) -> None:
        self._connection, self._topology = connection, topology
        self._lock = threading.Lock()
        self._kept: set[str] = set()

    def publish(self, messages: Sequence[Message]) -> None:
        """See :meth:`Broker.publish`. A topic that no group has subscribed to refuses: Pub/Sub would drop the message."""
        with self._lock:
            call = _Call()
            try:
                self._walk(call, messages)
                for topic, batch in call.batches.items():
                    self._send(call, topic, batch)
            except BaseException:
                self._kept.clear()
                raise
            if call.failures:
                raise NotConfirmed(dict(sorted(call.failures.items())))

    def _walk(self, call: _Call, messages: Iterable[Message]) -> None:
        blocked, batches, topics = call.blocked, call.batches, call.topics
        for index, message in enumerate(messages):
            topic, key = message[0], message[1]
            if topic not in topics:
                topics[topic], batches[topic] = self._refusal(topic), _Batch()
            if topics[topic] or (blocked and (topic, key) in blocked):
                call.refuse(index, (topic, key), topics[topic])
                continue
            try:
                wire = to_wire(message)
            except Unfit as error:
                call.refuse(index, (topic, key), f"topic {topic!r}: {error}")
                continue
            batch, size = batches[topic], wire.ByteSize() + 8
            if batch.size + size > BATCH_BYTES or len(batch.wires) == BATCH_MESSAGES:
                batches[topic] = _Batch()
                self._send(call, topic, batch)
                if blocked and (topic, key) in blocked:
                    call.refuse(index, (topic, key), "")
                    continue
                batch = batches[topic]
            batch.indexes.append(index)
            batch.wires.append(wire)
            batch.size += size

    def _send(self, call: _Call, topic: str, batch: _Batch) -> None:
        """All at once; one by one only after the service refused what was let through here, for it refuses a request whole."""
        if not batch.wires:
            return
        try:
            self._request(topic, batch.wires)
        except REFUSED:
            for index, wire in zip(batch.indexes, batch.wires, strict=True):
                self._send_one(call, topic, index, wire)

    def _send_one(self, call: _Call, topic: str, index: int, wire: Any) -> None:
        key = (topic, wire.ordering_key)
        if key in call.blocked:
            call.refuse(index, key, "")
            return
        try:
            self._request(topic, [wire])
        except REFUSED as error:
            self._kept.discard(topic)  # it may be gone: the next call asks
            project = self._connection.address.project
            missing = isinstance(error, errors.NotFound)
            why = "does not exist: create it" if missing else f"refused it: {error.message}"
            call.refuse(index, key, f"topic {topic!r} of project {project!r} at {self._connection.url} {why}")

    def _request(self, topic: str, wires: Sequence[Any]) -> None:
        path = self._connection.topic(topic)
        request = types.PublishRequest.pb()(topic=path, messages=wires)
        with self._connection.asking(f"confirm {len(wires)} message(s) to topic {topic!r}", but=FORBIDDEN):
            self._connection.publisher.publish(types.PublishRequest.wrap(request), **self._connection.patience)

    def _refusal(self, topic: str) -> str:
        """Why nothing is sent to this topic, or nothing. Asked again in every call while it is refused."""
        if topic in self._kept:
            return ""
        try:
            if not self._topology.has_groups(topic):
                return (
                    f"no group has subscribed yet to topic {topic!r} at {self._connection.url}: Pub/Sub would drop the message;"
                    " subscribe once, then publish"
                )
        except UnknownTopic as error:
            return str(error)
        self._kept.add(topic)
        return ""
