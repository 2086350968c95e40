"""Who was subscribed through a broker and is still in use, and whether the broker has been closed: the same for every adapter.

Two threads may subscribe and close at once: a member is either given to whoever closes, or told here that it came too late.
Nothing is kept that the application has let go of.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Members"]

M = TypeVar("M")


class Members(Generic[M]):
    """Safe from any thread. ``is_closed`` makes the error to raise of a broker that was closed."""

    def __init__(self, is_closed: Callable[[], RuntimeError]) -> None:
        self._is_closed = is_closed
        self._lock = threading.Lock()
        self._members: weakref.WeakSet[M] = weakref.WeakSet()
        self._closed = False

    def demand_open(self) -> None:
        """Raise :class:`RuntimeError` once the broker was closed."""
        if self._closed:
            raise self._is_closed()

    def admit(self, member: M, *, close: Callable[[], None]) -> None:
        """Take it in; if the broker was closed meanwhile, by whom it was not seen, close it and raise :class:`RuntimeError`."""
        with self._lock:
            self._members.add(member)
            closed = self._closed
        if closed:
            close()
            self.demand_open()

    def here(self) -> list[M]:
        """Those who are in now."""
        with self._lock:
            return list(self._members)

    def shut(self) -> list[M]:
        """Admit nobody any more; those who are in, to be closed."""
        with self._lock:
            self._closed = True
            return list(self._members)
