"""One member of a consumer group: a stream for each topic, what it brought, and the leases on it.

Killed at any line: what was not acked at the service is delivered to another member when its lease has run out, within
ten seconds; after a close, at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from reference.brokers.protocol import BrokerUnavailable, DeadLetters, Delivery
from reference.brokers.pubsub.backlog import Backlog
from reference.brokers.pubsub.connection import PubSubConnection
from reference.brokers.pubsub.leases import Leases
from reference.brokers.pubsub.settings import SUBSCRIBER_FLOW
from reference.brokers.pubsub.stream import END_S, PubSubStream
from reference.brokers.pubsub.topology import PubSubTopology
from reference.brokers.pubsub.watch import Watch

__all__ = ["PubSubSubscription"]

WINDOW: Final = int(SUBSCRIBER_FLOW["max_messages"])
COUNTED_WINDOW: Final = 100  # where a member's leaving counts as a failure of all it held, it holds less


class PubSubSubscription:
    """See :class:`~reference.brokers.protocol.Subscription`. Acks reach the service within some ten milliseconds.

    Other partitions go on while one is held back by a nack, with a limit that the service sets: what waits behind the pause is
    leased, and counts against this member's window of 1,000 messages or 100 MB per topic (in a group with dead letters 100
    messages). Once the window is full of it, the service sends this member nothing of that topic until the pause is over.
    The emulator knows no such window, and sends all there is: there, memory is the limit.

    With ``?exactly_once=true`` the service confirms acks. One it refuses is logged and changes nothing else: the delivery
    comes again, as after any ack that came too late.
    """

    def __init__(
        self,
        connection: PubSubConnection,
        topology: PubSubTopology,
        subscriptions: Mapping[str, str],
        *,
        group: str,
        dead_letters: DeadLetters | None,
    ) -> None:
        after = dead_letters.after if dead_letters else None
        self._connection, self._topology, self._group = connection, topology, group
        self._backlog = Backlog(group, ordered=connection.address.ordered, after=after)
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._closed, self._leaving, self._left = threading.Event(), threading.Lock(), False
        self._watch = Watch(self._look, name=f"pubsub-watch {group}")
        self._leases = Leases(connection, self._backlog, self._lock, group=group)
        self._streams = {
            topic: PubSubStream(
                connection,
                path,
                window=WINDOW if after is None else COUNTED_WINDOW,
                arrived=partial(self._arrived, topic),
                look=partial(topology.look, topic, group),
                changed=self._changed,
            )
            for topic, path in subscriptions.items()
        }

    @property
    def handovers(self) -> int:
        """How often a stream was opened: the service says nothing of keys that move, and they do while there is none.

        A member that another one joins does not notice; a stream to the emulator is opened anew every quarter of a minute.
        """
        return sum(stream.opened for stream in self._streams.values())

    def receive(self, limit: int = 100, timeout_s: float = 1.0) -> list[Delivery]:
        """See the protocol. Raises :class:`UnknownTopic` or :class:`UnknownGroup` when one was deleted, and
        :class:`BrokerUnavailable` while it has been away for longer than the broker's ``timeout_s``.
        """
        deadline = time.monotonic() + timeout_s
        self._leases.used_at = time.monotonic()
        with self._news:
            if self._closed.is_set():
                raise RuntimeError("this subscription is closed: subscribe again")
            while not (taken := self._take(limit)):
                self._raise_what_is_lost()
                if (left := deadline - time.monotonic()) <= 0:
                    break
                self._news.wait(self._at_most(left))
                if self._closed.is_set():  # while we waited; what has arrived meanwhile is another member's
                    return []
        if not taken:
            self._watch.ask()
            self._raise_trouble()
        return taken

    def ack(self, delivery: Delivery) -> None:
        with self._lock:
            self._backlog.ack(delivery)
            self._pay()

    def nack(self, delivery: Delivery, *, delay_s: float = 0.0) -> None:
        """See the protocol. In a group with dead letters the service gets the message back, and counts; its bucket waits."""
        with self._lock:
            self._backlog.nack(delivery, now=time.monotonic(), delay_s=delay_s)
            self._pay()

    def stop(self) -> None:
        """Receive nothing more; :meth:`close` does the rest."""
        with self._news:
            self._closed.set()
            self._news.notify_all()
        for stream in self._streams.values():
            stream.stop()

    def close(self, *, by: float | None = None) -> None:
        """Leave the group; another member has at once what was not acked.

        It takes until ``by`` on the monotonic clock at most, or the broker's ``timeout_s``. What the service has not answered
        by then is left to the leases, and acks that it did not get are deliveries that come again.
        """
        self.stop()
        by = time.monotonic() + self._connection.timeout_s if by is None else by
        # Whoever comes second waits for the first: a broker must not go away under a member that still settles its acks.
        if not self._leaving.acquire(timeout=max(0.0, by - time.monotonic())):
            return
        try:
            if not self._left:
                self._leave(by)
        finally:
            self._left = True
            self._leaving.release()

    def _leave(self, by: float) -> None:
        # First the streams end, so that nothing given back is sent to us again, and nothing is on its way for nobody.
        now = time.monotonic()
        half = now + (by - now) / 2  # the other half is for what is owed
        for stream in self._streams.values():
            stream.join(cut_at=min(now + END_S, now + (half - now) / 2), by=half)
        with self._lock:
            self._backlog.leave()
        self._leases.close(by=by)

    def _take(self, limit: int) -> list[Delivery]:
        taken = self._backlog.take(limit, time.monotonic())
        self._pay()
        return taken

    def _pay(self) -> None:
        if self._backlog.to_ack or self._backlog.to_give_back:
            self._leases.wake()

    def _at_most(self, left: float) -> float:
        change = self._backlog.next_change()
        return left if change is None else min(left, max(0.0, change - time.monotonic()))

    def _arrived(self, topic: str, messages: Sequence[Any]) -> None:
        """Take all that is sent: what a stream had that was not read to its end, the emulator never sends again."""
        with self._news:
            for received in messages:
                self._backlog.arrived(topic, received)
            self._news.notify_all()

    def _changed(self) -> None:
        with self._news:
            self._news.notify_all()

    def _raise_what_is_lost(self) -> None:
        for stream in self._streams.values():
            if stream.lost is not None:
                raise stream.lost
        if self._watch.lost is not None:
            raise self._watch.lost

    def _raise_trouble(self) -> None:
        for stream in self._streams.values():
            if (trouble := stream.trouble) and time.monotonic() - trouble[0] > self._connection.timeout_s:
                why = trouble[1]
                raise BrokerUnavailable(f"{self._connection.url} sends nothing to group {self._group!r}: {why}") from why
        if self._watch.unanswered is not None:
            raise self._watch.unanswered

    def _look(self) -> None:
        """A deleted topic's subscription stays, and brings nothing: to the stream it is silence, so we ask while it is silent."""
        for topic, stream in self._streams.items():
            if stream.trouble is None and not self._closed.is_set():
                self._topology.look(topic, self._group)
