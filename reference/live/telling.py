"""A history as a page is told of it, wherever that is composed.

In a notebook it is composed in a process of its own (:mod:`reference.live.process`); elsewhere, and where that process is gone,
here. Promises that whoever asks does not notice which: a composer that takes over is told the whole history first. Not safe
from several threads.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from reference.evidence.history import History
from reference.live.composer import Composer, Layout
from reference.live.following import Following
from reference.live.kernel import kernel
from reference.live.process import ComposerApart, Gone
from reference.live.snapshot import Snapshot

__all__ = ["Telling"]

Answer = TypeVar("Answer")
SomeComposer = TypeVar("SomeComposer", Composer, ComposerApart)


class Telling:
    """Nothing is known at first; :meth:`frame` and :meth:`look` take in what is new."""

    def __init__(self, history: History, layout: Layout) -> None:
        self._following, self._layout = Following(history), layout
        self._composer: Composer | ComposerApart | None = None
        empty = Composer(layout)
        self._last, self.nothing = empty.snapshot(), empty.whole(live=False, frame=0)
        if kernel() is not None:
            with suppress(Gone):
                ComposerApart.prepare()

    @property
    def behind(self) -> bool:
        """Whether the history has gained anything that was not told."""
        return self._following.behind

    def frame(self, *, charts: bool) -> bytes:
        """See :meth:`Composer.frame`."""
        return self._ask(lambda composer: composer.frame(self._following.news(), charts=charts))

    def look(self, *, settled: bool) -> None:
        """See :meth:`Composer.look`."""
        self._ask(lambda composer: composer.look(self._following.news(), settled=settled))

    def whole(self, *, live: bool, frame: int) -> str:
        """See :meth:`Composer.whole`."""
        return self._ask(lambda composer: composer.whole(live=live, frame=frame))

    def snapshot(self) -> Snapshot:
        """The very state that was told last."""
        if self._composer is not None:
            self._last = self._ask(lambda composer: composer.snapshot())
        return self._last

    def rest(self) -> None:
        """Keep the last snapshot, and nothing else; whoever asks again begins anew."""
        self.snapshot()
        self._composer = None

    def _ask(self, question: Callable[[Composer | ComposerApart], Answer]) -> Answer:
        if self._composer is None:
            self._composer = self._here() if kernel() is None else self._apart()
        try:
            return question(self._composer)
        except Gone:
            self._composer = None
        except BaseException:  # it may have taken in half of the news: the next one is told all of them
            self._composer = None
            self._following.forget()
            raise
        composer = self._here()
        answer = question(composer)
        self._composer = composer
        return answer

    def _apart(self) -> Composer | ComposerApart:
        try:
            return self._informed(ComposerApart(self._layout))
        except Gone:
            return self._here()

    def _here(self) -> Composer:
        return self._informed(Composer(self._layout))

    def _informed(self, composer: SomeComposer) -> SomeComposer:
        self._following.forget()
        composer.look(self._following.news(), settled=self._last.settled)
        return composer
