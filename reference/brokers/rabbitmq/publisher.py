"""The publishing half of RabbitMQ: confirmed, in order per key, and honest about what was refused.

Killed at any line: what is there after a kill is, for every key, a prefix of what was being published. Nothing is kept
between calls. One thing remains: when an operator deletes a lane's queue and it is made again in the middle of a call, the
window's messages behind the first lost one may be there already.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final
from zlib import crc32

from pika import BasicProperties

from reference.brokers.protocol import Headers, Message, NotConfirmed, UnknownGroup, UnknownTopic
from reference.brokers.rabbitmq.headers import SHORT, refusal, to_table
from reference.brokers.rabbitmq.settings import MESSAGE
from reference.brokers.rabbitmq.topology import Topology
from reference.brokers.rabbitmq.window import Culprit, Numbered, Ready, Window

__all__ = ["MAX_MESSAGE_BYTES", "RabbitMQPublisher", "is_closed"]

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024  # what RabbitMQ 4 takes unless it is told otherwise; 3.x takes 128 MiB
WINDOW: Final = 1000  # unconfirmed at a time: covers a round trip to the disk, and may all be published again after a failure
SMALLER: Final = {WINDOW: 30, 30: 1}
CHUNK: Final = 100  # handed to the connection's thread at a time
PERSISTENT: Final = int(MESSAGE["delivery_mode"])

_Known = dict[str, tuple[str, ...]]  # the partitions of topics that were there, and held by a group, when last looked


def is_closed() -> RuntimeError:
    """The error to raise of a broker that was closed."""
    return RuntimeError("this broker is closed: connect again")


class RabbitMQPublisher:
    """One connection, made anew whenever it has failed: nothing of one call is ever sent behind a later call's back."""

    def __init__(self, topology: Topology, *, timeout_s: float) -> None:
        self._topology, self._timeout_s = topology, timeout_s
        self._lock = threading.Lock()
        self._window: Window | None = None
        self._known: _Known = {}
        self._closed = False

    def publish(self, messages: Sequence[Message], *, delay_s: float = 0.0) -> None:
        """See :meth:`Broker.publish`. A window at a time, and a topic that we may not write to is left out from then on.

        When the broker ended the channel and did not say over what, what was not settled is sent in small windows, then one
        by one, until that is found; then the rest goes on a window at a time.
        """
        if not 0 <= delay_s < math.inf:
            raise ValueError(f"no delay: {delay_s!r} s; it is a number of seconds, 0 for at once")
        with self._lock:
            self._demand_open()
            call = _Call(enumerate(messages), self._topology, self._known, delay_s)
            try:
                self._send_all(call)
            except BaseException:  # whatever it was, what is on its way must not be sent behind a later call's back
                self._drop()
                self._known.clear()
                raise
            if call.failures:
                raise NotConfirmed(call.failures)

    def stop(self) -> None:
        """Begin nothing any more."""
        self._closed = True

    def close(self, *, by: float) -> None:
        """Let a call of another thread end, but no later than ``by`` on the monotonic clock: then its connection goes."""
        self.stop()
        if not self._lock.acquire(timeout=max(0.0, by - time.monotonic())):
            if (window := self._window) is not None:
                window.link.drop()
            return
        try:
            if self._window is not None:
                self._window.link.close(by=by)
                self._window = None
        finally:
            self._lock.release()

    def _send_all(self, call: _Call) -> None:
        size, suspects = WINDOW, 0
        while True:
            ended = self._send(call, size, suspects)
            if ended is None and not suspects:
                return
            if ended is None or self._learned(call, ended) or not call.unsettled:  # no suspect would do it again
                size, suspects = WINDOW, 0
            elif size == 1:
                call.refuse_first()
                size, suspects = WINDOW, 0
            else:
                size, suspects = SMALLER[size], call.unsettled

    def _learned(self, call: _Call, ended: Culprit) -> bool:
        """Whether it is known over which topic the channel ended: ask about it again, or leave it out if that is no use."""
        self._known.pop(ended.topic, None)
        return bool(ended.topic) and call.distrust(ended)

    def _send(self, call: _Call, size: int, most: int) -> Culprit | None:
        """Send all that may be sent, or so many; over what the broker ended the channel before it confirmed everything."""
        window = self._connected()
        window.begin(call)
        for chunk in call.chunks(window, min(size, CHUNK), most or None):
            window.hand_over(chunk, room=size)
            if window.ended:
                break
        else:
            window.wait(0)
        if window.ended:
            call.again(window.unsettled(), window.ended)
            return window.ended_by
        return None

    def _connected(self) -> Window:
        if self._window is not None and self._window.link.lost is not None:
            self._drop()
        if self._window is None:
            self._known.clear()  # the broker may have been started again, and have forgotten what was made just before
            self._window = Window(self._topology, self._timeout_s)
            self._demand_open()  # whoever closes may not have seen this window
        elif self._window.ended:
            self._window.open()
        return self._window

    def _demand_open(self) -> None:
        if self._closed:
            raise is_closed()

    def _drop(self) -> None:
        if self._window is not None:
            self._window.link.drop()
            self._window = None


class _Call:
    """The messages of one ``publish``, and what became of them."""

    def __init__(self, numbered: Iterator[Numbered], topology: Topology, known: _Known, delay_s: float) -> None:
        self._again, self._rest = deque[Numbered](), numbered
        self._topology, self._known, self._delay_s = topology, known, delay_s
        self._first: Numbered | None = None  # of what was not settled when the channel ended last, and why it did
        self._reason = ""
        self._refused = dict[str, str]()  # topics
        self._doubted = set[str]()  # topics, over which the channel has ended once
        self.failures: dict[int, str] = {}
        self.blocked: dict[tuple[str, str], str] = {}  # nothing more of these keys is sent

    def chunks(self, window: Window, size: int, most: int | None) -> Iterator[list[Ready]]:
        """What may be sent, ready for the wire; of the next ``most`` messages, or of all."""
        lanes = dict[str, tuple[str, ...]]()
        refused = self._refused
        chunk: list[Ready] = []
        limit, blocked, tag, stem = window.link.frame_max, self.blocked, window.next_tag, window.stem
        for numbered in itertools.islice(self._next(), most):
            topic, key, value, headers = numbered[1]
            if topic not in lanes:
                lanes[topic] = () if topic in refused else self._lanes(topic, refused)
            if blocked and (topic, key) in blocked:
                self.failures[numbered[0]] = blocked[topic, key]
                continue
            try:
                body, place, table = value if type(value) is bytes else _bytes(value), crc32(key.encode()), to_table(headers)
                reason = refused.get(topic) if refused else None
                reason = reason or refusal(table) or _oversize(key, body, headers, table, limit)
            except UnicodeEncodeError as error:
                reason = f"cannot be written: {error}"
            if reason:
                self.fail(numbered, reason)
                continue
            properties = BasicProperties(headers=table, delivery_mode=PERSISTENT, message_id=f"{stem}{tag}")
            exchange = lanes[topic][place % len(lanes[topic])]
            chunk.append((tag, numbered, exchange, key, body, properties))
            tag += 1
            if len(chunk) >= size:
                window.next_tag = tag
                yield chunk
                chunk = []
        window.next_tag = tag
        if chunk:
            yield chunk

    def fail(self, numbered: Numbered, reason: str) -> None:
        index, message = numbered
        self.failures[index] = self.blocked[message.topic, message.key] = reason

    @property
    def unsettled(self) -> int:
        """How many messages are to be sent again."""
        return len(self._again)

    def again(self, unsettled: list[Numbered], reason: str) -> None:
        """These were not settled when the channel ended: they come before the rest, in their order."""
        self._again.extendleft(reversed(unsettled))
        self._first, self._reason = next(iter(unsettled), None), reason

    def refuse_first(self) -> None:
        """Sent alone, it ended the channel."""
        if self._first is not None:
            self.fail(self._again.popleft(), self._reason)

    def distrust(self, culprit: Culprit) -> bool:
        """Refuse the topic from here on, if it is no use to ask about it again; whether it was not refused before."""
        new = culprit.topic not in self._refused
        if new and (culprit.for_good or culprit.topic in self._doubted):
            self._refused[culprit.topic] = self._reason
        self._doubted.add(culprit.topic)
        return new

    def _next(self) -> Iterator[Numbered]:
        while self._again:
            yield self._again.popleft()
        yield from self._rest

    def _lanes(self, topic: str, refused: dict[str, str]) -> tuple[str, ...]:
        """The exchanges among which a key's is found; none, and the reason, where there is no such topic or nobody in it."""
        if topic not in self._known:
            try:
                self._known[topic] = self._topology.lanes(topic)
            except (UnknownTopic, UnknownGroup, ValueError) as error:
                refused[topic] = str(error)
                return ()
        return (self._topology.waiting_room(topic, self._delay_s),) if self._delay_s > 0 else self._known[topic]


def _oversize(key: str, body: bytes, headers: Headers, table: dict[str, Any], limit: int) -> str:
    """Why this message is too large, or nothing."""
    if len(key) * 4 > SHORT and len(key.encode()) > SHORT:
        return f"a key of {len(key.encode())} bytes, over {SHORT}"
    around = (sum([len(value) for _, value in headers if value]) + SHORT * len(headers)) * 4  # at most
    if around + 1000 > limit:  # perhaps: now exactly
        properties = BasicProperties(headers=table, delivery_mode=PERSISTENT, message_id="x" * 40)
        in_frame = 12 + sum(map(len, properties.encode()))
        if in_frame > limit:
            return f"headers of {in_frame} bytes, over {limit}: they have to fit into one frame (frame_max)"
    if len(body) + around > MAX_MESSAGE_BYTES:
        size = len(body) + len(key.encode()) + sum(len(name.encode()) + len(_bytes(value or b"")) for name, value in headers)
        if size > MAX_MESSAGE_BYTES:
            return f"{size} bytes, over {MAX_MESSAGE_BYTES}"
    return ""


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)
