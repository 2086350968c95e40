"""What a member owes the service: acks, what it gives back, and word that it is still at work on the rest.

Killed at any line: an ack that had not arrived is a delivery that comes again, and every lease runs out by itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from google.api_core import exceptions as errors

from reference.brokers.pubsub.backlog import Backlog
from reference.brokers.pubsub.connection import CLOSED, PASSING, PubSubConnection
from reference.brokers.pubsub.held import Held
from reference.brokers.pubsub.topology import LEASE_S

__all__ = ["Leases"]

EXTEND_EVERY_S: Final = LEASE_S / 4
GATHER_S: Final = 0.01
AGAIN_S: Final = 0.2
REQUEST_S: Final = LEASE_S / 2
IDS: Final = 1_000  # a request holds 512 KiB, and an id can have some 200 bytes
IDLE_S: Final = 3600.0  # who has not asked for so long is stuck: let another member have them

log = logging.getLogger(__name__)


class Leases:
    """One thread. ``lock`` guards ``backlog``; :meth:`wake` is called, under it, when the backlog owes something."""

    def __init__(self, connection: PubSubConnection, backlog: Backlog, lock: threading.Lock, *, group: str) -> None:
        self._connection, self._backlog, self._lock, self._group = connection, backlog, lock, group
        self._owing = threading.Event()
        self._ending = threading.Event()
        self._by, self._extended_at = float("inf"), time.monotonic()
        self.used_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"pubsub-leases {group}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        if not self._owing.is_set():
            self._owing.set()

    def close(self, *, by: float) -> None:
        """Settle what is owed, until ``by`` on the monotonic clock if nobody answers, and stop."""
        self._by = by
        self._ending.set()
        self._owing.set()
        self._thread.join(max(0.0, by - time.monotonic()))
        while time.monotonic() < by and not self._settle():
            time.sleep(GATHER_S)

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._round()
            except Exception as error:  # a thread that ended in silence would leave a member whose acks nobody hears
                log.warning("the leases of group %s go on after an error of their own: %r", self._group, error)
                self._ending.wait(AGAIN_S)
                self._owing.set()

    def _round(self) -> None:
        if self._owing.wait(max(0.0, self._extended_at + EXTEND_EVERY_S - time.monotonic())) and self._ending.wait(GATHER_S):
            return
        self._owing.clear()
        if not self._settle():
            self._ending.wait(AGAIN_S)
            self._owing.set()
        if time.monotonic() - self._extended_at >= EXTEND_EVERY_S:
            self._extended_at = time.monotonic()
            if self._extended_at - self.used_at < IDLE_S:
                self._extend()

    def _settle(self) -> bool:
        """One attempt; False if something is still owed, because nobody answered."""
        with self._lock:
            acks, self._backlog.to_ack = self._backlog.to_ack, []
            backs, self._backlog.to_give_back = self._backlog.to_give_back, []
        acks_left, backs_left = acks, backs  # all of it, after an error that nobody expected
        try:
            acks_left = [held for some in _by_topic(acks) for held in self._ack(some)]
            backs_left = [held for some in _by_topic(backs) for held in self._give_back(some)]
        finally:
            with self._lock:
                self._backlog.to_ack[:0] = acks_left
                self._backlog.to_give_back[:0] = backs_left
        return not acks_left and not backs_left

    def _ack(self, some: Sequence[Held]) -> list[Held]:
        """Return those to be acked again. One refused for good comes again: its lease had run out."""
        ids = [held.ack_id for held in some]
        try:
            self._connection.subscriber.acknowledge(subscription=self._of(some), ack_ids=ids, **self._patience)
        except PASSING:
            return list(some)
        except errors.GoogleAPICallError as error:
            fates = _fates(error)
            for held in some:
                if fates.get(held.ack_id, "").startswith("PERMANENT"):
                    log.info("the ack of %s was too late, it comes again: %s", held.delivery.where, fates[held.ack_id])
            return [held for held in some if fates.get(held.ack_id, "").startswith("TRANSIENT")]
        except CLOSED:  # so are we, and the leases run out
            return []
        return []

    def _give_back(self, some: Sequence[Held]) -> list[Held]:
        try:
            self._modify(some[0].delivery.topic, [held.ack_id for held in some], 0)
        except PASSING:
            return list(some)
        except (errors.GoogleAPICallError, *CLOSED):  # too late: they are somebody else's already
            return []
        return []

    def _extend(self) -> None:
        with self._lock:
            leases = self._backlog.leases()
        for topic, ids in leases.items():
            for some in _parts(ids):
                try:
                    self._modify(topic, some, LEASE_S)
                except (errors.GoogleAPICallError, *CLOSED) as error:  # the next time, or they are delivered again
                    log.debug("leases of %s not extended: %s", topic, error)

    def _modify(self, topic: str, ids: list[str], seconds: int) -> None:
        self._connection.subscriber.modify_ack_deadline(
            subscription=self._connection.subscription(topic, self._group),
            ack_ids=ids,
            ack_deadline_seconds=seconds,
            **self._patience,
        )

    @property
    def _patience(self) -> dict[str, Any]:
        """Of one attempt: whatever is asked while closing ends with it."""
        return {"retry": None, "timeout": min(REQUEST_S, self._connection.timeout_s, max(0.001, self._by - time.monotonic()))}

    def _of(self, some: Sequence[Held]) -> str:
        return self._connection.subscription(some[0].delivery.topic, self._group)


def _by_topic(held: Iterable[Held]) -> Iterator[list[Held]]:
    topics: dict[str, list[Held]] = {}
    for one in held:
        topics.setdefault(one.delivery.topic, []).append(one)
    for some in topics.values():
        yield from _parts(some)


def _parts(some: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(some), IDS):
        yield some[start : start + IDS]


def _fates(error: errors.GoogleAPICallError) -> dict[str, str]:
    """What became of each ack id, as a subscription with exactly-once delivery tells."""
    return {name: text for detail in error.details for name, text in getattr(detail, "metadata", {}).items()}
