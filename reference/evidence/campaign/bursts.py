"""How an experiment's faults are dealt out: each into a burst of commits, so that it hits while there is work.

A burst begins when what was before has been applied, so there is somebody at work, however slowly processes start on this
broker. Same seed, same faults: who is hit, and after how many commits, is drawn from it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from reference.evidence.campaign.shop import Shop

__all__ = ["Strike", "Tell", "bursts", "check_size"]

SPREAD_S: Final = 0.05  # a fault falls anywhere in a relay's round

Strike = Callable[[int, random.Random], None]
Tell = Callable[[int], None]


def check_size(*, events: int, faults: int) -> None:
    """Raise :class:`ValueError` when there are fewer events than faults: a fault falls into something that happens."""
    if events < faults:
        raise ValueError(f"{faults} faults need at least as many events, not {events}")


@contextmanager
def _timed(into: list[float]) -> Iterator[None]:
    struck = time.monotonic()
    yield
    into.append(time.monotonic() - struck)


def bursts(
    shop: Shop,
    *,
    events: int,
    faults: int,
    seed: int,
    strike: Strike,
    before: Strike = lambda number, draw: None,
    tell: Tell = lambda number: None,
    after: int = 0,
) -> tuple[float, ...]:
    """Deal out ``faults`` over ``events`` attempts to commit; for each, the seconds until all around it was applied.

    A fault falls into the first half of its burst, so that something still happens while it lasts.
    ``strike(number, draw)`` breaks something, and mends it or leaves that to the next ``before``, which is called between
    bursts. ``after`` is how many attempts were made before. What has not arrived when nothing moves any more counts as lost,
    and the next burst begins. Raises :class:`ValueError` when there are fewer events than faults.
    """
    check_size(events=events, faults=faults)
    draw = random.Random(seed)
    recoveries: list[float] = []
    for number in range(faults):
        begun, allowed = after + events * number // faults, after + events * (number + 1) // faults
        moment, pause_s = draw.randint(begun + 1, (begun + 1 + allowed) // 2), draw.uniform(0, SPREAD_S)
        before(number, draw)
        shop.writers.allow(allowed)
        shop.begun(moment)
        time.sleep(pause_s)
        with _timed(recoveries):
            strike(number, draw)
            shop.caught_up()
        tell(number + 1)
    return tuple(recoveries)
