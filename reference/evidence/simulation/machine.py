"""The machine that a simulated process runs on: its clock, its threads, its sleep. All of it asks the scheduler."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Final

from reference.delivery.machine import Machine
from reference.evidence.simulation.connection import Connection
from reference.evidence.simulation.database import Database
from reference.evidence.simulation.scheduler import Process

__all__ = ["DSN", "Stop", "machine"]

DSN: Final = "postgresql://simulation/shop"  # leads nowhere


def machine(process: Process, database: Database) -> Machine:
    """For the code of ``process``, in which it finds nothing but the simulation."""
    scheduler = process.scheduler
    return Machine(
        clock=lambda: scheduler.now,
        connect=lambda dsn, **options: Connection(database, process, **options),  # type: ignore[arg-type]
        executor=lambda name: Worker(process, name),
    )


class Stop(threading.Event):
    """Never set; waiting for it is sleeping."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._scheduler = process.scheduler

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None, "it would sleep for ever"
        self._scheduler.wait(f"sleeps {timeout:g} s", until=self._scheduler.now + timeout)
        return False


class Task(Future[Any]):
    """What a worker was given to do; whoever asks for the result waits as threads do."""

    def __init__(self, process: Process, work: Callable[[], Any]) -> None:
        super().__init__()
        self._process, self._work = process, work
        self.over, self._value, self._error = False, None, None  # type: bool, Any, Exception | None

    def run(self) -> None:
        try:
            self._value = self._work()
        except Exception as error:
            self._error = error
        self.over = True

    def result(self, timeout: float | None = None) -> Any:
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self._value

    def exception(self, timeout: float | None = None) -> Exception | None:
        assert timeout is None, "nobody asks for that yet"
        if not self.over:
            self._process.scheduler.wait("waits for its other thread", ready=lambda: self.over)
        return self._error


class Worker(Executor):
    """One thread that does what is submitted, in turn."""

    def __init__(self, process: Process, name: str) -> None:
        self._process, self._name, self._started = process, name.removeprefix("relay-"), False
        self._tasks: list[Task] = []

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task:
        task = Task(self._process, lambda: work(*args, **kwargs))
        self._tasks.append(task)
        if not self._started:
            self._started = True
            self._process.start(self._run, self._name)
        return task

    def _run(self) -> None:
        while True:
            if not self._tasks:
                self._process.scheduler.wait("waits for work", ready=lambda: bool(self._tasks))
            self._tasks.pop(0).run()
