"""Keys the relay holds back because one of their rows cannot go: that row and what stands behind it, and nothing else.

Nothing is lost: held rows stay in the outbox. Held keys are tried again every few seconds, so that a mended row, a new
topic or a raised limit heals by itself. Killed: what is held is found again by the next round.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import structlog

__all__ = ["HELD_BACK", "Held", "HeldKeys"]

# The same words in the query that reads and in the one that deletes: a row is deleted only if it was read.
HELD_BACK: Final = (
    " AND NOT EXISTS (SELECT FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS held (type, id, position)"
    " WHERE held.type = aggregatetype AND held.id = aggregateid AND outbox.position >= held.position)"
)

log = structlog.get_logger(__name__)


class Held(NamedTuple):
    """The first row of a key that could not go, and why."""

    position: int
    id: str
    reason: str


class HeldKeys:
    """By (aggregate type, aggregate id), the row where the key stands still."""

    def __init__(self, *, retry_s: float = 5.0) -> None:
        self._keys: dict[tuple[str, str], Held] = {}
        self._told: set[tuple[int, str]] = set()
        self._retry_s = retry_s
        self._since = time.monotonic()

    def hold(self, row: Sequence[Any], reason: str) -> None:
        """Hold the row's key from this row on, and say so once, with the row's position, id and key."""
        position, event_id, aggregatetype, aggregateid = row[:4]
        if (known := self._keys.get((aggregatetype, aggregateid))) and known.position <= position:
            return
        self._keys[(aggregatetype, aggregateid)] = Held(position, event_id, reason)
        if (position, reason) not in self._told:
            self._told.add((position, reason))
            log.error("relay.row_held", position=position, id=event_id, aggregatetype=aggregatetype[:80],
                      aggregateid=aggregateid[:80], reason=reason)  # fmt: skip

    def expire(self) -> None:
        """Forget what is held when it is time to try again. Only between rounds."""
        if self._keys and time.monotonic() - self._since >= self._retry_s:
            self._keys.clear()
        if not self._keys:
            self._since = time.monotonic()

    @property
    def parameters(self) -> tuple[list[str], list[str], list[int]]:
        """What :data:`HELD_BACK` needs, as it stands at this moment."""
        held = list(self._keys.items())
        return [t for (t, _), _ in held], [k for (_, k), _ in held], [h.position for _, h in held]

    def __contains__(self, row: Sequence[Any]) -> bool:
        held = self._keys.get((row[2], row[3]))
        return held is not None and row[0] >= held.position

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[tuple[tuple[str, str], Held]]:
        return iter(self._keys.items())
