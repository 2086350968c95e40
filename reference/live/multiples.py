"""The same experiment on several brokers, side by side: a small board for each, and one picture of all.

Histories by name enter; what :class:`~reference.live.board.Board` promises, each of them does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final, Self

import ipywidgets
from IPython.core.getipython import get_ipython
from IPython.display import display

from reference.evidence.history import History
from reference.live.board import Board
from reference.live.picture import SideBySide
from reference.live.scene import Panel

__all__ = ["Boards"]

SMALL: Final[tuple[Panel, ...]] = ("verdict", "lag", "strip")
WIDTH: Final = 300.0
KEYS: Final = 8


class Boards:
    """``with Boards({"kafka": history, …}): …`` shows them below the cell; ``settings`` go to each :class:`Board`.

    Raises :class:`ValueError` where there is no history at all.
    """

    def __init__(self, histories: Mapping[str, History], *, panels: Sequence[Panel] = SMALL, **settings: Any) -> None:
        if not histories:
            raise ValueError("boards side by side need a history each, by name: there is none")
        self._panels = tuple(panels)
        self.boards = {
            name: Board(history, title=name, panels=panels, framed=True, **({"width": WIDTH, "keys": KEYS} | settings))
            for name, history in histories.items()
        }
        self._running = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as started:  # all of them, or none
            for board in self.boards.values():
                started.enter_context(board)
            if get_ipython() is not None:
                columns = "repeat(auto-fit, minmax(270px, 1fr))"
                layout = ipywidgets.Layout(display="grid", grid_template_columns=columns, width="100%")
                display(_Row(list(self.boards.values()), layout=layout))  # type: ignore[no-untyped-call]
            self._running = started.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._running.__exit__(kind, error, trace)

    def snapshot(self, panels: Sequence[Panel] = ()) -> SideBySide:
        """The last frame of each as one still picture; its ``data`` holds what they show, by name."""
        return SideBySide({name: board.snapshot().data for name, board in self.boards.items()}, panels or self._panels)


class _Row(ipywidgets.Box):  # type: ignore[misc]
    def __repr__(self) -> str:
        """What a page without widgets, such as GitHub, shows in their place."""
        return "live boards: run this cell in JupyterLab"
