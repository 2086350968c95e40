"""Faults at a named point of the code: a crash that the process survives, or a SIGKILL that it does not.

:data:`POINTS` says in words where each point lies. ``Relay(at=…)``, ``ChangeRelay(at=…)`` and ``Consumer(at=…)`` call what
they are given at each of them; what happens between two points is what a fault there takes away or leaves behind.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Mapping
from typing import Final

from reference.evidence.faults.chance import OnceIn
from reference.evidence.history import History, Record

__all__ = ["POINTS", "Crash", "at", "check_point", "crash", "kill", "somewhere"]

POINTS: Final[Mapping[str, Mapping[str, str]]] = {
    "relay": {
        "read": "after read, before publish",
        "published": "after publish, before mark",
        "deleted": "after mark, before its commit",
        "marked": "after mark, before the next page is read",
    },
    "cdc": {
        "read": "after read, before publish",
        "published": "after publish, before the slot is advanced",
        "advanced": "after the slot was advanced, before the log is read again",
    },
    "consumer": {
        "received": "after read, before the effect",
        "applied": "after effect, before commit",
        "committed": "after commit, before ack",
        "skipped": "after the inbox has said that it came before, before ack",
        "ignored": "after finding that there is no handler, before ack",
        "acked": "after ack, before the next event",
    },
}
RARE: Final = {"skipped", "ignored"}  # not every event passes there


class Crash(BaseException):
    """The process is gone, as far as the code that was running can tell: no ``except Exception`` survives it."""


class crash:  # noqa: N801 - it reads as a verb: faults.crash("between the writes", every=10)
    """Raises :class:`Crash` once in ``every`` passes of a point, at a pass drawn from ``seed``; call it where the point is.

    ``name`` is for people, and for the history. Raises :class:`ValueError` when ``every`` is less than 1.
    """

    def __init__(self, name: str, *, every: int, seed: int = 0, history: History | None = None) -> None:
        self.name, self.every, self.fired = name, every, 0
        self._hit, self._history = OnceIn(every, seed=seed), history

    def __call__(self, *_: object) -> None:
        if self._hit():
            self.fired += 1
            if self._history is not None:  # an empty one is false
                self._history.add(Record(op="fault", note=self.name))
            raise Crash(self.name)


def kill(point: str, *, nth: int) -> Callable[..., None]:
    """For a process's ``at=``: SIGKILL to itself when it passes ``point`` for the ``nth`` time. Nothing is cleaned up.

    Raises :class:`ValueError` when ``nth`` is less than 1.
    """
    if nth < 1:
        raise ValueError(f"a point is passed for the 1st time or later, not for the {nth}th")
    passed = 0

    def here(name: str, *_: object) -> None:
        nonlocal passed
        passed += name == point
        if name == point and passed == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    return here


def at(point: str, fault: Callable[[], object]) -> Callable[..., None]:
    """For a part's ``at=``: have ``fault`` happen at this point and at no other, as in ``at("applied", crash(…))``.

    Raises :class:`ValueError` for a point that no part has, with those there are.
    """
    if not any(point in named for named in POINTS.values()):
        raise ValueError(f"no part has a point {point!r}: there are {'; '.join(_points(part) for part in POINTS)}")

    def here(name: str, *_: object) -> None:
        if name == point:
            fault()

    return here


def somewhere(part: str, *, within: int, seed: int) -> tuple[str, int]:
    """A point of ``part`` and which of its first ``within`` passes, both drawn from ``seed``: what :func:`kill` takes.

    Raises :class:`ValueError` for an unknown part, and when ``within`` is less than 1.
    """
    if part not in POINTS:
        raise ValueError(f"no part {part!r}: there are {', '.join(POINTS)}")
    if within < 1:
        raise ValueError(f"a point has a 1st pass or more to choose from, not {within}")
    draw = random.Random(seed)
    return draw.choice([point for point in POINTS[part] if point not in RARE]), draw.randint(1, within)


def check_point(part: str, point: str) -> None:
    """Raise :class:`ValueError` unless ``part`` has that point, with those it has: what never fires proves nothing."""
    if point not in POINTS[part]:
        raise ValueError(f"no point {point!r}: there are {_points(part)}")


def _points(part: str) -> str:
    return f"{', '.join(POINTS[part])} of the {part}"
