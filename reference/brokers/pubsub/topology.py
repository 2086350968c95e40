"""Topics, the subscriptions that stand for groups, and where in time they stand.

Killed at any line: every step is safe to take again, and a group exists once its subscription does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from google.api_core import exceptions as errors
from google.pubsub_v1 import types

from reference.brokers.protocol import DeadLetters, NotOffered, UnknownGroup, UnknownTopic
from reference.brokers.pubsub.connection import PubSubConnection
from reference.brokers.pubsub.options import differences, filter_text
from reference.brokers.pubsub.settings import SUBSCRIPTION

__all__ = ["LEASE_S", "PubSubTopology", "refusal_of_name"]

NAME: Final = re.compile(r"(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{2,254}")
LEASE_S: Final = 10  # the shortest there is: for so long a killed member's messages are out of reach
KEPT_S: Final = int(SUBSCRIPTION["message_retention_duration"].total_seconds())  # how far back a rewind reaches
DELETED: Final = "_deleted-topic_"
ATTEMPTS: Final = range(5, 101)


class PubSubTopology:
    """Each question is answered within the connection's ``timeout_s`` or ended by :class:`BrokerUnavailable`."""

    def __init__(self, connection: PubSubConnection) -> None:
        self._connection = connection

    def create_topic(self, name: str) -> None:
        if reason := refusal_of_name(name):
            raise ValueError(f"topic {name[:80]!r} cannot exist at {self._connection.url}: {reason}")
        with self._connection.asking(f"create topic {name!r}"):
            try:
                path = self._connection.topic(name)
                self._connection.publisher.create_topic(name=path, **self._connection.patience)
            except errors.AlreadyExists:
                return

    def has_groups(self, topic: str) -> bool:
        """Whether a message published now would be kept for anybody. Raises :class:`UnknownTopic`."""
        self._check_name(topic)
        with self._connection.asking(f"list the subscriptions of topic {topic!r}"):
            try:
                request = types.ListTopicSubscriptionsRequest(topic=self._connection.topic(topic), page_size=1)
                found = self._connection.publisher.list_topic_subscriptions(request, **self._connection.patience)
                if any(True for _ in found):
                    return True
            except errors.NotFound as error:
                raise self._unknown(topic) from error
            self._check_topic(topic)  # of a topic that does not exist the emulator answers with an empty list
            return False

    def join(self, topic: str, group: str, *, dead_letters: DeadLetters | None, only: Mapping[str, str]) -> str:
        """The subscription of ``group``, made if it is not there; :class:`ValueError` if it was made with other options."""
        self._check_name(topic)
        self._check_group(topic, group)
        wanted = self._subscription(topic, group, only)
        if dead_letters is not None:
            self._add_dead_letters(wanted, group, dead_letters)
        with self._connection.asking(f"join group {group!r} of topic {topic!r}"):
            found = self._found(wanted.name)
            if found is not None and found.topic == DELETED:  # what it still held went with the topic it belonged to
                self._connection.subscriber.delete_subscription(subscription=wanted.name, **self._connection.patience)
                found = None
            if found is None:
                found = self._created(wanted, topic)
        if others := differences(found, wanted):
            raise ValueError(
                f"subscription {wanted.name} at {self._connection.url} was made with other options:"
                f" {'; '.join(others)}; use another group, or delete the subscription"
            )
        return wanted.name

    def look(self, topic: str, group: str) -> None:
        """Nothing, if messages can still come. Raises :class:`UnknownTopic` or :class:`UnknownGroup` if not."""
        with self._connection.asking(f"look for group {group!r} of topic {topic!r}"):
            found = self._found(self._connection.subscription(topic, group))
            if found is None:
                self._check_topic(topic)
                raise self._unknown_group(topic, group)
        if found.topic == DELETED:
            raise UnknownTopic(f"topic {topic!r} was deleted at {self._connection.url}: create it, and subscribe again")

    def seek(self, topic: str, group: str, *, to: datetime | str) -> None:
        """Set the group to a time, or to a snapshot by name."""
        request = types.SeekRequest(subscription=self._connection.subscription(topic, group))
        if isinstance(to, datetime):
            if to.tzinfo is None:
                raise ValueError(f"a time to rewind to carries its UTC offset: {to.isoformat()} has none")
            request.time = to
        else:
            request.snapshot = self._snapshot(to)
        with self._connection.asking(f"rewind group {group!r} of topic {topic!r}"):
            self.look(topic, group)
            try:
                self._connection.subscriber.seek(request, **self._connection.patience)
            except errors.NotFound as error:
                raise LookupError(f"snapshot {to} does not exist at {self._connection.url}, or has expired") from error

    def snapshot(self, topic: str, group: str, *, name: str) -> None:
        with self._connection.asking(f"take snapshot {name!r} of group {group!r} of topic {topic!r}"):
            self.look(topic, group)
            self._connection.subscriber.create_snapshot(
                name=self._snapshot(name), subscription=self._connection.subscription(topic, group), **self._connection.patience
            )

    def _subscription(self, topic: str, group: str, only: Mapping[str, str]) -> types.Subscription:
        return types.Subscription(
            name=self._connection.subscription(topic, group),
            topic=self._connection.topic(topic),
            enable_message_ordering=self._connection.address.ordered,
            enable_exactly_once_delivery=self._connection.address.exactly_once,
            ack_deadline_seconds=LEASE_S,
            retain_acked_messages=True,  # for a rewind; what is kept is stored, and billed, for as long
            message_retention_duration={"seconds": KEPT_S},
            expiration_policy={},  # a group nobody joined for a month must not lose its place
            filter=filter_text(only),
        )

    def _add_dead_letters(self, wanted: types.Subscription, group: str, dead_letters: DeadLetters) -> None:
        if dead_letters.after not in ATTEMPTS:
            raise NotOffered(
                f"{self._connection.url} moves a message to the dead letters after 5 to 100 deliveries, not {dead_letters.after}"
            )
        # What arrives at a topic without a subscription is dropped, so the failing group keeps its own dead letters.
        self.create_topic(dead_letters.topic)
        self.join(dead_letters.topic, group, dead_letters=None, only={})
        path = self._connection.topic(dead_letters.topic)
        wanted.dead_letter_policy = types.DeadLetterPolicy(dead_letter_topic=path, max_delivery_attempts=dead_letters.after)

    def _found(self, subscription: str) -> types.Subscription | None:
        try:
            return self._connection.subscriber.get_subscription(subscription=subscription, **self._connection.patience)
        except errors.NotFound:
            return None

    def _created(self, wanted: types.Subscription, topic: str) -> types.Subscription:
        try:
            return self._connection.subscriber.create_subscription(wanted, **self._connection.patience)
        except errors.NotFound as error:
            raise self._unknown(topic) from error
        except errors.AlreadyExists:  # another member was faster
            return self._connection.subscriber.get_subscription(subscription=wanted.name, **self._connection.patience)

    def _check_topic(self, topic: str) -> None:
        self._check_name(topic)
        try:
            self._connection.publisher.get_topic(topic=self._connection.topic(topic), **self._connection.patience)
        except errors.NotFound as error:
            raise self._unknown(topic) from error

    def _check_name(self, topic: str) -> None:
        if reason := refusal_of_name(topic):
            raise UnknownTopic(f"topic {topic[:80]!r} cannot exist at {self._connection.url}: {reason}")

    def _check_group(self, topic: str, group: str) -> None:
        if reason := refusal_of_name(f"{topic}.{group}") or ("" if group else "it is empty"):
            raise ValueError(f"group {group[:80]!r} cannot exist at {self._connection.url}: {topic}.{group}: {reason}")

    def _unknown(self, topic: str) -> UnknownTopic:
        return UnknownTopic(f"topic {topic!r} does not exist at {self._connection.url}: create it")

    def _unknown_group(self, topic: str, group: str) -> UnknownGroup:
        return UnknownGroup(f"group {group!r} of topic {topic!r} does not exist at {self._connection.url}: subscribe once")

    def _snapshot(self, name: str) -> str:
        return f"projects/{self._connection.address.project}/snapshots/{name}"


def refusal_of_name(name: str) -> str:
    """Why Pub/Sub takes no topic or subscription of this name, or nothing."""
    if NAME.fullmatch(name):
        return ""
    return "Pub/Sub takes 3 to 255 letters, digits and -._~+%, the first a letter, and none that begin with goog"
