"""The kinds of toxics, with their attributes, and what each makes of the data.

Names and attributes are those of Toxiproxy's README; the defaults are what a campaign uses.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from reference.evidence.faults.proxy.toxic import Piece, Toxic

__all__ = ["KINDS", "TOXICS", "make"]

SLICE_S: Final = 0.1  # so often at least a slow line carries something


@dataclass(slots=True)
class Latency(Toxic):
    """Everything comes ``latency_ms`` later, give or take up to ``jitter_ms``, in the same order."""

    kind = "latency"
    latency_ms: float = 200
    jitter_ms: float = 0

    def plan(self, pieces: list[Piece]) -> list[Piece]:
        late_s = max(0.0, self.latency_ms + self.draw.uniform(-self.jitter_ms, self.jitter_ms)) / 1000
        return [Piece(data, due + late_s) for data, due in pieces]


@dataclass(slots=True)
class Bandwidth(Toxic):
    """At most ``rate_kb`` thousand bytes a second."""

    kind = "bandwidth"
    positive = frozenset({"rate_kb"})
    rate_kb: float = 64
    free_at: float = field(default=0.0, init=False)

    def plan(self, pieces: list[Piece]) -> list[Piece]:
        rate, at, planned = 1000 * self.rate_kb, self.free_at, []
        for data, due in pieces:
            for part in _cut(data, itertools.repeat(max(1, int(rate * SLICE_S)))):
                at = max(at, due) + len(part) / rate
                planned.append(Piece(part, at))
        return planned

    def sent(self, piece: Piece) -> None:
        self.free_at = max(self.free_at, piece.due)


@dataclass(slots=True)
class SlowClose(Toxic):
    """When one side has closed, the other hears of it ``delay_ms`` later."""

    kind = "slow_close"
    delay_ms: float = 500

    @property
    def close_after_s(self) -> float:
        return self.delay_ms / 1000


@dataclass(slots=True)
class Timeout(Toxic):
    """Nothing passes; after ``timeout_ms`` the connection is closed, with 0 never.

    What came meanwhile is kept and goes on when this is removed, as TCP does over a line that was cut for a while. (Toxiproxy
    drops it, and so must close the connection then.)
    """

    kind = "timeout"
    timeout_ms: float = 0

    @property
    def holds(self) -> bool:
        return True

    @property
    def ends_after_s(self) -> float | None:
        return self.timeout_ms / 1000 or None


@dataclass(slots=True)
class ResetPeer(Toxic):
    """The connection is reset (TCP RST, to both sides) after ``timeout_ms``, with 0 at once; nothing passes meanwhile."""

    kind = "reset_peer"
    timeout_ms: float = 0

    @property
    def holds(self) -> bool:
        return True

    @property
    def ends_after_s(self) -> float | None:
        return self.timeout_ms / 1000

    @property
    def resets(self) -> bool:
        return True


@dataclass(slots=True)
class Slicer(Toxic):
    """Data comes in slices of ``average_size`` bytes, give or take up to ``size_variation``, ``delay_us`` microseconds apart."""

    kind = "slicer"
    positive = frozenset({"average_size"})
    average_size: float = 64
    size_variation: float = 32
    delay_us: float = 100

    def plan(self, pieces: list[Piece]) -> list[Piece]:
        at, planned = 0.0, []
        for data, due in pieces:
            for part in _cut(data, self._sizes()):
                at = max(due, at)
                planned.append(Piece(part, at))
                at += self.delay_us / 1_000_000
        return planned

    def _sizes(self) -> Iterator[int]:
        while True:
            yield max(1, round(self.average_size + self.draw.uniform(-self.size_variation, self.size_variation)))


@dataclass(slots=True)
class LimitData(Toxic):
    """After ``bytes`` bytes the connection is closed."""

    kind = "limit_data"
    bytes: int = 20_000
    passed: int = field(default=0, init=False)

    @property
    def spent(self) -> bool:
        return self.passed >= self.bytes

    def plan(self, pieces: list[Piece]) -> list[Piece]:
        left, planned = int(self.bytes) - self.passed, []
        for data, due in pieces:
            if left > 0:
                planned.append(Piece(data[:left], due))
            left -= len(data)
        return planned

    def sent(self, piece: Piece) -> None:
        self.passed += len(piece.data)


TOXICS: Final[Mapping[str, type[Toxic]]] = {
    one.kind: one for one in (Latency, Bandwidth, SlowClose, Timeout, ResetPeer, Slicer, LimitData)
}
KINDS: Final = (*TOXICS, "down")


def make(kind: str, attributes: Mapping[str, Any]) -> Toxic:
    """The toxic of that name. Raises :class:`ValueError` for an unknown kind or attribute, with those there are."""
    if kind not in TOXICS:
        raise ValueError(f"no toxic {kind!r}: there are {', '.join(KINDS)}")
    known = TOXICS[kind].attributes()
    for name in attributes:
        if name not in known:
            raise ValueError(f"{kind} has no {name!r}: it has {', '.join(known)}, and every toxic has stream and toxicity")
    return TOXICS[kind](**attributes)


def _cut(data: bytes, sizes: Iterator[int]) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size = next(sizes)
        yield data[at : at + size]
        at += size
