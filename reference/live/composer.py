"""What a board tells its page, from what its history gained.

News enter (:mod:`reference.live.following`), JSON leaves: everything, or what has changed since it was told last, in the parts
of :mod:`reference.live.feed`. Promises that a snapshot is the very state that was told last. Not safe from several threads.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import orjson

from reference.live.feed import Feed
from reference.live.following import News
from reference.live.scene import Panel
from reference.live.snapshot import Sampler, Snapshot

__all__ = ["Composer", "Layout"]


class Layout(NamedTuple):
    """Which ``panels``, over how many seconds, of how many keys and events of each; ``width`` and ``rows`` are a feed's."""

    panels: tuple[Panel, ...]
    window_s: float
    keys: int
    slots: int
    width: float
    rows: int


class Composer:
    """Nothing is known at first."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._feed = Feed(layout.panels, width=layout.width, rows=layout.rows)
        self._begin()

    def frame(self, news: News, *, charts: bool) -> bytes:
        """Take these in; what has changed by them. Without ``charts``, those stay as they are."""
        self._take(news)
        self._look(settled=False, charts=charts)
        return _json(self._feed.frame(self._snapshot, charts=charts))

    def look(self, news: News, *, settled: bool) -> None:
        """Take these in. ``settled``: all had the time to arrive."""
        self._take(news)
        self._look(settled=settled)

    def whole(self, *, live: bool, frame: int) -> str:
        """Everything, as it was told last, and with which ``frame`` the next ones go on. ``live``: buttons do something."""
        self._feed.forget()
        told = {"live": live, "frame": frame, **self._feed.frame(self._snapshot)}
        return _json(told).decode()

    def snapshot(self) -> Snapshot:
        """What was told last."""
        return self._snapshot

    def _begin(self) -> None:
        layout = self._layout
        self._sampler = Sampler(window_s=layout.window_s, keys=layout.keys, slots=layout.slots)
        self._snapshot = self._sampler.snapshot(settled=False)

    def _take(self, news: News) -> None:
        if news.anew:
            self._begin()
        self._sampler.fold(news.records)

    def _look(self, *, settled: bool, charts: bool = True) -> None:
        before = self._snapshot
        shown: Sequence[str] = () if settled else [lane.key for lane in before.lanes]
        self._snapshot = self._sampler.snapshot(settled=settled, keep=shown, charts=None if charts else before)


def _json(value: object) -> bytes:
    try:
        return orjson.dumps(value, default=list)  # named tuples
    except TypeError:  # half of a character, in a key or a note, which only JSON's escapes can tell
        return json.dumps(value).encode()
