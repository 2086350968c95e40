"""A subscription that keeps deliveries back for a while: the base of the faults that repeat and reorder.

Killed or closed at any time, nothing is lost: what is kept back was never acked, and comes again.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable

from reference.brokers import Delivery, Subscription
from reference.brokers.through import SubscriptionThrough
from reference.evidence.history import History, Record

__all__ = ["Firing", "Holding"]

Place = tuple[str, int]


class Firing(SubscriptionThrough):
    """A fault around a subscription: ``fired`` counts how often it happened, and ``history`` has each time under its ``name``."""

    def __init__(self, inner: Subscription, *, name: str, history: History | None) -> None:
        super().__init__(inner)
        self.name, self.fired = name, 0
        self._history = history

    def fire(self) -> None:
        """It happens now."""
        self.fired += 1
        if self._history is not None:  # an empty one is false
            self._history.add(Record(op="fault", note=self.name))


class Owed:
    """What the broker was not told of yet, by all that the fault next to it has received: a nack makes it come again.

    A nack of anything else, because it was acked or its partition has changed hands, does nothing at the broker. Which
    partitions those are is not known, so after a handover whatever was received before is taken to be owed no more.
    """

    def __init__(self, inner: Subscription) -> None:
        self._inner = inner
        self._offsets: dict[Place, set[int]] = {}
        self._handovers = inner.handovers

    def received(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self._offsets.setdefault(_place(delivery), set()).add(delivery.offset)

    def acked(self, delivery: Delivery) -> None:
        self._offsets.get(_place(delivery), set()).discard(delivery.offset)

    def nacked(self, delivery: Delivery) -> None:
        """This, and all behind it, comes again."""
        place = _place(delivery)
        self._offsets[place] = {other for other in self._offsets.get(place, ()) if other < delivery.offset}

    def __contains__(self, delivery: Delivery) -> bool:
        self.look()
        return delivery.offset in self._offsets.get(_place(delivery), ())

    def look(self) -> None:
        """Notice a handover."""
        if self._handovers != (now := self._inner.handovers):
            self._handovers = now
            self._offsets.clear()


class Holding(Firing):
    """Keeps back what :meth:`hold` is given, until :meth:`release`.

    A nack makes its partition come again from there, so what is kept back from behind it is dropped: else it would be
    handed out before what is tried again, and then once more. But nothing is dropped that might not come again: only the
    fault next to the broker knows what is owed to it, since to those around it a repetition looks like any delivery, and
    they ask it. What is then handed out is at worst a duplicate, as a broker may deliver it at any time.
    """

    def __init__(self, inner: Subscription, *, name: str, history: History | None) -> None:
        super().__init__(inner, name=name, history=history)
        self._held: list[tuple[float, int, Delivery]] = []  # a heap: by rank, and then as they came
        self._count = 0
        within = _holding(inner)
        self._owed: Owed = within._owed if within else Owed(inner)
        self._next_to_the_broker = within is None
        self._closed = False

    def ack(self, delivery: Delivery) -> None:
        super().ack(delivery)
        if self._next_to_the_broker:
            self._owed.acked(delivery)

    def nack(self, delivery: Delivery, *, delay_s: float = 0.0) -> None:
        if delivery in self._owed:
            place = _place(delivery)
            self._held = [held for held in self._held if _place(held[2]) != place or held[2].offset < delivery.offset]
            heapq.heapify(self._held)
            if self._next_to_the_broker:
                self._owed.nacked(delivery)
        super().nack(delivery, delay_s=delay_s)

    def close(self) -> None:
        self._closed = True
        super().close()

    def fetch(self, limit: int, timeout_s: float) -> list[Delivery]:
        """What the subscription inside has."""
        if not self._next_to_the_broker:
            return self._inner.receive(limit, timeout_s)
        self._owed.look()  # before: a handover that happens meanwhile is then seen the next time
        deliveries = self._inner.receive(limit, timeout_s)
        self._owed.received(deliveries)
        return deliveries

    def hold(self, delivery: Delivery, *, rank: float) -> None:
        """Keep it back; the lowest rank is released first."""
        self._count += 1
        heapq.heappush(self._held, (rank, self._count, delivery))

    def release(self, limit: int, *, up_to: float = math.inf) -> list[Delivery]:
        """Up to ``limit`` of those whose rank is ``up_to`` at most. Of a closed subscription nothing is handed out."""
        out: list[Delivery] = []
        while self._held and len(out) < limit and self._held[0][0] <= up_to and not self._closed:
            out.append(heapq.heappop(self._held)[2])
        return out


def _holding(inner: Subscription) -> Holding | None:
    """The next one inside that keeps something back, whatever stands between."""
    while isinstance(inner, SubscriptionThrough):
        if isinstance(inner, Holding):
            return inner
        inner = inner.inner
    return None


def _place(delivery: Delivery) -> Place:
    return delivery.topic, delivery.partition
