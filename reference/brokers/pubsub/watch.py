"""Asking, while nothing comes, whether anything still can: on the side, so that nobody who receives waits for the answer.

Nothing is kept, and nothing is lost when killed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from reference.brokers.protocol import BrokerUnavailable, UnknownGroup, UnknownTopic
from reference.brokers.pubsub.connection import CLOSED

__all__ = ["Watch"]

LOOK_EVERY_S: Final = 2.0


class Watch:
    """``look`` raises when nothing can come any more, or nobody answers. ``lost`` and ``unanswered`` are its last words."""

    def __init__(self, look: Callable[[], None], *, name: str) -> None:
        self._look, self._name = look, name
        self._asking: threading.Thread | None = None
        self._answered_at = time.monotonic()
        self.lost: UnknownTopic | UnknownGroup | None = None
        self.unanswered: BrokerUnavailable | None = None

    def ask(self) -> None:
        """Have a look, unless one is under way or the last is not two seconds old."""
        if self._asking is not None and self._asking.is_alive():
            return
        if time.monotonic() - self._answered_at >= LOOK_EVERY_S:
            self._asking = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._asking.start()

    def _run(self) -> None:
        try:
            self._look()
            self.unanswered = None
        except (UnknownTopic, UnknownGroup) as error:
            self.lost = error
        except BrokerUnavailable as error:
            self.unanswered = error
        except CLOSED:  # nobody waits for the answer any more
            pass
        finally:
            self._answered_at = time.monotonic()
