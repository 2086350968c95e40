"""A consumer that can be paused by hand: it stays in its group and takes nothing, and lag grows."""

from __future__ import annotations

import threading

from reference.brokers import Delivery, Subscription
from reference.brokers.through import SubscriptionThrough

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

    @property
    def is_closed(self) -> bool:
        return not self._open.is_set()

    def guard(self, inner: Subscription) -> Subscription:
        return _Guarded(inner, self._open)


class _Guarded(SubscriptionThrough):
    def __init__(self, inner: Subscription, open_: threading.Event) -> None:
        super().__init__(inner)
        self._open = open_

    def receive(self, limit: int = 100, timeout_s: float = 1.0) -> list[Delivery]:
        if not self._open.wait(timeout_s):
            return []
        return super().receive(limit, min(timeout_s, 0.1))
