"""``lab.faults``: what a learner can break with one line or one button, told to the experiment's history, and so on the board.

Services are broken through :mod:`reference.stack`, and only those that it started. Killed at any line: what was broken stays
so until ``eda up``, or the next lab that is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from reference.evidence.faults import services
from reference.evidence.faults.services import Way
from reference.evidence.history import History, Record
from reference.lab.pausing import Pause
from reference.lab.progress import progress
from reference.stack import is_ours, up
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

    def kill(self, service: str) -> None:
        """SIGKILL to ``kafka``, ``rabbitmq``, ``pubsub`` or ``postgres``, which stays down until :meth:`restart`.

        Raises :class:`~reference.stack.StackError`, as the others do, when it does not run or is somebody else's.
        """
        services.kill(service, history=self._history())
        self._note("kill", service)

    def restart(self, service: str, *, mode: Way = "kill") -> float:
        """Take it down and bring it back; the seconds until it answered are returned. The lab's own connection mends itself."""
        with progress(f"restarting {service}"):
            seconds = services.restart(service, mode=mode, history=self._history())
        self._note("restart", service)
        return seconds

    def freeze(self, service: str) -> None:
        """It stands still with its connections open, until :meth:`thaw`."""
        services.freeze(service, history=self._history())
        self._note("freeze", service)

    def thaw(self, service: str) -> None:
        services.thaw(service, history=self._history())
        self._note("thaw", service)

    def mend(self) -> None:
        """Bring back, and wait for, every service that was broken here; no change where none was."""
        if self._broken:
            with progress(f"bringing back {', '.join(sorted(self._broken))}"):
                up(list(self._broken))
            self._broken.clear()

    def holding(self) -> set[str]:
        """What was done by hand and still holds, by the names of its buttons: ``kill kafka`` until it was brought back."""
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
        VERBS[verb](service)
        self._note(verb, service)

    def _note(self, verb: str, service: str) -> None:
        if verb in {"kill", "freeze"}:
            self._broken[service] = verb
        elif verb == "restart" or self._broken.get(service) == "freeze":  # what was killed does not come back by thawing
            self._broken.pop(service, None)
