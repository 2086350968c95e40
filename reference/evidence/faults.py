"""Named, seeded faults: ordinary parts that break something at a point somebody chose.

Same seed, same faults. A fault counts how often it ``fired``, so that the damage can be compared with its cause.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from dataclasses import replace

from reference.brokers import Delivery, Subscription
from reference.evidence.history import History, Record

__all__ = ["Crash", "DeliverTwice", "crash", "kill"]


class Crash(BaseException):
    """The process is gone, as far as the code that was running can tell: no ``except Exception`` survives it."""


class crash:  # noqa: N801 - it reads as a verb: faults.crash("between the writes", every=10)
    """Raises :class:`Crash` once in ``every`` passes of a point, at a pass drawn from ``seed``; call it where the point is."""

    def __init__(self, name: str, *, every: int, seed: int = 0, history: History | None = None) -> None:
        self.name, self.every, self.fired = name, every, 0
        self._passes, self._unlucky, self._draw = 0, 0, random.Random(seed)
        self._history = history

    def __call__(self, *_: object) -> None:
        if self._passes % self.every == 0:
            self._unlucky = self._passes + self._draw.randrange(self.every)
        self._passes += 1
        if self._passes - 1 == self._unlucky:
            self.fired += 1
            if self._history is not None:  # an empty one is false
                self._history.add(Record(op="fault", note=self.name))
            raise Crash(self.name)


def kill(point: str, *, nth: int) -> Callable[..., None]:
    """For a process's ``at=``: SIGKILL to itself when it passes ``point`` for the ``nth`` time. Nothing is cleaned up."""
    passed = 0

    def at(name: str, *_: object) -> None:
        nonlocal passed
        passed += name == point
        if name == point and passed == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


class DeliverTwice:
    """A subscription that hands out every ``every``-th delivery a second time, as a broker may after a lost ack."""

    def __init__(self, inner: Subscription, *, every: int, seed: int = 0) -> None:
        self._inner, self._every, self.fired = inner, every, 0
        self._passes = random.Random(seed).randrange(every)

    def receive(self, limit: int = 100, timeout_s: float = 1.0) -> list[Delivery]:
        out: list[Delivery] = []
        for delivery in self._inner.receive(limit, timeout_s):
            out.append(delivery)
            self._passes += 1
            if self._passes % self._every == 0:
                self.fired += 1
                out.append(replace(delivery, attempt=2))
        return out

    def ack(self, delivery: Delivery) -> None:
        self._inner.ack(delivery)

    def nack(self, delivery: Delivery, *, delay_s: float = 0.0) -> None:
        self._inner.nack(delivery, delay_s=delay_s)

    def close(self) -> None:
        self._inner.close()
