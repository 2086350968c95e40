"""A way of publishing that looks right, and is fast. The one to use is the broker's own ``publish``, which waits."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence

from reference.brokers import Broker, BrokerUnavailable, Message, NotConfirmed
from reference.brokers.through import BrokerThrough

__all__ = ["AcksNotAwaited"]


class AcksNotAwaited(BrokerThrough):
    """Returns from ``publish`` before the broker has confirmed; what it then does not confirm is forgotten.

    **Loses**, whenever the broker is away for longer than the ``timeout_s`` of the one inside, all that was handed over
    meanwhile: a relay has deleted those rows. Killed, it loses what it had not sent. Order is kept.
    """

    def __init__(self, inner: Broker) -> None:
        super().__init__(inner)
        self._calls: queue.SimpleQueue[tuple[list[Message], float] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="acks-not-awaited", daemon=True)
        self._thread.start()

    def publish(self, messages: Sequence[Message], *, delay_s: float = 0.0) -> None:
        self._calls.put((list(messages), delay_s))

    def close(self) -> None:
        """Send what has been handed over, and close the broker inside."""
        self._calls.put(None)
        self._thread.join()
        super().close()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                self._inner.publish(call[0], delay_s=call[1])
            except (BrokerUnavailable, NotConfirmed):
                continue  # nobody is waiting to hear of it
