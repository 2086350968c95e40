"""How far something is, while it is waited for: nothing in the first second, then a bar, and nothing again at the end.

Counts enter from whoever works, and a bar shows them from a thread of its own, so that it moves also while a single call takes
its time. One bar at a time: what is waited for within a wait shows none of its own. A bar is there where a person looks on:
below the cell in a notebook, or in a terminal. A program that runs a notebook (nbval, nbconvert, ``make notebooks``) and a pipe
see nothing, so what is committed is the same with and without. At the end of the block, also after an exception, the bar is
gone and its thread has ended.
"""

from __future__ import annotations

import contextvars
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, Final

from IPython.display import DisplayHandle
from tqdm import tqdm

from reference.live.kernel import kernel

__all__ = ["Progress", "progress"]

_shows: Final = contextvars.ContextVar("shows", default=False)  # a bar, or will after a second
QUIET_S: Final = 1.0  # who waits less than that needs no bar
REDRAWN_S: Final = 0.2


class Progress:
    """What the block tells: :meth:`to` how many of ``total`` are done, or :meth:`left` how many are still to do."""

    def __init__(self, what: str, total: int | None = None) -> None:
        self._state = (what, 0, total)

    def to(self, done: int) -> int:
        what, _, total = self._state
        self._state = (what, done, total)
        return done

    def left(self, left: int, what: str) -> int:
        """``left`` are not yet ``what``, of as many as there were at most; another ``what`` begins another count."""
        before, _, most = self._state
        most = max(left, (most or 0) if what == before else 0)
        self._state = (what, most - left, most)
        return left

    @property
    def state(self) -> tuple[str, int, int | None]:
        """What is waited for, how much of it is done, and of how much, if that is known."""
        return self._state  # one assignment: never half of an old one


@contextmanager
def progress(what: str, *, total: int | None = None) -> Iterator[Progress]:
    """While the block runs it is told how far it is: ``told.to(done)``. Without a ``total`` the bar shows the time alone."""
    told = Progress(what, total)
    if _shows.get() or not _somebody_looks_on():
        yield told
        return
    outer = _shows.set(True)
    stop = threading.Event()
    # As the cell's own: a kernel sends output to the cell that the context names.
    show = threading.Thread(target=contextvars.copy_context().run, args=(_show, told, stop), name="progress", daemon=True)
    show.start()
    try:
        yield told
    finally:
        _shows.reset(outer)
        stop.set()
        show.join()


def _show(told: Progress, stop: threading.Event) -> None:
    began = time.monotonic()
    if stop.wait(QUIET_S):
        return
    bar = _BelowTheCell() if kernel() else _InTheTerminal()
    try:
        while True:
            bar.draw(*told.state, time.monotonic() - began)
            if stop.wait(REDRAWN_S):
                return
    finally:
        bar.remove()


class _BelowTheCell:
    """An output, and no widget: what is left of a widget in a saved notebook is an error in its place."""

    def __init__(self) -> None:
        self._place = DisplayHandle()  # type: ignore[no-untyped-call]
        self._show: Any = self._place.display

    def draw(self, what: str, done: int, total: int | None, passed_s: float) -> None:
        known = f' max="{total}" value="{done}"' if total else ""
        html = f"<div>{escape(what)} <progress{known}></progress> {_counted(done, total)}{passed_s:.0f} s</div>"
        self._show({"text/html": html, "text/plain": ""}, raw=True)
        self._show = self._place.update

    def remove(self) -> None:
        self._place.update({}, raw=True)  # type: ignore[no-untyped-call]


class _InTheTerminal:
    def __init__(self) -> None:
        self._bar = tqdm(leave=False, bar_format=" ")

    def draw(self, what: str, done: int, total: int | None, passed_s: float) -> None:
        self._bar.bar_format = f"{what} {'{bar} ' if total else ''}{_counted(done, total)}{passed_s:.0f} s"
        self._bar.total, self._bar.n = total, done
        self._bar.refresh()

    def remove(self) -> None:
        self._bar.close()


def _counted(done: int, total: int | None) -> str:
    return f"{done} of {total} · " if total else ""


def _somebody_looks_on() -> bool:
    """A front end that may be asked for input has a person before it; nbval and nbconvert say that theirs has none."""
    ours = kernel()
    if ours is None:
        return sys.stderr.isatty()
    return bool(ours.get_parent().get("content", {}).get("allow_stdin"))
