"""Waiting in a notebook: for a condition, with a deadline, and for work that goes on beside a cell."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from reference.lab.progress import progress

__all__ = ["background", "wait_until"]

DEADLINE_S: Final = 90.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll until ``condition`` holds, with a bar after a second. Raises :class:`TimeoutError` that says what was waited for."""
    deadline = time.monotonic() + DEADLINE_S
    with progress(f"waiting for {what}"):
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {DEADLINE_S:g} s for {what}")
            time.sleep(0.05)


@contextmanager
def background(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run ``work`` in a thread while the block runs; then set its event and wait for it. Its exception is raised here."""
    stop, failed = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            work(stop)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]
