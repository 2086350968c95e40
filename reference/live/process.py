"""A composer in a process of its own, so that a board takes no time from the cell that it shows.

A kernel runs one thread at a time: what a board computes, the consumer in the cell would wait for. So only what is new leaves the
kernel, and what a page is told comes back. Promises that a board need not know where it is composed; that the process ends with
the kernel, however that ends; and that whoever asks is told :class:`Gone` when it has ended, or has not answered for
:data:`PATIENCE_S` seconds, and has lost nothing: a history is whole, and can be composed anew. A fork of the kernel starts
one of its own.
"""

from __future__ import annotations

import itertools
import os
import pickle
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from operator import attrgetter
from typing import Any, Final, Self

from reference.evidence.history import FIELDS, Record
from reference.live import pipe
from reference.live.composer import Composer, Layout
from reference.live.following import News
from reference.live.snapshot import Snapshot

__all__ = ["ComposerApart", "Gone"]

PATIENCE_S: Final = 60.0  # a million records take a quarter of that
_PICKLED: Final = pickle.HIGHEST_PROTOCOL  # both ends are the same Python
_packed: Final = attrgetter(*FIELDS)


class Gone(Exception):
    """The process could not be started, has ended, or could not do what it was asked."""


class ComposerApart:
    """What :class:`Composer` does, done in the process that all boards of this one share. Every call may raise :class:`Gone`."""

    _numbers = itertools.count()

    @staticmethod
    def prepare() -> None:
        """Start the process, so that nobody waits for it later. Raises :class:`Gone`."""
        _Worker.shared()

    def __init__(self, layout: Layout) -> None:
        self._number = next(self._numbers)
        self._worker = _Worker.shared()
        self._ask("open", layout)

    def frame(self, news: News, *, charts: bool) -> bytes:
        return bytes(self._ask("frame", _told(news), charts))

    def look(self, news: News, *, settled: bool) -> None:
        self._ask("look", _told(news), settled)

    def whole(self, *, live: bool, frame: int) -> str:
        return str(self._ask("whole", live, frame))

    def snapshot(self) -> Snapshot:
        found: Snapshot = self._ask("snapshot")
        return found

    def _ask(self, verb: str, *words: Any) -> Any:
        return self._worker.ask(self._number, verb, *words)

    def __del__(self) -> None:
        """May come in the middle of another's question, in its very thread, and so asks nothing itself."""
        if worker := getattr(self, "_worker", None):
            worker.closing.append(self._number)


class _Worker:
    """The process, started by the first who asks. One that is gone is not asked again: the next board starts another."""

    _one: Self | None = None
    _starting = threading.Lock()

    @classmethod
    def shared(cls) -> Self:
        with cls._starting:
            if cls._one is not None and cls._one.process.poll() is not None:
                cls._one.end()
            if cls._one is None or cls._one.gone:
                cls._one = cls()
            return cls._one

    @classmethod
    def leave(cls) -> None:
        """In a copy of this process that was forked off: the pipes are the original's, and so is whoever sits at their ends."""
        one, cls._one, cls._starting = cls._one, None, threading.Lock()
        if one is not None and not one.gone:
            one._let_go()

    def __init__(self) -> None:
        self.gone = False
        self.closing: deque[int] = deque()  # composers that nobody asks any more
        self._asking = threading.Lock()
        hears, self._to = os.pipe()
        self._back, answers = os.pipe()  # not its standard output, where anything that is imported may print
        # -P: what lies in the notebook's folder is not imported. A session of its own: who interrupts the kernel means the cell.
        command = [sys.executable, "-P", "-m", "reference.live.process", str(hears), str(answers)]
        quiet = subprocess.DEVNULL
        try:
            self.process = subprocess.Popen(
                command, pass_fds=(hears, answers), stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
            )
        except OSError as error:
            self._let_go()
            raise Gone(str(error)) from error
        finally:
            os.close(hears)
            os.close(answers)
        for ours in (self._to, self._back):
            os.set_blocking(ours, False)

    def ask(self, *request: Any) -> Any:
        """The answer to a composer's number, a verb and its words. Safe from any thread."""
        if self.gone:  # as in a fork, where nobody lets go of the lock any more
            raise Gone("it has ended")
        with self._asking:
            if self.gone:
                raise Gone("it has ended")
            until = time.monotonic() + PATIENCE_S
            closing = list(self.closing)
            question = pickle.dumps((closing, *request), protocol=_PICKLED)  # what cannot be asked ends nobody
            try:
                pipe.send(self._to, question, until)
                for _ in closing:
                    self.closing.popleft()
                done, answer = pickle.loads(pipe.received(self._back, until))  # noqa: S301  from our own process
            except BaseException as error:  # an interrupt as well: the next who asked would be given this one's answer
                self._end()
                if isinstance(error, (OSError, EOFError)):
                    raise Gone("it has ended, or does not answer") from error
                raise
        if not done:
            raise Gone(answer)
        return answer

    def end(self) -> None:
        """Whoever asks it is told that it is gone."""
        with self._asking:
            if not self.gone:
                self._end()

    def _end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._let_go()

    def _let_go(self) -> None:
        self.gone = True
        os.close(self._to)
        os.close(self._back)


os.register_at_fork(after_in_child=_Worker.leave)


def _told(news: News) -> tuple[list[Any], bool]:
    """As plain tuples: to write a record's class and its names with each would cost seven times as much."""
    return list(map(_packed, news.records)), news.anew


def _news(told: tuple[list[Any], bool]) -> News:
    return News([Record(**dict(zip(FIELDS, record, strict=True))) for record in told[0]], told[1])


def serve(back: int, to: int) -> None:
    """Answer what is asked until nobody is left who could ask."""
    composers: dict[int, Composer] = {}
    verbs: dict[str, Callable[..., Any]] = {
        "open": lambda number, layout: composers.__setitem__(number, Composer(layout)),
        "frame": lambda number, told, charts: composers[number].frame(_news(told), charts=charts),
        "look": lambda number, told, settled: composers[number].look(_news(told), settled=settled),
        "whole": lambda number, live, frame: composers[number].whole(live=live, frame=frame),
        "snapshot": lambda number: composers[number].snapshot(),
    }
    with suppress(EOFError, BrokenPipeError):
        while True:
            request = pipe.received(back)
            try:
                closing, number, verb, *words = pickle.loads(request)  # noqa: S301  from the kernel that started us
                for closed in closing:
                    composers.pop(closed, None)
                answer = True, verbs[verb](number, *words)
            except Exception as error:  # of one board; the others go on
                answer = False, repr(error)
            pipe.send(to, pickle.dumps(answer, protocol=_PICKLED))


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))
