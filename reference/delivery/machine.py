"""What a relay or a consumer takes from the machine it runs on: time, threads, and sessions with a database.

Everything else is handed to it by its caller. A simulation gives others, and so decides who goes on when.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import psycopg

__all__ = ["HERE", "Machine"]


def _one_thread(name: str) -> Executor:
    return ThreadPoolExecutor(1, thread_name_prefix=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """``clock`` tells seconds that never go back, ``connect`` opens a session as :func:`psycopg.connect` does, and
    ``executor`` makes one thread of that name, which does what is submitted to it in turn.
    """

    clock: Callable[[], float] = time.monotonic
    connect: Callable[..., psycopg.Connection[Any]] = psycopg.connect
    executor: Callable[[str], Executor] = _one_thread


HERE: Final = Machine()
