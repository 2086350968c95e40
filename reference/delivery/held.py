"""Keys the relay holds back because one of their rows cannot go: that row and what stands behind it, and nothing else.

Nothing is lost: held rows stay in the outbox. Held keys are tried again every few seconds, so that a mended row, a new
topic or a raised limit heals by itself. Killed: what is held is found again by the next round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import structlog

__all__ = ["NOT_HELD", "Held", "HeldKeys"]

# True for the rows of keys that go. NOT IN a subquery is hashed once, so that a missing topic with a hundred thousand keys
# costs the others nothing a row; the columns are never null.
NOT_HELD: Final = "(aggregatetype, aggregateid) NOT IN (SELECT * FROM unnest(%s::text[], %s::text[]))"
TELL: Final = 10

log = structlog.get_logger(__name__)


class Held(NamedTuple):
    """The first row of a key that could not go, and why."""

    position: int
    id: str
    reason: str


class HeldKeys:
    """By (aggregate type, aggregate id), the row where the key stands still."""

    def __init__(self, *, retry_s: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys: dict[tuple[str, str], Held] = {}
        self._told: dict[str, set[int]] = {}
        self._retry_s, self._clock = retry_s, clock
        self._since = clock()

    def hold(self, row: Sequence[Any], reason: str) -> None:
        """Hold the row's key from this row on, and say so once, with the row's position, id and key."""
        position, event_id, aggregatetype, aggregateid = row[:4]
        if (known := self._keys.get((aggregatetype, aggregateid))) and known.position <= position:
            return
        self._keys[(aggregatetype, aggregateid)] = Held(position, event_id, reason)
        self._tell(position, reason, id=event_id, aggregatetype=aggregatetype[:80], aggregateid=aggregateid[:80])

    def _tell(self, position: int, reason: str, **row: str) -> None:
        """Each row once, and no more than ten for one reason: a missing topic may hold a key for every customer."""
        told = self._told.setdefault(reason, set())
        if position in told or len(told) > TELL:
            return
        told.add(position)
        if len(told) <= TELL:
            log.error("relay.row_held", position=position, **row, reason=reason)
        else:
            log.error("relay.more_rows_held", reason=reason)

    def expire(self) -> None:
        """Forget what is held when it is time to try again. Only between rounds."""
        if self._keys and self._clock() - self._since >= self._retry_s:
            self._keys.clear()
        if not self._keys:
            self._since = self._clock()

    @property
    def parameters(self) -> tuple[list[str], list[str]]:
        """What :data:`NOT_HELD` needs, as it stands at this moment."""
        return [kind for kind, _ in self._keys], [key for _, key in self._keys]

    def gone_before(self, rows: Sequence[Sequence[Any]]) -> list[int]:
        """Positions of those of ``rows`` that went although their key is held now: they stood before the one that could not."""
        return [row[0] for row in rows if (row[2], row[3]) in self._keys and row not in self] if self._keys else []

    def __contains__(self, row: Sequence[Any]) -> bool:
        held = self._keys.get((row[2], row[3]))
        return held is not None and row[0] >= held.position

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[tuple[tuple[str, str], Held]]:
        return iter(self._keys.items())
