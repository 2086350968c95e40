"""Faults between a broker and its consumer, each a subscription around another: they may be put one around the other.

What enters is what the subscription inside delivers; what leaves is what a consumer must be able to take: repeated, late,
in another order, or with an ack that never arrived. Same seed and same deliveries, same faults. Nothing is ever lost:
what is kept back was not acked, and comes again when the member leaves or is killed.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace

from reference.brokers import Delivery, Subscription
from reference.evidence.faults.chance import OnceIn
from reference.evidence.faults.holding import Firing, Holding
from reference.evidence.history import History

__all__ = ["Delay", "DeliverTwice", "DropAcks", "Shuffle"]


class DeliverTwice(Holding):
    """Hands out every ``every``-th delivery a second time, right behind the first, as a broker may after a lost ack.

    ``seed`` decides where it begins. Raises :class:`ValueError` when ``every`` is less than 1.
    """

    def __init__(
        self, inner: Subscription, *, every: int, seed: int = 0, history: History | None = None, name: str = "deliver twice"
    ) -> None:
        super().__init__(inner, name=name, history=history)
        self._every = OnceIn(every).every
        self._passes = random.Random(seed).randrange(every)

    def receive(self, limit: int = 100, timeout_s: float = 1.0) -> list[Delivery]:
        out = self.release(limit)
        if len(out) < limit:
            for delivery in self.fetch(limit - len(out), 0.0 if out else timeout_s):
                self._pass_on(delivery)
            out += self.release(limit - len(out))
        return out

    def _pass_on(self, delivery: Delivery) -> None:
        self.hold(delivery, rank=0)
        self._passes += 1
        if self._passes % self._every == 0:
            self.fire()
            self.hold(replace(delivery, attempt=(delivery.attempt or 1) + 1), rank=0)


class DropAcks(Firing):
    """Loses one in ``every`` acks: the broker never hears of it, and delivers again when this member has left.

    Where acks are a position, as on Kafka, all that came behind it in its partition is delivered again with it. A member
    that stays for long fills its window with what it seems not to have acked, and is sent nothing more. Raises
    :class:`ValueError` when ``every`` is less than 1.
    """

    def __init__(
        self, inner: Subscription, *, every: int, seed: int = 0, history: History | None = None, name: str = "drop the ack"
    ) -> None:
        super().__init__(inner, name=name, history=history)
        self._hit = OnceIn(every, seed=seed)

    def ack(self, delivery: Delivery) -> None:
        if self._hit():
            self.fire()
        else:
            super().ack(delivery)


class Delay(Holding):
    """Keeps a ``share`` of the deliveries back, each for a time between 0 and ``up_to_s`` seconds; others overtake them.

    Which, and for how long, is drawn for each delivery as it comes. Raises :class:`ValueError` when ``up_to_s`` is negative,
    or ``share`` is not between 0 and 1.
    """

    def __init__(
        self,
        inner: Subscription,
        *,
        up_to_s: float,
        share: float = 1.0,
        seed: int = 0,
        history: History | None = None,
        name: str = "delay",
    ) -> None:
        if up_to_s < 0:
            raise ValueError(f"a delay is up to 0 s or more, not {up_to_s:g} s")
        if not 0 <= share <= 1:
            raise ValueError(f"a share of the deliveries is between 0 and 1, not {share:g}")
        super().__init__(inner, name=name, history=history)
        self._up_to_s, self._share, self._draw = up_to_s, share, random.Random(seed)

    def receive(self, limit: int = 100, timeout_s: float = 1.0) -> list[Delivery]:
        until = time.monotonic() + timeout_s
        while True:
            out = self.release(limit, up_to=time.monotonic())
            if len(out) < limit:
                fresh = self.fetch(limit - len(out), 0.0 if out else self._next_s(until))
                out += [delivery for delivery in fresh if not self._keeps(delivery)]
            if out or self._closed or time.monotonic() >= until:
                return out

    def _next_s(self, until: float) -> float:
        """How long to wait at most, so that what is due is handed out in time."""
        return max(0.0, min([until, *(rank for rank, _, _ in self._held[:1])]) - time.monotonic())

    def _keeps(self, delivery: Delivery) -> bool:
        unlucky, for_s = self._draw.random() < self._share, self._draw.uniform(0, self._up_to_s)
        if unlucky:
            self.fire()
            self.hold(delivery, rank=time.monotonic() + for_s)
        return unlucky


class Shuffle(Holding):
    """Puts each ``window`` of deliveries into another order, drawn from ``seed``; none leaves its window.

    A window that is not full when nothing more comes within the timeout is handed out as far as it has come. ``fired``
    counts what was shuffled at a time. Raises :class:`ValueError` when ``window`` is less than 1.
    """

    def __init__(
        self, inner: Subscription, *, window: int = 50, seed: int = 0, history: History | None = None, name: str = "shuffle"
    ) -> None:
        if window < 1:
            raise ValueError(f"a window holds 1 delivery or more, not {window}")
        super().__init__(inner, name=name, history=history)
        self._window, self._draw, self._seen = window, random.Random(seed), 0

    def receive(self, limit: int = 100, timeout_s: float = 1.0) -> list[Delivery]:
        if self._closed or not self._held:
            self._gather(timeout_s)
        return self.release(limit)

    def _gather(self, timeout_s: float) -> None:
        """Each delivery draws its rank as it comes, so the order does not hang on how many came at a time."""
        until, room = time.monotonic() + timeout_s, self._window - self._seen % self._window
        while room and (fresh := self.fetch(room, max(0.0, until - time.monotonic()))):
            for delivery in fresh:
                self.hold(delivery, rank=self._draw.random())
            self._seen += len(fresh)
            room -= len(fresh)
        if sorted(self._held, key=lambda held: held[1]) != sorted(self._held):
            self.fire()
