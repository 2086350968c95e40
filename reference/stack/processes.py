"""The processes of a stack, found by a mark in their environment.

What a dead supervisord left behind is known by what it is, not by a pid that may be somebody else's by now.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

import psutil

from reference.stack.home import Home

__all__ = ["MARK", "OWNED", "STOP_S", "processes", "sweep"]

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
    left = processes(home)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(left, timeout=STOP_S)
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=STOP_S)
    home.socket.unlink(missing_ok=True)
    if home.path in OWNED:
        OWNED.pop(home.path).wait(STOP_S)
    return len(left)
