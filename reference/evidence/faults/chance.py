"""Chance that comes out the same each time: a seed enters, and which passes are hit leaves."""

from __future__ import annotations

import random

__all__ = ["OnceIn"]


class OnceIn:
    """True once in ``every`` passes, at a pass drawn from ``seed``: the first ``every`` have one, the next have one, and so on.

    Raises :class:`ValueError` when ``every`` is less than 1.
    """

    def __init__(self, every: int, *, seed: int = 0) -> None:
        if every < 1:
            raise ValueError(f"a fault is hit once in 1 pass or more, not once in {every}")
        self.every = every
        self._passes, self._unlucky, self._draw = 0, 0, random.Random(seed)

    def __call__(self) -> bool:
        if self._passes % self.every == 0:
            self._unlucky = self._passes + self._draw.randrange(self.every)
        self._passes += 1
        return self._passes - 1 == self._unlucky
