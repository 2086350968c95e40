"""A member's place in a RabbitMQ consumer group: in line for every lane, and counted among the members.

Every member consumes from every lane of its topics; the broker has one of them active on each and the others wait in line.
A member that is active on more than its share (:mod:`reference.brokers.rabbitmq.sharing`) goes to the end of the line. When
one goes, or is killed, the broker takes back what it had not acked and gives it to the next in one step, so a lane stays in
order.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

from pika import BasicProperties
from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker, NoFreeChannels

from reference.brokers.protocol import BrokerUnavailable
from reference.brokers.rabbitmq.lane import Lane
from reference.brokers.rabbitmq.link import Link, close_at_once
from reference.brokers.rabbitmq.names import lane_queue
from reference.brokers.rabbitmq.settings import CHANNEL
from reference.brokers.rabbitmq.sharing import Sharing
from reference.brokers.rabbitmq.topology import Topology

__all__ = ["PREFETCH", "PREFETCH_WITH_DEAD_LETTERS", "Membership"]

# Enough to keep a fast handler busy over a round trip, and few enough to come again after a crash. It must be the same for
# all members: the broker puts what it takes back behind what it had taken back before, so the next member has to get it all
# at once, or order is lost.
PREFETCH: Final = int(CHANNEL["prefetch_count"])
# What is fetched counts as delivered, though nobody has looked at it. All members agree: dead letters are their group's.
PREFETCH_WITH_DEAD_LETTERS: Final = 20
LOOK_EVERY_S: Final = 1.0


class Membership:
    """``news`` guards all of it, and is notified when there may be something to receive, or nothing any more.

    What begins with an underscore runs on the connection's thread.
    """

    def __init__(self, topology: Topology, *, group: str, prefetch: int, timeout_s: float) -> None:
        self._topology, self._prefetch, self._timeout_s = topology, prefetch, timeout_s
        self.group = group
        self._topics: Mapping[str, int] = {}
        self._at: Mapping[tuple[str, int], Lane] = {}
        self._handovers_before = 0  # of lanes that are no more
        self.lanes: list[Lane] = []
        self.news = threading.Condition()
        self.closed = False
        self.gone: str | None = None  # a queue that is not there any more
        self._settling = False
        self._sharing = Sharing(group, news=self.news, give_back=self._give_back)
        self._joined = threading.Event()
        self._connecting = threading.Lock()
        self._link: Link | None = None

    @property
    def lost(self) -> bool:
        """Whether there is no connection."""
        return self._link is None or self._link.lost is not None

    @property
    def handovers(self) -> int:
        """How often a lane came, which shows in its first message, or left. A lane that was active is missed when it leaves."""
        with self.news:
            return self._handovers_before + sum(lane.handovers for lane in self.lanes)

    def lane(self, topic: str, partition: int) -> Lane | None:
        return self._at.get((topic, partition))

    def connect(self, topics: Mapping[str, int]) -> None:
        """Join, or join again: what was handed out before is void. Who has left meanwhile does not join.

        ``topics`` says how many partitions each has. Raises :class:`BrokerUnavailable`.
        """
        with self._connecting:
            with self.news:
                self._lose_all()
                self._take_lanes(topics)
                self._settling = False
                joined = self._joined = threading.Event()
            link = Link(
                self._topology.address, name=f"eda-labs {self.group}", timeout_s=self._timeout_s,
                on_lost=lambda: self._on_lost(joined),
            )  # fmt: skip
            with self.news:
                if not self.closed:
                    self._link = link  # from here on whoever closes closes this one
            if self.closed:
                link.drop()
                return
            link.call(lambda: self._join(link))
            if not joined.wait(self._timeout_s) or link.lost is not None:
                reason = link.lost or f"did not let group {self.group!r} consume within {self._timeout_s:g} s"
                link.drop()
                raise BrokerUnavailable(f"broker {self._topology.address.url} {reason}")

    def _take_lanes(self, topics: Mapping[str, int]) -> None:
        """A lane that we had goes on counting its offsets: nobody's late ack is taken for another message's."""
        places = [(topic, partition) for topic, count in topics.items() for partition in range(count)]
        self._handovers_before += sum(self._at[at].handovers for at in self._at.keys() - places)
        self._at = {at: self._at.get(at) or Lane(*at, lane_queue(*at, self.group)) for at in places}
        self._topics, self.lanes = dict(topics), list(self._at.values())

    def settle_soon(self) -> None:
        """Have acks written as soon as the connection's thread gets to it."""
        if not self._settling and self._link is not None:
            self._settling = True
            self._link.call(self._settle)

    def go(self) -> None:
        """Begin to leave: what was called before and has not reached the broker yet goes first."""
        with self.news:
            if self.closed:
                return
            self.closed = True
            self.news.notify_all()
        if self._link is not None:
            self._link.call(self._give_all_back)
            self._link.say_goodbye()

    def leave(self, *, by: float | None = None) -> None:
        """Give everything back, and wait until the broker has it; also for a link that is only being made elsewhere.

        Until ``by`` on the monotonic clock, or for ``timeout_s``.
        """
        by = time.monotonic() + self._timeout_s if by is None else by
        self.go()
        if self._link is not None:
            self._link.close(by=by)
        if self._connecting.acquire(timeout=max(0.0, by - time.monotonic())):
            self._connecting.release()

    def counted(self, topic: str) -> int:
        """How often this member is among the consumers of the group's members' queue."""
        return self._sharing.counted(topic)

    def unsettled(self) -> dict[tuple[str, int], int]:
        """By partition, what the broker has given to this member and not heard of since, up to this moment."""
        lanes = list(self.lanes)
        asked = [threading.Event() for _ in lanes]
        if self._link is not None:
            self._link.call(lambda: self._ask_all(lanes, asked))
        until = time.monotonic() + self._timeout_s
        for event in asked:
            event.wait(0 if self.lost else max(0.0, until - time.monotonic()))
        with self.news:
            return {(lane.topic, lane.partition): len(lane.unsettled) + len(lane.rejected) for lane in self.lanes if lane.active}

    def _join(self, link: Link) -> None:
        """Get in line for every lane, and only then be counted as a member."""
        if self.closed or not link.connection.is_open:
            return
        missing = set(self.lanes)

        def in_line(lane: Lane) -> None:
            missing.discard(lane)
            if not missing:
                self._sharing.be_counted(link, then=self._joined.set, on_closed=partial(self._on_channel_closed, None))

        self._sharing.begin(self._topics, self.lanes)
        for lane in self.lanes:
            self._attach(link, lane, in_line)
        link.connection.ioloop.call_later(LOOK_EVERY_S, lambda: self._look(link))

    def _attach(self, link: Link, lane: Lane, then: Callable[[Lane], None]) -> None:
        def on_open(channel: Channel) -> None:
            channel.add_on_cancel_callback(lambda _: channel.close())  # its queue was deleted: consuming again will tell
            channel.basic_qos(prefetch_count=self._prefetch)
            channel.basic_consume(lane.queue, lambda *message: self._on_message(lane, *message), callback=lambda _: then(lane))

        def on_closed(channel: Channel, error: Exception) -> None:
            self._on_channel_closed(lane, channel, error)
            then(lane)

        lane.channel = link.connection.channel(on_open_callback=on_open)
        lane.channel.add_on_close_callback(on_closed)

    def _on_message(self, lane: Lane, channel: Channel, method: Any, properties: BasicProperties, body: bytes) -> None:
        with self.news:
            if channel is lane.channel:
                lane.arrive(method.delivery_tag, method.routing_key, properties, body, redelivered=method.redelivered)
                self.news.notify()

    def _on_channel_closed(self, lane: Lane | None, channel: Channel, error: Exception) -> None:
        with self.news:
            if isinstance(error, ChannelClosedByBroker) and error.reply_code == 404:
                self.gone = lane.queue if lane else error.reply_text.partition("'")[2].partition("'")[0]
                self._joined.set()
                self.news.notify_all()
            if lane is not None and lane.channel is channel:
                lane.lose()
            elif lane is None and self._link is not None and not self.closed and self.gone is None:
                self._link.abort()  # we are not counted any more: join again

    def _on_lost(self, joined: threading.Event) -> None:
        with self.news:
            if self.lost:  # not an earlier one, that only ends now
                self._lose_all()
            joined.set()
            self.news.notify_all()

    def _lose_all(self) -> None:
        for lane in self.lanes:
            lane.lose()

    def _settle(self) -> None:
        with self.news:
            self._settling = False
            for lane in self.lanes:
                if lane.unsettled or lane.rejected:
                    lane.settle()
                self._sharing.let_go(lane)

    def _look(self, link: Link) -> None:
        """Once a second: be in line again for what we gave away, and give away what is more than our share."""
        if link is not self._link or self.closed or not link.connection.is_open:
            return
        for lane in self.lanes:
            if lane.channel is None and self.gone is None:
                with suppress(NoFreeChannels):  # those given back are still closing: at the next look
                    self._attach(link, lane, lambda _: None)
        self._sharing.look()
        link.connection.ioloop.call_later(LOOK_EVERY_S, lambda: self._look(link))

    @staticmethod
    def _give_back(lane: Lane) -> None:
        channel = lane.channel
        if channel is not None and channel.is_open:
            lane.settle()
            lane.lose()
            close_at_once(channel)

    def _give_all_back(self) -> None:
        with self.news:
            for lane in self.lanes:
                self._give_back(lane)

    @staticmethod
    def _ask_all(lanes: list[Lane], asked: list[threading.Event]) -> None:
        """Have each lane's channel answer something: what the broker gave it before has then arrived."""
        for lane, event in zip(lanes, asked, strict=True):
            if lane.channel is not None and lane.channel.is_open:
                lane.channel.queue_declare(lane.queue, passive=True, callback=lambda _, event=event: event.set())
            else:
                event.set()
