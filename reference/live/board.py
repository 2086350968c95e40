"""The live board: what happens to every event, while it happens.

A :class:`~reference.evidence.history.History` enters, frames leave to the browser from a thread of their own, so that the
board moves while a cell is busy. Promises: a frame is sent only when the history gained records; at the end of the
``with`` block, also after an exception, the thread has ended and the last frame stays; :meth:`Board.picture` shows the
very snapshot of that frame. Without a notebook it does the same and shows nothing.
"""

from __future__ import annotations

import contextvars
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anywidget
import traitlets
from IPython.core.getipython import get_ipython
from IPython.display import display

from reference.evidence.history import History, Record
from reference.live import palette
from reference.live.picture import Picture
from reference.live.scene import PANELS, Panel, compose
from reference.live.shapes import Line, Rect
from reference.live.snapshot import Sampler, Snapshot

__all__ = ["Board"]

ROWS = 12
_WHOLE = 4  # every fourth frame of a moving board tells the stories too: they are two thirds of its bytes


class Board(anywidget.AnyWidget):
    """``with Board(history): …`` shows the board below the cell and keeps it moving until the block ends.

    ``hz`` is frames a second at most; after a minute they become fewer, so that a cell never sends a thousand.
    ``faults`` are buttons: name → what to do, from another thread while the cell runs (JupyterLab 4.4 with ipykernel 7, or
    newer); a click is recorded as a fault before it is done, and one that comes after the block does nothing.
    ``settled``: at the end of the block everything had the time to arrive, so that what did not is lost.
    """

    _esm = Path(__file__).with_name("board.js")
    _css = Path(__file__).with_name("board.css")
    frame = traitlets.Dict().tag(sync=True)
    title = traitlets.Unicode().tag(sync=True)
    faults = traitlets.List(traitlets.Unicode()).tag(sync=True)
    palettes = traitlets.Dict({"light": palette.LIGHT, "dark": palette.DARK}).tag(sync=True)

    def __init__(
        self,
        history: History,
        *,
        hz: float = 8,
        title: str = "",
        faults: Mapping[str, Callable[[], object]] | None = None,
        settled: bool = True,
        window_s: float = 60.0,
        keys: int = ROWS,
    ) -> None:
        self._history, self._hz, self._settled = history, hz, settled
        self._actions = dict(faults or {})
        self._sampler = Sampler(window_s=window_s, keys=keys)
        self._lock, self._stop, self._sent = threading.Lock(), threading.Event(), 0
        self._thread: threading.Thread | None = None
        self._snapshot = self._sampler.snapshot(settled=False)
        super().__init__(title=title, faults=list(self._actions), frame=_frame(self._snapshot, live=False))
        self.on_msg(self._on_message)
        # ipykernel 7.4 hands a widget's messages to the shell that last spoke to it: here the one that is busy with the
        # cell, so that a click would wait for the cell's end. The subshell that JupyterLab asks for is free.
        setattr(self.comm, "_reply_subshell_for", lambda _, asked: asked)  # noqa: B010  not every comm declares it

    def __enter__(self) -> Self:
        if self._thread:
            raise RuntimeError("this board is running already")
        self._stop.clear()
        self._sent = 0
        self._refresh(settled=False, live=True)
        if get_ipython() is not None:
            display(self)  # type: ignore[no-untyped-call]
        # The thread inherits the cell's context: a kernel sends output to the cell that the context names.
        target = contextvars.copy_context().run
        self._thread = threading.Thread(target=target, args=(self._feed,), name="board", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()
            self._thread = None
        self._refresh(settled=self._settled, live=False)

    def snapshot(self) -> Snapshot:
        """Of the last frame."""
        return self._snapshot

    def picture(self, panels: tuple[Panel, ...] = PANELS) -> Picture:
        """The last frame as a still picture."""
        return Picture(self._snapshot, panels)

    def press(self, name: str) -> None:
        """What a click on the button does: record the fault, then do it; one that fails is recorded as well."""
        self._history.add(Record(op="fault", note=name))
        try:
            self._actions[name]()
        except Exception as error:  # a button must not take the board with it
            self._history.add(Record(op="fault", phase="fail", note=f"{name} failed: {error}"))

    def __repr__(self) -> str:
        """What a page without widgets, such as GitHub, shows in place of the board."""
        return "live board: run this cell in JupyterLab" if self.frame["live"] else f"board: {self._snapshot.verdict}"

    def _feed(self) -> None:
        while not self._stop.wait(_pause(self._sent, self._hz)):
            self._refresh(settled=False, live=True)

    def _refresh(self, *, settled: bool, live: bool) -> None:
        with self._lock:
            news = self._sampler.follow(self._history)
            if not news and live and self.frame["live"] and "hits" in self.frame:
                return
            shown = [lane.key for lane in self._snapshot.lanes]
            self._snapshot = self._sampler.snapshot(settled=settled, keep=() if settled else shown)
            self._sent += 1
            whole = not (live and news) or self._sent % _WHOLE == 1
            self.frame = _frame(self._snapshot, live=live, whole=whole)

    def _on_message(self, _: object, content: dict[str, Any], __: object) -> None:
        if self._thread and content.get("fault") in self._actions:
            self.press(content["fault"])


def _frame(snapshot: Snapshot, *, live: bool, whole: bool = True) -> dict[str, Any]:
    """A snapshot as it travels. ``live`` says that buttons do something; ``hits`` are there only in a ``whole`` frame.

    Shapes and hits are JSON in a string, since a comm walks through everything else item by item, which takes longer
    than all the rest.
    """
    scene = compose(snapshot, rows=ROWS, hits=whole)
    told = {"hits": _json([list(hit) for hit in scene.hits])} if whole else {}
    return told | {
        "live": live,
        "width": scene.width,
        "height": scene.height,
        "label": f"{scene.title}. {scene.text}",
        "shapes": _json([[_kind(shape), *shape] for shape in scene.shapes]),
    }


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _kind(shape: object) -> str:
    return "rect" if isinstance(shape, Rect) else "line" if isinstance(shape, Line) else "text"


def _pause(sent: int, hz: float) -> float:
    """Seconds to the next frame: a kernel's output channel and nbval bear about a thousand messages a cell."""
    return 1 / hz if sent < 480 else max(1.0, 1 / hz) if sent < 800 else 10.0
