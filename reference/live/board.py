"""The live board: what happens to every event, while it happens.

A :class:`~reference.evidence.history.History` enters, frames leave to the browser from a thread of their own, so that the
board moves while a cell is busy; in a notebook they are composed in a process of their own, so that the cell is not kept from
its work (:mod:`reference.live.process`). Promises: a frame is sent only when there is something new to show; at the end of the
``with`` block, also after an exception, the thread has ended and the last frame stays; :meth:`Board.snapshot` shows the
very state of that frame; memory is bounded however long it runs. Without a notebook it does the same and shows nothing.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import anywidget
import traitlets
from IPython.core.getipython import get_ipython
from IPython.display import display

from reference.evidence.history import History, Record
from reference.live import palette
from reference.live.composer import Layout
from reference.live.lanes import SLOTS
from reference.live.picture import Picture
from reference.live.scene import PANELS, Panel, known
from reference.live.telling import Telling

__all__ = ["Board"]

ROWS: Final = 12
COLUMN: Final = 452.0  # units: two of them are a page
DENSE: Final = 928.0
CHARTS_S: Final = 0.25  # nobody sees a line move more often
WATCHED_S: Final = 5.0  # a page that shows the board says so more often than that
UNWATCHED: Final = 480  # frames that are sent before somebody is known to watch


class Board(anywidget.AnyWidget):
    """``with Board(history): …`` shows the board below the cell and keeps it moving until the block ends.

    ``panels`` are some of :data:`~reference.live.scene.PANELS`; the strip shows ``keys`` keys and ``slots`` events of each.
    ``hz`` is frames a second at most; where no page says that it shows them, they become fewer after a minute, so that a
    cell that nobody watches never sends a thousand.
    ``faults`` are buttons: name → what to do, from another thread while the cell runs (JupyterLab 4.4 with ipykernel 7, or
    newer); a click is recorded as a fault before it is done, and one that comes after the block does nothing. ``holding``
    tells which of their names still hold, from the board's thread: those buttons look pressed.
    ``settled``: at the end of the block everything had the time to arrive, so that what did not is lost; but not at the end
    of one that was broken off by an exception, such as the stop button's.
    ``width`` is that of its charts, in units; ``framed``: somebody else puts it into the page.
    ``follows``: it needs no block, but moves while a page shows it, until :meth:`stop`.
    Raises :class:`ValueError` for a panel that does not exist.
    """

    _esm = Path(__file__).with_name("board.js")
    _css = Path(__file__).with_name("board.css")
    whole = traitlets.Unicode().tag(sync=True)  # everything, for a page that opens now; what changes follows in messages
    title = traitlets.Unicode().tag(sync=True)
    faults = traitlets.List(traitlets.Unicode()).tag(sync=True)
    pressed = traitlets.List(traitlets.Unicode()).tag(sync=True)
    follows = traitlets.Bool().tag(sync=True)
    place = traitlets.Unicode().tag(sync=True)  # the widget that holds it beside the notebook, to be closed with the kernel
    palettes = traitlets.Dict({"light": palette.LIGHT, "dark": palette.DARK}).tag(sync=True)

    def __init__(
        self,
        history: History,
        *,
        hz: float = 10,
        title: str = "",
        faults: Mapping[str, Callable[[], object]] | None = None,
        holding: Callable[[], Collection[str]] = tuple,
        settled: bool = True,
        follows: bool = False,
        window_s: float = 60.0,
        panels: Sequence[Panel] = PANELS,
        keys: int = ROWS,
        slots: int = SLOTS,
        width: float = 0.0,
        framed: bool = False,
    ) -> None:
        known(panels)
        self._history, self._hz, self._settled, self._panels = history, hz, settled, tuple(panels)
        self._actions, self._holding, self._framed = dict(faults or {}), holding, framed
        wide = width or (COLUMN if slots <= SLOTS else DENSE)
        self._telling = Telling(history, Layout(self._panels, window_s, keys, slots, wide, min(keys, ROWS)))
        self._lock, self._stop = threading.RLock(), threading.Event()
        self._sent, self._charted_at, self._charts_wait, self._watched_at = 0, 0.0, False, -WATCHED_S
        self._thread: threading.Thread | None = None
        super().__init__(title=title, faults=list(self._actions), follows=follows)
        self.whole = self._telling.nothing
        self.on_msg(self._on_message)
        # ipykernel 7.4 hands a widget's messages to the shell that last spoke to it: here the one that is busy with the
        # cell, so that a click would wait for the cell's end. The subshell that JupyterLab asks for is free.
        setattr(self.comm, "_reply_subshell_for", lambda _, asked: asked)  # noqa: B010  not every comm declares it

    def __enter__(self) -> Self:
        self._start()
        try:
            if get_ipython() is not None and not self._framed:
                display(self)  # type: ignore[no-untyped-call]
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop(settled=self._settled and error is None)

    def settle(self) -> None:
        """Everything had the time to arrive: say what was lost. What is recorded from now on is shown as ever."""
        with self._lock:
            self._tell_whole(settled=True)
            if self._thread is None:
                self._telling.rest()

    def stop(self, *, settled: bool = False) -> None:
        """Stand still; the thread has ended. ``settled``: everything had the time to arrive."""
        self.follows = False
        with self._lock:  # whoever is about to start it has done so
            self._stop.set()
            thread, self._thread = self._thread, None
        if thread:
            thread.join()
        with self._lock:
            self._tell_whole(settled=settled)
            self._telling.rest()
        self.pressed = []

    def _start(self) -> None:
        with self._lock:
            if self._thread:
                raise RuntimeError("this board is running already")
            self._stop.clear()
            # The thread inherits the cell's context: a kernel sends output to the cell that the context names.
            target = contextvars.copy_context().run
            self._thread = threading.Thread(target=target, args=(self._run,), name="board", daemon=True)
            self._sent = 0
            try:
                self._tell_whole(settled=False)
                self._thread.start()
            except BaseException:  # an interrupt, say
                self._thread = None
                raise

    def snapshot(self, panels: Sequence[Panel] = ()) -> Picture:
        """The last frame as a still picture, ``image/svg+xml`` in a notebook; its ``data`` is what it shows.

        ``panels`` are the board's own, unless others are named.
        """
        with self._lock:
            return Picture(self._telling.snapshot(), panels or self._panels)

    def press(self, name: str) -> None:
        """What a click on the button does: record the fault, then do it; one that fails is recorded as well."""
        self._history.add(Record(op="fault", note=name))
        try:
            self._actions[name]()
        except Exception as error:  # a button must not take the board with it
            self._history.add(Record(op="fault", phase="fail", note=f"{name} failed: {error}"))

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """What the kernel tells of the widget; a page that opens while the board moves is told all of it."""
        state: dict[str, Any] = super().get_state(key, drop_defaults)
        if key is None and self._thread:
            state["whole"] = self._everything()
        return state

    def __repr__(self) -> str:
        """What a page without widgets, such as GitHub, shows in place of the board."""
        return "live board: run this cell in JupyterLab" if self._thread else f"board: {self._telling.snapshot().verdict}"

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due = max(due, time.monotonic()) + self._pause()
            if self.follows and not self._watched:  # its page was closed; when it comes back, it says so
                self._thread = None
                return
            self._refresh()
            self._tell_pressed()

    def _tell_pressed(self) -> None:
        if not self._actions:
            return
        try:
            held = self._holding()
        except Exception as error:  # somebody else's, and not worth the board: told once, and not asked again
            self._holding = tuple
            self._history.add(Record(op="fault", phase="fail", note=f"what holds cannot be told: {error}"))
            return
        self.pressed = [name for name in self._actions if name in held]  # sent only when it has changed

    def _pause(self) -> float:
        """Seconds to the next frame: nbval bears about a thousand messages a cell, and a page as many as it shows."""
        return 1 / self._hz if self._watched or self._sent < UNWATCHED else max(1.0 if self._sent < 800 else 10.0, 1 / self._hz)

    @property
    def _watched(self) -> bool:
        return time.monotonic() - self._watched_at < WATCHED_S

    def _refresh(self) -> None:
        """Send what is new, if anything is; the charts follow a little later, also when nothing else does."""
        with self._lock:
            now = time.monotonic()
            charts = now - self._charted_at >= CHARTS_S
            if not self._telling.behind and not (charts and self._charts_wait):
                return
            self._charted_at, self._charts_wait = (now, False) if charts else (self._charted_at, True)
            frame = self._telling.frame(charts=charts)
            self._sent += 1
            self.send({"frame": self._sent, "at": time.time()}, buffers=[frame])

    def _tell_whole(self, *, settled: bool) -> None:
        with self._lock:
            self._telling.look(settled=settled)
            self.whole = self._everything()

    def _everything(self) -> str:
        with self._lock:
            return self._telling.whole(live=self._thread is not None, frame=self._sent)

    def _on_message(self, _: object, content: dict[str, Any], __: object) -> None:
        if "watching" in content:
            self._watched_at = time.monotonic()
            with self._lock:
                if self.follows and self._thread is None:
                    self._start()
        if content.get("missed") and self._thread:
            with self._lock:
                self.whole = self._everything()
        if self._thread and content.get("fault") in self._actions:
            self.press(content["fault"])
