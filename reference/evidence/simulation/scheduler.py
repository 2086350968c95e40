"""Who goes on next: one thread at a time, chosen by a seed at every step, on a clock that goes only when nobody else can.

What enters is blocking code that calls :meth:`Scheduler.step` before whatever others could notice, and
:meth:`Scheduler.wait` where it blocks; what leaves is one interleaving of it, the same for the same seed. The code runs in
greenlets: it is not changed for this, and does not know.
"""

from __future__ import annotations

import heapq
import random
import re
from collections.abc import Callable
from types import TracebackType
from typing import Final, NamedTuple, Self

from greenlet import GreenletExit, getcurrent, greenlet

__all__ = ["Begun", "Moment", "Process", "Scheduler", "Thread", "readable"]

STEP_S: Final = 0.001
START_S: Final = 1.0

Ready = Callable[[], bool]

_EVENT: Final = re.compile(r"00000000-0000-4000-8000-0*(\d+)")  # as the simulation numbers them
_LONG: Final = re.compile(r"\[(?:\d+, ){8,}\d+\]")


def readable(thing: object) -> str:
    """Without what tells a reader nothing: events by their number, and no long lists of buckets."""
    text = _EVENT.sub(r"event-\1", str(thing))
    return _LONG.sub(lambda found: f"[{found[0].count(',') + 1} buckets]", text)


class Moment(NamedTuple):
    """One line of a trace: at that time this thread went on, to do this; or had done it, with this outcome."""

    at: float
    who: str
    what: str
    about: object = None
    outcome: object = None

    def __str__(self) -> str:
        about = "" if self.about is None else f" {readable(self.about)}"
        outcome = "" if self.outcome is None else f" → {readable(self.outcome)}"
        return f"{self.at:9.3f}  {self.who:<16} {self.what}{about}{outcome}"


class Begun:
    """A step under way. When its block ends its line is written: ``outcome``, and behind that what was raised, if anything."""

    __slots__ = ("_about", "_scheduler", "_what", "_who", "outcome")

    def __init__(self, scheduler: Scheduler, who: str, what: str, about: object) -> None:
        self._scheduler, self._who, self._what, self._about = scheduler, who, what, about
        self.outcome: object = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        outcome = self.outcome
        if isinstance(error, GreenletExit):
            outcome = "does not live to hear"
        elif error is not None:
            outcome = f"{outcome}: {error}" if outcome else error
        scheduler = self._scheduler
        scheduler.trace.append(Moment(scheduler.now, self._who, self._what, self._about, outcome))


class Thread:
    """A thread of a process: what it is about to do, and what it waits for."""

    __slots__ = ("about", "greenlet", "name", "process", "ready", "tells", "until", "what")

    def __init__(self, process: Process, name: str) -> None:
        self.process, self.name = process, name
        self.greenlet: greenlet
        self.what, self.about = "starts", None  # type: str, object
        self.tells = False  # whether it writes the line of this step itself, when it knows what came of it
        self.ready: Ready | None = None
        self.until: float | None = None


class Process:
    """What is killed or frozen as a whole. ``mortal`` is one that faults may hit."""

    def __init__(self, scheduler: Scheduler, name: str, *, mortal: bool = True) -> None:
        self.scheduler, self.name, self.mortal = scheduler, name, mortal
        self.alive, self.frozen_until = True, 0.0
        self.breaks = ""  # when its next statement loses the connection: before it is carried out, or after
        self.unanswered = False  # whether the broker will leave what it publishes next unanswered
        self.threads: list[Thread] = []

    @property
    def frozen(self) -> bool:
        return self.frozen_until > self.scheduler.now

    def start(self, work: Callable[[], None], name: str = "") -> None:
        """Begin a thread. An exception that ``work`` lets out is kept in :attr:`Scheduler.errors`."""
        self.scheduler.start(Thread(self, f"{self.name}/{name}" if name else self.name), work)

    def kill(self) -> None:
        """Gone, between two steps. Whatever its code still wants to do on its way out reaches nobody."""
        self.alive = False
        for thread in list(self.threads):
            thread.greenlet.throw(GreenletExit)
            self.scheduler.forget(thread)


class Scheduler:
    """``draw`` decides; ``stick`` is how likely the thread that went last goes on; ``disturb`` is asked before each step."""

    def __init__(self, draw: random.Random, *, stick: float = 0.0) -> None:
        self.draw, self._stick = draw, stick
        self.now, self.steps = START_S, 0
        self.trace: list[Moment] = []
        self.errors: list[tuple[str, BaseException]] = []
        self.disturb: Callable[[Thread], None] = lambda thread: None
        self._threads: list[Thread] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timed = 0
        self._hub = getcurrent()
        self._current: Thread | None = None

    # -- called by whoever runs ------------------------------------------------------------------------------------------

    def step(self, what: str, about: object = None) -> None:
        """Others may go on before this; and this may be the last that the caller ever did."""
        thread = self._mine()
        thread.what, thread.about = what, about
        self._hub.switch()

    def begin(self, what: str, about: object = None) -> Begun:
        """A step with an outcome. Its line comes behind those of what it has to wait for, or a reader would take it for done."""
        thread = self._mine()
        thread.what, thread.about, thread.tells = what, about, True
        self._hub.switch()
        return Begun(self, thread.name, what, about)

    def wait(self, what: str, *, ready: Ready | None = None, until: float | None = None) -> None:
        """Go no further before ``ready`` or that time. Without either, never."""
        thread = self._mine()
        thread.what, thread.about = what, None
        thread.ready, thread.until = ready or _never, until
        self._hub.switch()
        thread.ready = thread.until = None

    def note(self, who: str, what: str, about: object = None) -> None:
        """A line of the trace that is no step."""
        self.trace.append(Moment(self.now, who, what, about))

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        """Have something happen that is nobody's step, such as a message that arrives."""
        self._timed += 1
        heapq.heappush(self._timers, (self.now + delay_s, self._timed, act))

    def _mine(self) -> Thread:
        thread = self._current
        if thread is None or not thread.process.alive:
            raise GreenletExit
        return thread

    # -- called by whoever looks on --------------------------------------------------------------------------------------

    def start(self, thread: Thread, work: Callable[[], None]) -> None:
        thread.greenlet = greenlet(lambda: self._live(thread, work), parent=self._hub)
        thread.process.threads.append(thread)
        self._threads.append(thread)

    def forget(self, thread: Thread) -> None:
        """It has come to its end, if it ever began."""
        if thread in self._threads:
            self._threads.remove(thread)
            thread.process.threads.remove(thread)

    def run(self, done: Callable[[], bool], *, steps: int) -> bool:
        """Let everybody go on until ``done``, which is asked when all wait; ``False`` when so many steps did not suffice."""
        while self.steps < steps:
            self._ring()
            now = self.now
            runnable = [thread for thread in self._threads if thread.process.frozen_until <= now and _goes(thread, now)]
            if runnable:
                self._go(self._choose(runnable))
            elif done():
                return True
            elif (moment := self._next_moment()) is None:
                return False
            else:
                self.now = moment
        return False

    def end(self) -> None:
        """Nobody goes on, and of those who were waiting nothing is said."""
        told = len(self.trace)
        for process in dict.fromkeys(thread.process for thread in self._threads):
            process.kill()
        del self.trace[told:]

    def _choose(self, runnable: list[Thread]) -> Thread:
        draw, last = self.draw.random, self._current
        if last in runnable and draw() < self._stick:
            assert last is not None
            return last
        return runnable[int(draw() * len(runnable))]

    def _go(self, thread: Thread) -> None:
        self.steps += 1
        self.now += STEP_S
        self._current = None
        self.disturb(thread)
        if thread.process.alive and not thread.process.frozen:
            self._current = thread
            if not thread.tells:
                self.trace.append(Moment(self.now, thread.name, thread.what, thread.about))
            thread.tells = False
            thread.greenlet.switch()

    def _ring(self) -> None:
        while self._timers and self._timers[0][0] <= self.now:
            heapq.heappop(self._timers)[2]()

    def _next_moment(self) -> float | None:
        moments = [thread.until for thread in self._threads if thread.until is not None and not thread.process.frozen]
        moments += [thread.process.frozen_until for thread in self._threads if thread.process.frozen]
        moments += [self._timers[0][0]] if self._timers else []
        return min(moments, default=None)

    def _live(self, thread: Thread, work: Callable[[], None]) -> None:
        try:
            work()
        except GreenletExit:
            pass
        except Exception as error:
            self.errors.append((thread.name, error))
        self.forget(thread)


def _goes(thread: Thread, now: float) -> bool:
    return thread.ready is None or (thread.until is not None and thread.until <= now) or thread.ready()


def _never() -> bool:
    return False
