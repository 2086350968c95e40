"""A consumer that can be paused by hand: it stays in its group and takes nothing, and lag grows."""

from __future__ import annotations

import threading

from reference.brokers import Delivery, Subscription

__all__ = ["Pause"]


class Pause:
    """A gate: while it is closed, no subscription it guards takes anything."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def guard(self, inner: Subscription) -> Subscription:
        return _Guarded(inner, self._open)


class _Guarded:
    def __init__(self, inner: Subscription, open_: threading.Event) -> None:
        self._inner, self._open = inner, open_

    def receive(self, limit: int = 100, timeout_s: float = 1.0) -> list[Delivery]:
        if not self._open.wait(timeout_s):
            return []
        return self._inner.receive(limit, min(timeout_s, 0.1))

    def ack(self, delivery: Delivery) -> None:
        self._inner.ack(delivery)

    def nack(self, delivery: Delivery, *, delay_s: float = 0.0) -> None:
        self._inner.nack(delivery, delay_s=delay_s)

    def close(self) -> None:
        self._inner.close()
