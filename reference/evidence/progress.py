"""How far a long run is, on standard error: a bar where somebody looks on, elsewhere a line every tenth of the way."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

__all__ = ["progress"]


@contextmanager
def progress(length: int, *, label: str) -> Iterator[Callable[[int], object]]:
    """What the block is given hears how many of ``length`` steps were done since it was last called."""
    if sys.stderr.isatty():
        with typer.progressbar(length=length, label=label, file=sys.stderr) as bar:
            yield bar.update
    else:
        yield _Lines(length, label).advance


class _Lines:
    def __init__(self, length: int, label: str) -> None:
        self._length, self._label, self._done, self._tenths = length, label, 0, 0
        self._print()

    def advance(self, steps: int) -> None:
        self._done += steps
        tenths = min(10, 10 * self._done // self._length)
        if tenths > self._tenths:
            self._tenths = tenths
            self._print()

    def _print(self) -> None:
        typer.echo(f"{self._label}: {10 * self._tenths} %", err=True)
