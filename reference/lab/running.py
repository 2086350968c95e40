"""What runs beside a cell: an experiment is not exchanged under the hands of a relay or a consumer."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Running"]


class Running:
    """The open blocks of one lab, by the name of what runs in them. Safe from any thread."""

    def __init__(self) -> None:
        # Weak, so that no block is counted for ever where an interrupt keeps its end from being noted.
        self._blocks: weakref.WeakSet[_Block] = weakref.WeakSet()

    @contextmanager
    def block(self, name: str) -> Iterator[None]:
        """It counts as open until it is left."""
        block = _Block(name)
        try:
            self._blocks.add(block)
            yield
        finally:
            self._blocks.discard(block)

    def refuse(self, what: str) -> None:
        """Raises :class:`RuntimeError` that says what to do where a block is open; ``what`` is what was asked for."""
        if names := " and ".join(sorted({f"`with lab.{block.name}()`" for block in self._blocks})):
            raise RuntimeError(
                f"{what} starts another experiment, and {names} still works on this one: leave that block first, or interrupt "
                "the cell it runs in"
            )


class _Block:
    def __init__(self, name: str) -> None:
        self.name = name
