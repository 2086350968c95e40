"""Whose a process is: one that was started to be broken ends, at the latest a second after whoever started it has gone.

A fork server and its children outlive a parent that was killed; nothing in the operating system ends them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Final

import psutil

__all__ = ["OWNER", "end_with", "watched"]

OWNER: Final = "EDA_CAMPAIGN_OWNER"  # the variable that names the owner's pid to a program
EVERY_S: Final = 1.0


def watched(owner: int, work: Callable[..., None], **settings: Any) -> None:
    """Do ``work``, and end with the process ``owner``."""
    end_with(owner)
    work(**settings)


def end_with(owner: int) -> None:
    """From here on, this process is killed when that one has gone. A pid that was given to somebody else is not taken for it."""
    try:
        process = psutil.Process(owner)
    except psutil.NoSuchProcess:
        os._exit(1)
    threading.Thread(target=_watch, args=(process,), name="owner-watch", daemon=True).start()


def _watch(owner: psutil.Process) -> None:
    pause = threading.Event()  # and not a sleep, which fails under a clock that was shifted
    while owner.is_running() and owner.status() != psutil.STATUS_ZOMBIE:
        pause.wait(EVERY_S)
    os._exit(1)
