"""Events at a steady pace."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from reference.evidence.campaign.flow import Flow


class Allowing:
    """Writers as the flow sees them."""

    def __init__(self, *, broken: bool = False) -> None:
        self.allowed, self._broken = 5, broken

    def allow(self, attempts: int) -> None:
        if self._broken:
            raise LookupError("no orders")
        self.allowed = max(self.allowed, attempts)


def test_writers_are_allowed_more_as_long_as_the_block_lasts(eventually: Callable[..., Any]) -> None:
    """On from where they stood; and afterwards no more, with nothing left running."""
    writers = Allowing()
    with Flow(writers, per_s=1_000):  # type: ignore[arg-type]
        eventually(lambda: writers.allowed > 50)
    assert "flow" not in {thread.name for thread in threading.enumerate()}


def test_what_a_writer_could_not_cope_with_is_told_at_the_end() -> None:
    """Not swallowed by a thread that nobody looks at."""
    with pytest.raises(LookupError, match="no orders"), Flow(Allowing(broken=True), per_s=1_000):  # type: ignore[arg-type]
        pass
