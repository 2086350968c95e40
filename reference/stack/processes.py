"""The processes of a stack, found by a mark in their environment, and those of one service, found below its first one.

What a dead supervisord left behind is known by what it is, not by a pid that may be somebody else's by now. Postgres' servers
write their title over their environment: they are known by the data directory that they work in.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from reference.stack.accounts import SYSTEM
from reference.stack.errors import StackError
from reference.stack.home import Home

__all__ = [
    "MARK", "OWNED", "STOP_S", "await_end", "family", "freeze", "is_frozen", "kill", "kill_all", "processes", "sweep", "thaw",
]  # fmt: skip

MARK = "EDA_STACK_HOME"
STOP_S = 20.0
# What is our own child has to be waited for by us.
OWNED: dict[Path, subprocess.Popen[bytes]] = {}


def processes(home: Home) -> list[psutil.Process]:
    """Every living process of this home's stack, whoever its parent is by now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(home.path) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def sweep(home: Home) -> int:
    """Stop whatever is left of this home's stack and wait until it is gone; how many processes that were."""
    left = processes(home) + _servers(home)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
            process.resume()  # what is frozen hears nothing
    _, stubborn = psutil.wait_procs(left, timeout=STOP_S)
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=STOP_S)
    home.socket.unlink(missing_ok=True)
    if home.path in OWNED:
        OWNED.pop(home.path).wait(STOP_S)
    return len(left)


def kill_all(home: Home) -> None:
    """SIGKILL to every process of this home's stack, its supervisord first; return when none is left."""
    while left := processes(home) + _servers(home):
        for process in left:
            kill(process.pid)


def family(pid: int) -> list[psutil.Process]:
    """This process and everything below it, parents before children; empty when it is gone, as for pid 0."""
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    return []


def freeze(pid: int) -> list[psutil.Process]:
    """SIGSTOP to the whole family, and return it when every one stands still.

    It is looked at again until nobody is new: a process that stands still has no child that was not seen.
    """
    frozen: dict[int, psutil.Process] = {}
    while fresh := [process for process in family(pid) if process.pid not in frozen]:
        for process in fresh:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
            frozen[process.pid] = process
        _await(fresh, _stands_still, "stand still")
    return list(frozen.values())


def thaw(pid: int) -> None:
    """SIGCONT to the whole family, children first, so that nobody misses a parent that is at work again."""
    for process in reversed(family(pid)):
        with suppress(psutil.NoSuchProcess):
            process.resume()


def is_frozen(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return _status(psutil.Process(pid)) == psutil.STATUS_STOPPED
    return False


def kill(pid: int) -> None:
    """SIGKILL to the whole family, frozen first so that nobody is born or cleans up meanwhile; return when all are gone."""
    everyone = freeze(pid)
    for process in everyone:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    await_end(everyone)


def await_end(gone: Iterable[psutil.Process]) -> None:
    """Return when these are gone; one that is dead and whose parent has not asked for it yet counts as gone.

    Raises :class:`StackError` that names those which stay.
    """
    _await(list(gone), lambda process: _status(process) in {"", psutil.STATUS_ZOMBIE}, "end")


def _await(watched: list[psutil.Process], condition: Callable[[psutil.Process], bool], what: str) -> None:
    deadline = time.monotonic() + STOP_S
    while late := [process for process in watched if not condition(process)]:
        if time.monotonic() > deadline:
            raise StackError(f"pid {', '.join(str(process.pid) for process in late)} did not {what} in {STOP_S:.0f} s")
        time.sleep(0.005)


def _status(process: psutil.Process) -> str:
    """The kernel's word for it, or nothing for one that is gone."""
    try:
        return process.status() if process.is_running() else ""
    except psutil.NoSuchProcess:
        return ""


def _stands_still(process: psutil.Process) -> bool:
    """Every thread of it: the first may, while another is still at work on another core."""
    if _status(process) not in {psutil.STATUS_STOPPED, "", psutil.STATUS_ZOMBIE}:
        return False
    try:
        threads = [path.read_text() for path in Path(f"/proc/{process.pid}/task").glob("*/stat")]
    except OSError:  # one has just ended
        return False
    return all(thread.rpartition(")")[2].split()[0] in "TtZX" for thread in threads)


def _servers(home: Home) -> list[psutil.Process]:
    """What a postmaster that died has left frozen."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.name() == "postgres" and Path(process.cwd()).parent in {home.path / "postgres", SYSTEM / home.token}:
                found.append(process)
    return found
