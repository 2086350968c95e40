"""``lab.faults``: what a learner can break with one line or one button, told to the experiment's history, and so on the board.

Services are broken through :mod:`reference.stack`, and only those that it started. Killed at any line: what was broken stays
so until ``eda up``, or the next lab that is opened.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from reference.evidence.faults import services
from reference.evidence.faults.services import Way
from reference.evidence.history import History, Record
from reference.lab.pausing import Pause
from reference.lab.progress import progress
from reference.stack import StackError, is_ours, up
from reference.stack.catalog import SERVICES

__all__ = ["LabFaults"]

VERBS: Final[dict[str, Callable[[str], Any]]] = {
    "kill": services.kill,
    "restart": services.restart,
    "freeze": services.freeze,
    "thaw": services.thaw,
}


class LabFaults:
    """``history`` is asked for each time: an experiment has one of its own. ``pause`` is the consumer's gate."""

    def __init__(self, history: Callable[[], History], pause: Pause) -> None:
        self._history, self._pause = history, pause
        self._broken: dict[str, str] = {}  # service -> kill or freeze
        self._one_at_a_time = threading.RLock()  # buttons have threads of their own

    def kill(self, service: str) -> None:
        """SIGKILL to ``kafka``, ``rabbitmq``, ``pubsub`` or ``postgres``, which stays down until :meth:`restart`.

        Raises :class:`~reference.stack.StackError`, as the others do, when it does not run or is somebody else's.
        """
        with self._breaking("kill", service):
            services.kill(service, history=self._history())

    def restart(self, service: str, *, mode: Way = "kill") -> float:
        """Take it down and bring it back; the seconds until it answered are returned. The lab's own connection mends itself."""
        with self._breaking("restart", service), progress(f"restarting {service}"):
            return services.restart(service, mode=mode, history=self._history())

    def freeze(self, service: str) -> None:
        """It stands still with its connections open, until :meth:`thaw`."""
        with self._breaking("freeze", service):
            services.freeze(service, history=self._history())

    def thaw(self, service: str) -> None:
        with self._breaking("thaw", service):
            services.thaw(service, history=self._history())

    def mend(self) -> None:
        """Bring back, and wait for, every service that was broken here; no change where none was."""
        with self._one_at_a_time:
            if self._broken:
                with progress(f"bringing back {', '.join(sorted(self._broken))}"):
                    up(list(self._broken))
                self._broken.clear()

    def came_back(self, service: str) -> None:
        """Somebody else has started it, and it answers."""
        self._broken.pop(service, None)

    def holding(self) -> set[str]:
        """What was done by hand and still holds, by the names of its buttons: ``kill kafka`` until the lab brought it back."""
        paused = {"pause consumer"} if self._pause.is_closed else set()
        return paused | {f"{verb} {service}" for service, verb in list(self._broken.items())}

    def pause_consumer(self) -> None:
        """The consumer stays in its group and takes nothing, until :meth:`resume_consumer`."""
        self._pause.close()
        self._history().add(Record(op="fault", note="pause consumer"))

    def resume_consumer(self) -> None:
        self._pause.open()
        self._history().add(Record(op="fault", note="resume consumer"))

    def buttons(self, *names: str) -> dict[str, Callable[[], object]]:
        """For the board: ``lab.board(faults=lab.faults.buttons("kill kafka", "restart kafka", "pause consumer"))``.

        A name is ``kill``, ``restart``, ``freeze`` or ``thaw`` and a service, or ``pause consumer``, ``resume consumer``. The
        button of a service that is somebody else's says so, and touches nothing. Raises :class:`ValueError` for other names.
        """
        return dict(self._button(name) for name in names)

    def _button(self, name: str) -> tuple[str, Callable[[], object]]:
        if name in {"pause consumer", "resume consumer"}:
            return name, self._pause.close if name == "pause consumer" else self._pause.open
        verb, _, service = name.partition(" ")
        if verb not in VERBS or service not in SERVICES:
            raise ValueError(
                f"no button is called {name!r}: there are pause consumer, resume consumer, and {', '.join(VERBS)} "
                f"with a service: {', '.join(SERVICES)}"
            )
        return (name if is_ours(service) else f"{name}: not ours"), partial(self._press, verb, service)

    def _press(self, verb: str, service: str) -> None:
        """What a button does: the board itself has recorded that it was pressed."""
        with self._breaking(verb, service):
            VERBS[verb](service)

    @contextmanager
    def _breaking(self, verb: str, service: str) -> Iterator[None]:
        """What is broken is noted before it breaks: an interrupt in between leaves something to mend, and not nothing.

        A kill or freeze that is refused has broken nothing; a restart that fails has.
        """
        with self._one_at_a_time:
            before = self._broken.get(service)
            if verb != "thaw":
                self._broken[service] = "freeze" if verb == "freeze" else "kill"
            try:
                yield
            except StackError:
                if verb != "restart" or not is_ours(service):
                    self._broken.pop(service, None)
                    if before:
                        self._broken[service] = before
                raise
            if verb == "restart" or (verb == "thaw" and before == "freeze"):  # what was killed does not come back by thawing
                self._broken.pop(service, None)
