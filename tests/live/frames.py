"""What a board sends, and what a page makes of it: the same as board.js does, for tests without a browser."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from typing import Any, Self

from reference.evidence.history import History
from reference.live.board import Board


class Told(Board):
    """A board that remembers what it sends: ``sent`` as it travels, :attr:`frames` as they are read."""

    def __init__(self, history: History, **settings: Any) -> None:
        self.sent: list[tuple[dict[str, Any], str]] = []
        super().__init__(history, **settings)

    def send(self, content: Any, buffers: Any = None) -> None:
        self.sent.append((content, buffers[0].decode()))

    def inside(self) -> Self:
        """As if inside its block, without a thread: a frame is sent by :meth:`frame`."""
        self._thread = threading.current_thread()
        return self

    def frame(self) -> list[Any]:
        """Send a frame, with the charts in it; returns it as it travels."""
        self._charted_at = -1.0
        self._refresh()
        return list(self.sent[-1])

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [content | json.loads(text) for content, text in list(self.sent)]

    @property
    def shown(self) -> dict[str, Any]:
        """What a page shows that was told everything at the beginning, and every frame."""
        return together(json.loads(self.whole), self.frames)


def together(whole: dict[str, Any], frames: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The parts that are shown after ``whole`` and these frames; marks with the shapes they look like."""
    shown: dict[str, Any] = {"lanes": {}, "looks": {}, "stories": {}}
    for frame in (whole, *frames):
        shown["looks"] |= {int(number): shapes for number, shapes in frame.get("looks", {}).items()}
        shown |= {part: frame[part] for part in ("banner", "charts", "strip") if part in frame}
        if "strip" in frame:
            shown["lanes"] = {}
        for number, left, top, gap, drop, keep, rest in frame.get("lanes", ()):
            old = shown["lanes"].get(number, {"marks": []})["marks"]
            marks = old[drop : drop + keep] + [rest[i : i + 3] for i in range(0, len(rest), 3)]
            if marks:
                marks[0] = [gap, *marks[0][1:]]
            shown["lanes"][number] = {"left": left, "top": top, "marks": marks}
        shown["stories"] |= {int(event): story for event, story in frame.get("stories", {}).items()}
    events = {event for lane in shown["lanes"].values() for _, _, event in lane["marks"]}
    shown["stories"] = {event: story for event, story in shown["stories"].items() if event in events}
    for lane in shown["lanes"].values():
        lane["marks"] = [[gap, shown["looks"][look], event] for gap, look, event in lane["marks"]]
    del shown["looks"]
    return shown
