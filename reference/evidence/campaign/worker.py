"""One process of an experiment: started, killed and started again, and never left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from typing import Any, Final, Self

from reference.evidence.owner import OWNER, watched

__all__ = ["Worker"]

PRELOAD: Final = ["reference.evidence.victim"]


class Worker:
    """A process that runs ``work(**settings)``.

    Forked from a server that has the imports done, it is at work in some hundredths of a second. With an ``environment`` of
    its own, which a fork cannot have, it is a new program: ``work`` must then be a command of
    :mod:`reference.evidence.victim`, and it takes a second.
    """

    def __init__(self, work: Callable[..., None], *, environment: Mapping[str, str] | None = None, **settings: Any) -> None:
        self._work, self._environment, self._settings = work, environment, settings
        self._process: BaseProcess | subprocess.Popen[bytes] | None = None
        self._ends: list[int] = []
        self._expected: set[int | None] = set()

    def start(self, *, environment: Mapping[str, str] | None = None, **changes: Any) -> Self:
        """Run, with some settings, or the environment, changed for this time."""
        self._look()
        self._expected = {None, -signal.SIGKILL}
        settings, around = self._settings | changes, self._environment if environment is None else environment
        self._process = self._forked(settings) if around is None else self._executed(settings, around)
        return self

    def restart(self, *, environment: Mapping[str, str] | None = None, **changes: Any) -> Self:
        self.kill()
        return self.start(environment=environment, **changes)

    @property
    def pid(self) -> int:
        """Raises :class:`RuntimeError` before the first start."""
        if self._process is None or self._process.pid is None:
            raise RuntimeError("this process was never started")
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code, minus the signal's number after a kill; ``None`` while it runs."""
        if isinstance(self._process, subprocess.Popen):
            return self._process.poll()
        return self._process.exitcode if self._process is not None else None

    @property
    def runs(self) -> bool:
        return self._process is not None and self.code is None

    @property
    def wrong_ends(self) -> list[int]:
        """The exit codes with which it ended although nobody killed or stopped it: bugs, and not faults."""
        return [*self._ends, *([self.code] if self.code not in self._expected and self.code is not None else [])]

    def _look(self) -> None:
        self._ends = self.wrong_ends
        self._expected = {self.code}

    def died(self, within_s: float, *, rightly: bool = False) -> bool:
        """Wait so long for it to end by itself; says whether it did, and if it was right to, that is no complaint."""
        if rightly:
            self._expected |= set(range(-64, 256))
        deadline = time.monotonic() + within_s
        while self.runs and time.monotonic() < deadline:
            time.sleep(0.002)
        return not self.runs

    def kill(self) -> None:
        """SIGKILL, also to a frozen one, and wait until it is gone. Nothing is cleaned up."""
        if self._process is None:
            return
        self._look()
        self._expected.add(-signal.SIGKILL)
        self._process.kill()
        if isinstance(self._process, subprocess.Popen):
            self._process.wait()
        else:
            self._process.join()

    def stop(self, within_s: float = 30.0) -> None:
        """SIGTERM, for an orderly end, and any other is a complaint; SIGKILL when none comes."""
        if self.runs:
            self._expected |= {0, -signal.SIGTERM}  # the signal itself, where it came before anybody waited for it
            os.kill(self.pid, signal.SIGTERM)
            self.died(within_s)
        self.kill()

    def _forked(self, settings: dict[str, Any]) -> BaseProcess:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        process = context.Process(target=watched, args=(os.getpid(), self._work), kwargs=settings, daemon=True)
        process.start()
        return process

    def _executed(self, settings: dict[str, Any], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        words = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        command = [sys.executable, "-m", "reference.evidence.victim", self._work.__name__, *words]
        owned = {**os.environ, **environment, OWNER: str(os.getpid())}
        return subprocess.Popen(command, env=owned, stdin=subprocess.DEVNULL)
