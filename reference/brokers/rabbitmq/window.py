"""A channel that publishes with confirms, a bounded number of messages ahead of what the broker has settled.

Killed at any line: messages leave in the order they were handed over, so what the broker has is a prefix of them.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from pika import BasicProperties
from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker

from reference.brokers.protocol import BrokerUnavailable, Message
from reference.brokers.rabbitmq.link import Link
from reference.brokers.rabbitmq.names import topic_of
from reference.brokers.rabbitmq.topology import Topology, no_group

__all__ = ["Culprit", "Numbered", "Ready", "Window"]

EXCHANGE: Final = re.compile(r"exchange '(?P<name>.*)' in vhost")

Numbered = tuple[int, Message]
Ready = tuple[int, Numbered, str, str, bytes, BasicProperties]  # delivery tag, message, exchange, routing key, body, …


class Culprit(NamedTuple):
    """The topic over which the broker ended a channel, if it said so, and whether it would do so again."""

    topic: str = ""
    for_good: bool = False


class Outcome(Protocol):
    """Whoever wants to know what the broker refused."""

    def fail(self, numbered: Numbered, reason: str) -> None: ...


class Window:
    """A channel with confirms. All but ``hand_over``, ``wait`` and ``open`` runs on the connection's thread."""

    def __init__(self, topology: Topology, timeout_s: float) -> None:
        self._topology, self._timeout_s = topology, timeout_s
        self._news = threading.Condition()
        self._call: Outcome | None = None
        self.link = Link(topology.address, name="eda-labs publisher", timeout_s=timeout_s, on_lost=self._wake)
        self.open()

    def open(self) -> None:
        """A new channel; what was on the old one is forgotten, and what it may still say is not listened to."""
        with self._news:
            self.stem, self.next_tag, self.ended, self.ended_by = f"{uuid.uuid4().hex[:8]}-", 1, "", Culprit()
            self._unsettled: dict[int, Numbered] = {}
            self._handed = deque[list[Ready]]()  # to the connection's thread, which has not taken them yet: there may be several
            self._sent = self._settled = self._enough = 0
            self._channel: Channel | None = None
            self._opening: Channel | None = None
        self.link.call(self._open)
        self._until(lambda: self._channel is not None, "open a channel")

    def begin(self, call: Outcome) -> None:
        self._call = call

    def hand_over(self, chunk: list[Ready], *, room: int) -> None:
        """Have the chunk sent, and wait until there is room for the next."""
        self._sent += len(chunk)
        self._handed.append(chunk)
        self.link.call(partial(self._publish, self._channel, chunk))
        self.wait(room - len(chunk))

    def wait(self, left: int) -> None:
        """Until at most ``left`` are unsettled, or the channel has ended; as long as something is being settled."""
        self._enough = self._sent - left
        self._until(lambda: self._settled >= self._enough, "confirm")

    def unsettled(self) -> list[Numbered]:
        """What was neither confirmed nor refused, in the order it was sent in; once the channel has ended."""
        late = (numbered for chunk in self._handed for _, numbered, *_ in chunk)
        return [*self._unsettled.values(), *late]

    def _until(self, done: Callable[[], bool], what: str) -> None:
        with self._news:
            settled, heard_at = self._settled, time.monotonic()
            while not (done() or self.ended or self.link.lost):
                self._news.wait(min(0.5, self._timeout_s))
                if self._settled != settled:
                    settled, heard_at = self._settled, time.monotonic()
                elif time.monotonic() - heard_at >= self._timeout_s:
                    raise self._unavailable(f"did not {what} within {self._timeout_s:g} s{self.link.blocked}")
            if self.link.lost:
                raise self._unavailable(self.link.lost)

    def _unavailable(self, what: str) -> BrokerUnavailable:
        return BrokerUnavailable(f"broker {self._topology.address.url} {what}")

    def _wake(self) -> None:
        with self._news:
            self._news.notify_all()

    def _open(self) -> None:
        if self._opening is None:  # asked for twice, when the first ended before it was there
            self._opening = self.link.connection.channel(on_open_callback=self._on_open)
            self._opening.add_on_close_callback(self._on_ended)

    def _on_open(self, channel: Channel) -> None:
        channel.add_on_return_callback(self._on_returned)
        channel.confirm_delivery(partial(self._on_settled, channel), callback=lambda _: self._on_ready(channel))

    def _on_ready(self, channel: Channel) -> None:
        with self._news:
            if channel is self._opening:
                self._channel = channel
                self._wake()

    def _on_ended(self, channel: Channel, error: Exception) -> None:
        with self._news:
            if channel is not self._opening:
                return
            reason = error.reply_text if isinstance(error, ChannelClosedByBroker) else str(error)
            if isinstance(error, ChannelClosedByBroker) and (named := EXCHANGE.search(reason)):
                self.ended_by = Culprit(topic_of(named["name"]), for_good=error.reply_code == 403)
            self.ended = self.ended or f"refused by {self._topology.address.url}: {reason}"
            self._wake()

    def _publish(self, channel: Channel | None, chunk: list[Ready]) -> None:
        earlier = channel is not self._channel
        if self.ended or channel is None or earlier:
            return
        self._handed.popleft()
        publish, unsettled = channel.basic_publish, self._unsettled
        try:
            for tag, numbered, exchange, key, body, properties in chunk:
                unsettled[tag] = numbered
                publish(exchange, key, body, properties, mandatory=True)
        except Exception as error:  # text that cannot be encoded; the numbers would not agree with the broker's any more
            unsettled.update((tag, numbered) for tag, numbered, *_ in chunk)
            self.ended = f"cannot be written: {error}"
            channel.close()
            self._wake()

    def _on_returned(self, channel: Channel, _method: Any, properties: BasicProperties, _body: bytes) -> None:
        with self._news:
            if channel is self._channel and not self.ended and self._call is not None:
                numbered = self._unsettled.get(int(str(properties.message_id).rpartition("-")[2]))
                if numbered is not None:
                    self._call.fail(numbered, no_group(numbered[1].topic))

    def _on_settled(self, channel: Channel, frame: Any) -> None:
        """A confirm, or a refusal, of one message or of all up to it; a returned message is confirmed as well."""
        with self._news:
            if channel is self._channel and not self.ended:
                self._settle(frame.method)

    def _settle(self, method: Any) -> None:
        last, unsettled = method.delivery_tag, self._unsettled
        tags = list(itertools.takewhile(lambda tag: tag <= last, unsettled)) if method.multiple else [last]
        settled = [numbered for tag in tags if (numbered := unsettled.pop(tag, None))]
        if method.NAME == "Basic.Nack" and self._call is not None:
            for numbered in settled:
                self._call.fail(numbered, f"refused by {self._topology.address.url}: it could not store the message")
        self._settled += len(settled)
        if self._settled >= self._enough:
            self._news.notify_all()
