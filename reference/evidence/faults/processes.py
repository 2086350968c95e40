"""Faults of whole processes: frozen past a lease, or killed. Only the process that is handed over is touched.

A frozen process is continued again, also when the block around it fails. Killed at any line itself, the caller may leave it
frozen: ``kill -CONT PID`` continues it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

import psutil

from reference.evidence.history import History, Record

__all__ = ["Victim", "kill", "pause", "paused"]

PATIENCE_S: Final = 30.0
LOOK_EVERY_S: Final = 0.01
GONE: Final = {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
FROZEN: Final = {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP, *GONE}


class _HasPid(Protocol):
    @property
    def pid(self) -> int | None: ...


Victim = int | _HasPid  # a pid, or what subprocess, multiprocessing and psutil call a process


@contextmanager
def paused(victim: Victim, *, history: History | None = None, name: str = "pause") -> Iterator[psutil.Process]:
    """Freeze a process with SIGSTOP while the block runs. In the block it is really still, at its end it goes on.

    To everybody else it is silent and not gone: its connections stay open, its leases run out. Raises
    :class:`ProcessLookupError` when it has ended, :class:`PermissionError` when it is somebody else's, and
    :class:`ValueError` for this process itself, which could not continue itself.
    """
    process = _find(victim)
    _record(history, name)
    try:
        _signal(process, process.suspend)
        _await(process, FROZEN)
        yield process
    finally:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.resume()


def pause(victim: Victim, *, for_s: float, history: History | None = None, name: str = "pause") -> None:
    """Freeze a process for ``for_s`` seconds and continue it: past its lease, if that is shorter. Raises as :func:`paused` does.

    It takes as long as it says, or until the process is killed by somebody else.
    """
    if for_s < 0:
        raise ValueError(f"a process is frozen for 0 s or more, not {for_s:g} s")
    with paused(victim, history=history, name=name) as process:
        until = time.monotonic() + for_s
        while (left := until - time.monotonic()) > 0 and not _is(process, GONE):
            time.sleep(min(left, LOOK_EVERY_S))


def kill(victim: Victim, *, history: History | None = None, name: str = "kill") -> None:
    """SIGKILL, and wait until the process is gone, frozen or not. Its exit code is left to its parent.

    Raises as :func:`paused` does.
    """
    process = _find(victim)
    _record(history, name)
    _signal(process, process.kill)
    _await(process, GONE)


def _find(victim: Victim) -> psutil.Process:
    pid = victim if isinstance(victim, int) else victim.pid
    if pid is None:
        raise ValueError("this process was not started yet: start it first")
    if pid < 2 or pid == os.getpid():
        raise ValueError(f"pid {pid} is {'this process itself' if pid == os.getpid() else 'nobody to harm'}: hand over another")
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        raise ProcessLookupError(f"there is no process {pid} any more") from None
    if _is(process, GONE):
        raise ProcessLookupError(f"process {pid} has ended")
    return process


def _signal(process: psutil.Process, send: Callable[[], object]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        raise ProcessLookupError(f"process {process.pid} has ended") from None
    except psutil.AccessDenied:
        raise PermissionError(f"process {process.pid} belongs to somebody else") from None


def _is(process: psutil.Process, states: set[str]) -> bool:
    try:
        return process.status() in states
    except psutil.NoSuchProcess:
        return True


def _await(process: psutil.Process, states: set[str]) -> None:
    """Signals are sent, not answered: look until the kernel has acted."""
    deadline = time.monotonic() + PATIENCE_S
    while not _is(process, states):
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {process.pid} is still {process.status()} after {PATIENCE_S:g} s")
        time.sleep(LOOK_EVERY_S)


def _record(history: History | None, name: str) -> None:
    if history is not None:  # an empty one is false
        history.add(Record(op="fault", note=name))
