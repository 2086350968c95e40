"""A message that a member holds, and a bucket that waits with what is in it. Both are lost with the process."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from reference.brokers.protocol import Delivery

__all__ = ["Held", "Pause", "Place"]

Place = tuple[str, int]


@dataclass(slots=True)
class Held:
    """One message, leased from the service under ``ack_id``."""

    delivery: Delivery
    message_id: str
    ack_id: str
    acked: bool = False
    owed: bool = False  # to be given back to the service, which counts, as soon as its pause is over
    away_until: float = 0.0  # given back, and expected here until then

    @property
    def place(self) -> Place:
        return self.delivery.topic, self.delivery.partition


@dataclass(slots=True)
class Pause:
    """A bucket that waits, and in order what waits in it."""

    until: float
    aside: deque[Held] = field(default_factory=deque)
