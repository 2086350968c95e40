"""What topics and groups are made of in RabbitMQ, and how they are made and found.

A topic's partitions are exchanges that copy to the queue of every group: ``orders#0``, ``orders#1``, … →
``orders#0#billing``, … (:mod:`reference.brokers.rabbitmq.names`). A key's partition is the CRC-32 of its UTF-8 bytes, modulo
their number: whoever publishes by that rule, in any language, keeps the key's order with all others. ``orders`` itself is for
those who do not care: an exchange that hashes the routing key to a partition, but to another one after the broker was started
again, since RabbitMQ rebuilds such an exchange's ring in no fixed order. Dead letters and delayed messages come through it.

Killed at any line, making a topic or joining a group is finished by whoever asks for the same next. Nobody publishes before
both are whole: ``orders#groups``, which lists the groups, is made last, and the publisher asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pika import exceptions

from reference.brokers.protocol import DeadLetters, UnknownGroup, UnknownTopic
from reference.brokers.rabbitmq.address import RabbitMQAddress
from reference.brokers.rabbitmq.asking import Asking, Conversation
from reference.brokers.rabbitmq.names import (
    check_group,
    check_topic,
    groups_exchange,
    lane_exchange,
    lane_queue,
    members_queue,
    passing_queue,
    waiting_queue,
)
from reference.brokers.rabbitmq.settings import ORDERED_ARGUMENTS, QUORUM_ARGUMENTS

__all__ = ["Topology", "lane_queue", "members_queue", "no_group"]

# RabbitMQ 4 drops what was delivered 20 times unless told otherwise. A lane's messages are all delivered again when a member
# goes, the innocent with the guilty, so no number is right; and this is the largest that both 3.x and 4.x take without
# reading it as a sign. Whoever wants an end to it asks for dead letters.
NO_DELIVERY_LIMIT: Final = 2_147_483_647
DURABLE: Final[Mapping[str, Any]] = {"x-queue-type": "quorum", "x-delivery-limit": NO_DELIVERY_LIMIT}
# A queue has one consumer at a time, and the next one gets what it had not acked, in order.
LANE: Final[Mapping[str, Any]] = {**DURABLE, **ORDERED_ARGUMENTS}
# A message stays in its queue until the one it is moved to has confirmed it.
MOVED_SAFELY: Final[Mapping[str, Any]] = {name: QUORUM_ARGUMENTS[name] for name in ("x-dead-letter-strategy", "x-overflow")}
INEQUIVALENT: Final = re.compile(
    r"inequivalent arg '(?P<argument>[^']*)' for (?P<what>\w+) '(?P<name>.*)' in vhost '.*': (?P<how>.*)"
)
KEPT_UNUSED_MS: Final = 24 * 3_600_000
LONGEST_MS: Final = 4_294_967_295 - KEPT_UNUSED_MS  # RabbitMQ keeps times in 32 bits


class Topology:
    """Asks and makes, on a connection of its own for each task; each question is answered within ``timeout_s``, or else
    ends in :class:`BrokerUnavailable`."""

    def __init__(self, address: RabbitMQAddress, *, timeout_s: float) -> None:
        self.address = address
        self._asking = Asking(address, timeout_s=timeout_s)

    def create_topic(self, name: str, partitions: int) -> None:
        """Make the topic, or what a killed maker left out of it; one that is there keeps its number of partitions."""
        if partitions < 1:
            raise ValueError(f"a topic has at least one partition, got {partitions}")
        check_topic(name)
        with self._asking.conversation() as ask:
            self._create(ask, name, partitions)

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has. Raises :class:`UnknownTopic`, and :class:`ValueError` where none can be."""
        with self._asking.conversation() as ask:
            return self._partitions(ask, topic)

    def lanes(self, topic: str) -> tuple[str, ...]:
        """The partitions' exchanges, to publish to. Raises :class:`UnknownTopic`, or :class:`UnknownGroup` where nothing
        would be kept."""
        with self._asking.conversation() as ask:
            count = self._partitions(ask, topic)
            if not ask.is_there(groups_exchange(topic)):
                raise UnknownGroup(no_group(topic))
        return tuple(_lanes(topic, count))

    def join(
        self, topics: Sequence[str], group: str, dead_letters: DeadLetters | None, *, before: Mapping[str, int] | None = None
    ) -> dict[str, int]:
        """Make the group's queues, unless they are there; by topic, how many partitions there are.

        ``before`` says how many there were when this member joined before: what is still there is not made once more.
        Raises :class:`UnknownTopic`, and :class:`ValueError` when they are there with other dead letters, or are too many.
        """
        check_group(group)
        with self._asking.conversation() as ask, _explained():
            counts = {topic: self._partitions(ask, topic) for topic in topics}
            self._demand_channels(ask, group, counts)
            return {
                topic: count if (before or {}).get(topic) == count and _is_listed(ask, topic, group)
                else self._join(ask, topic, group, dead_letters, count)
                for topic, count in counts.items()
            }  # fmt: skip

    def waiting_room(self, topic: str, delay_s: float) -> str:
        """The exchange that leads to ``topic`` after ``delay_s``: one queue for each delay, since a queue's messages leave
        it in the order they came, whatever their own time. Declaring it again keeps it for another day."""
        delay_ms = max(1, round(delay_s * 1000))
        if delay_ms > LONGEST_MS:
            raise ValueError(f"a delay of {delay_s:g} s is too long for RabbitMQ: at most {LONGEST_MS // 1000} s")
        name = waiting_queue(topic, delay_ms)
        arguments = {**DURABLE, "x-message-ttl": delay_ms, "x-dead-letter-exchange": topic, **MOVED_SAFELY,
                     "x-expires": delay_ms + KEPT_UNUSED_MS}  # fmt: skip
        with self._asking.conversation() as ask, _explained(), _surviving(ask, name):
            ask.channel.queue_declare(name, durable=True, arguments=arguments)
            ask.channel.exchange_declare(name, "fanout", durable=True, auto_delete=True)
            ask.channel.queue_bind(name, name)
        return name

    def depths(self, topics: Sequence[str], group: str) -> dict[tuple[str, int], tuple[int, bool]]:
        """By partition, the messages ready for ``group``, and whether a member may hold others. True at this moment.

        Raises :class:`UnknownTopic` and :class:`UnknownGroup`.
        """
        check_group(group)
        depths = {}
        with self._asking.conversation() as ask:
            lanes = [(topic, partition) for topic in topics for partition in range(self._partitions(ask, topic))]
            for topic, partition in lanes:
                try:
                    found = ask.channel.queue_declare(lane_queue(topic, partition, group), passive=True).method
                except exceptions.ChannelClosedByBroker as error:
                    raise self.unknown_group(topic, group) from error
                depths[topic, partition] = (int(found.message_count), bool(found.consumer_count))
        return depths

    def members(self, topic: str, group: str) -> int:
        """How many living members the group has."""
        with self._asking.conversation() as ask:
            return int(ask.channel.queue_declare(members_queue(topic, group), passive=True).method.consumer_count)

    def unknown_group(self, topic: str, group: str) -> UnknownGroup:
        return UnknownGroup(f"group {group!r} of topic {topic!r} has no queue at {self.address.url}: subscribe to make it")

    def _create(self, ask: Conversation, name: str, partitions: int) -> None:
        """One maker at a time: whoever had counted before another made more would make lanes that a group has no queue for."""
        with _explained(), ask.alone(name):
            count = self._count(ask, name)
            count = count if count and ask.is_there(name) else max(count, partitions)
            for lane in _lanes(name, count):
                ask.channel.exchange_declare(lane, "fanout", durable=True)
            ask.channel.exchange_declare(name, "x-consistent-hash", durable=True)
            _bind(ask, name, count)

    def _partitions(self, ask: Conversation, topic: str) -> int:
        check_topic(topic)
        count = self._count(ask, topic) if ask.is_there(topic) else 0
        if not count:
            raise UnknownTopic(f"topic {topic[:80]!r} does not exist at {self.address.url}: create it")
        return count

    def _count(self, ask: Conversation, topic: str) -> int:
        count = 0
        while ask.is_there(lane_exchange(topic, count)):
            count += 1
        return count

    def _demand_channels(self, ask: Conversation, group: str, counts: Mapping[str, int]) -> None:
        lanes = sum(counts.values())
        if lanes + 1 > ask.channel_max:  # one for being counted
            raise ValueError(
                f"group {group!r} would have {lanes} lanes, one for each partition of its topics, and a connection to "
                f"{self.address.url} has {ask.channel_max} channels (channel_max), one of which is the member's own: subscribe "
                "to fewer topics at a time, or raise channel_max in the broker's configuration and in the address"
            )

    def _join(self, ask: Conversation, topic: str, group: str, dead_letters: DeadLetters | None, count: int) -> int:
        """Until it has a queue for every lane there is: the topic may be deleted, and made again with more, meanwhile."""
        joined = 0
        while joined < count:
            _bind(ask, topic, count)  # its maker may have been killed before the last of them
            self._make_queues(ask, topic, group, self._arguments(ask, dead_letters, count), count)
            joined, count = count, self._partitions(ask, topic)
        return count

    def _arguments(self, ask: Conversation, dead_letters: DeadLetters | None, count: int) -> dict[str, Any]:
        if dead_letters is None:
            return dict(LANE)
        check_topic(dead_letters.topic)
        if not ask.is_there(dead_letters.topic):
            self._create(ask, dead_letters.topic, count)
        return {**LANE, "x-dead-letter-exchange": dead_letters.topic, **MOVED_SAFELY}

    def _make_queues(self, ask: Conversation, topic: str, group: str, arguments: dict[str, Any], count: int) -> None:
        members = members_queue(topic, group)
        with _surviving(ask, members):
            for partition, lane in enumerate(_lanes(topic, count)):
                queue = lane_queue(topic, partition, group)
                ask.channel.queue_declare(queue, durable=True, arguments=arguments)
                ask.channel.queue_bind(queue, lane)
            ask.channel.queue_declare(members, durable=True, arguments=DURABLE)
        _be_listed(ask, topic, group)


def no_group(topic: str) -> str:
    """What to tell whoever publishes to a topic that would keep nothing."""
    return f"no group has subscribed yet to topic {topic!r}: nothing would hold the message; subscribe once, then publish"


def _bind(ask: Conversation, topic: str, count: int) -> None:
    for lane in _lanes(topic, count):
        ask.channel.exchange_bind(lane, topic, "1")


def _be_listed(ask: Conversation, topic: str, group: str) -> None:
    """The last thing that is made for a group."""
    ask.channel.exchange_declare(groups_exchange(topic), "direct", durable=True)
    ask.channel.queue_bind(members_queue(topic, group), groups_exchange(topic), group)


def _is_listed(ask: Conversation, topic: str, group: str) -> bool:
    """Whether the group has the queue that is made last; then it is listed, once more."""
    if not ask.is_there(members_queue(topic, group), of="queue"):
        return False
    _be_listed(ask, topic, group)
    return True


@contextmanager
def _surviving(ask: Conversation, last: str) -> Iterator[None]:
    """Queues are made inside, this one last; have them survive a kill of the broker in the next moment.

    RabbitMQ 3.10 remembers a quorum queue only seconds later, or when it makes the next one: killed before, the one it
    made last comes back without a leader, and never answers again. So there is a next one.
    """
    new = not ask.is_there(last, of="queue")
    yield
    if new:
        next_one = passing_queue(last)
        ask.channel.queue_declare(next_one, durable=True, arguments={"x-queue-type": "quorum", "x-expires": 60_000})
        ask.channel.queue_delete(next_one)


def _lanes(topic: str, count: int) -> list[str]:
    return [lane_exchange(topic, partition) for partition in range(count)]


@contextmanager
def _explained() -> Iterator[None]:
    """An exchange or queue that is there with other arguments: which, and what to do."""
    try:
        yield
    except exceptions.ShortStringTooLong as error:
        raise ValueError("RabbitMQ takes names of at most 255 bytes: topic, partition and group together are longer") from error
    except exceptions.ChannelClosedByBroker as error:
        found = INEQUIVALENT.search(error.reply_text)
        if error.reply_code != 406 or found is None:
            raise
        raise ValueError(
            f"{found['what']} {found['name']!r} exists with another {found['argument']}: {found['how']}. Options of a group are "
            f"fixed by its first subscription: subscribe with the same, take another name, or delete the {found['what']}"
        ) from error
