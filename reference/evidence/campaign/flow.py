"""Events at a steady pace, for experiments in which something happens now and then while everything else goes on."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from reference.evidence.campaign.writers import Writers

__all__ = ["Flow"]

TICK_S: Final = 0.02


class Flow:
    """Inside the ``with`` block ``writers`` are allowed ``per_s`` more attempts each second, whatever became of the others.

    A thread that begins with the block and ends with it. Raises, at the end, what a writer could not cope with.
    """

    def __init__(self, writers: Writers, *, per_s: float) -> None:
        self._writers, self._per_s = writers, per_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flow", daemon=True)

    def _run(self) -> None:
        begun, before = time.monotonic(), self._writers.allowed
        with suppress(BaseException):  # the writers tell it again, at the end
            while not self._stop.wait(TICK_S):
                self._writers.allow(before + int((time.monotonic() - begun) * self._per_s))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if error is None:
            self._writers.allow(0)
