"""The board beside the notebook: whatever a lab does shows there, while it happens.

Histories enter, one after the other; the last one is shown. Where there is no JupyterLab, or no sidecar in it, nothing happens;
and while no page shows the board, nothing runs.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from reference.evidence.history import History
from reference.live.board import Board
from reference.live.kernel import kernel

__all__ = ["Dock"]

_places: dict[str, Any] = {}  # of this kernel, by title: who opens a lab again has one place, and not two


class Dock:
    """One place beside the notebook, called ``title``; it opens with the first board. Without a title there is none."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._place: Any = None
        self._board: Board | None = None

    def follow(self, history: History) -> None:
        """Show this history from now on, as it grows."""
        if self._title and _beside_a_notebook():
            self.show(Board(history, title=self._title, follows=True))

    def show(self, board: Board) -> None:
        """Show this board until the next; one that does not follow its history by itself is kept moving by somebody else."""
        if not (self._title and _beside_a_notebook()):
            return
        if self._board is not None and self._board.follows:
            self._board.stop()
        self._board = board
        self._put(board)

    def settle(self) -> None:
        """All had the time to arrive: the board says what was lost."""
        if self._board is not None and self._board.follows:
            self._board.settle()

    def _put(self, board: Board) -> None:
        from sidecar import Sidecar

        if self._place is None:
            if before := _places.pop(self._title, None):
                before.close()
            self._place = _places[self._title] = Sidecar(title=self._title, anchor="split-right")
        board.place = self._place.model_id
        # What ``display`` would put there, but from any thread and at once.
        shown = {"application/vnd.jupyter.widget-view+json": {"version_major": 2, "version_minor": 0, "model_id": board.model_id}}
        self._place.outputs = ({"output_type": "display_data", "data": {**shown, "text/plain": ""}, "metadata": {}},)


def _beside_a_notebook() -> bool:
    return kernel() is not None and find_spec("sidecar") is not None
