"""How the members of a RabbitMQ consumer group come to equal shares, with nobody who tells them.

Each is a consumer of the group's members' queue, which counts them; and once a second each asks how many there are, and gives
away what is more than its share. All of it runs on the connection's thread. Killed at any line: the broker counts one fewer.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pika.channel import Channel

from reference.brokers.rabbitmq.lane import Lane
from reference.brokers.rabbitmq.link import Link
from reference.brokers.rabbitmq.names import members_queue

__all__ = ["Sharing"]


class Sharing:
    """``news`` guards the lanes; ``give_back`` takes a lane that is to go to another member."""

    def __init__(self, group: str, *, news: threading.Condition, give_back: Callable[[Lane], None]) -> None:
        self._group, self._news, self._give_back = group, news, give_back
        self._topics: Mapping[str, int] = {}
        self._lanes: Sequence[Lane] = ()
        self._control: Channel | None = None
        self._hungry = Counter[str]()  # by topic of which we have no lane: how often we are counted beside the first time
        self._counted = dict[str, int]()  # by topic: how many the broker said there are

    def begin(self, topics: Mapping[str, int], lanes: Sequence[Lane]) -> None:
        """On a new connection: nobody counts us yet."""
        self._topics, self._lanes, self._control = topics, lanes, None
        self._hungry.clear()
        self._counted.clear()

    def be_counted(self, link: Link, *, then: Callable[[], None], on_closed: Callable[[Channel, Exception], None]) -> None:
        """Among the members, from here on; called again, it does nothing."""

        def on_open(channel: Channel) -> None:
            channel.add_on_close_callback(on_closed)
            for topic in self._topics:
                channel.basic_consume(self._members(topic), lambda *_: None, auto_ack=True, callback=lambda _: then())

        if self._control is None and link.connection.is_open:  # a connection that is lost while we join closes our lanes first
            self._control = link.connection.channel(on_open_callback=on_open)

    def counted(self, topic: str) -> int:
        """How often this member is among the consumers of the group's members' queue."""
        return (topic in self._topics) + self._hungry[topic]

    def look(self) -> None:
        """Who else is in the group, and is that our share?"""
        if self._control is not None and self._control.is_open:
            for topic in self._topics:
                self._say_if_hungry(self._control, topic)
                self._control.queue_declare(self._members(topic), passive=True, callback=partial(self._share, topic))

    def let_go(self, lane: Lane) -> None:
        """Give a lane away, once nothing of it is with the application; at the next look we are in line for it again."""
        if lane.leaving and not lane.handed and lane.resume_at <= time.monotonic():
            self._give_back(lane)

    def _say_if_hungry(self, control: Channel, topic: str) -> None:
        """Who has nothing is counted once more at every look: shares get smaller, until somebody gives it something.

        With six lanes for four members, rounded up, three would else have two each for ever. When shares are one lane, it is
        enough: there are more members than lanes that have anything to do.
        """
        if any(lane.active for lane in self._lanes if lane.topic == topic):
            for n in range(self._hungry.pop(topic, 0)):
                control.basic_cancel(_tag(topic, n))
        elif self._counted.get(topic, 0) < self._topics[topic]:
            control.basic_consume(
                self._members(topic), lambda *_: None, auto_ack=True, consumer_tag=_tag(topic, self._hungry[topic])
            )  # fmt: skip
            self._hungry[topic] += 1

    def _share(self, topic: str, answer: Any) -> None:
        """Give away what is more than our share, rounded up: first what is leaving already, then what has least to do."""
        self._counted[topic] = answer.method.consumer_count
        with self._news:
            active = [lane for lane in self._lanes if lane.topic == topic and lane.active]
            surplus = len(active) - math.ceil(self._topics[topic] / max(1, answer.method.consumer_count))
            for n, lane in enumerate(sorted(active, key=lambda lane: (not lane.leaving, len(lane.unsettled)))):
                lane.leaving = n < surplus
                self.let_go(lane)

    def _members(self, topic: str) -> str:
        return members_queue(topic, self._group)


def _tag(topic: str, number: int) -> str:
    return f"hungry {number} {topic}"
