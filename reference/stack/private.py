"""``private_stack``: services of one process's own, to be killed, frozen and filled up, and gone with the block.

They are processes of this machine in a temporary home on free ports. Environment variables that name other services have no
say in it: whoever breaks things here breaks nothing of the user's. Killed at any line: the services end with this process,
even by SIGKILL; the home, and a small disk, stay until the next private stack of the same user, which takes them away.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from xmlrpc.client import Fault

from reference.stack import verbs
from reference.stack.address import Endpoints
from reference.stack.catalog import chosen
from reference.stack.clock import shifted_clock
from reference.stack.errors import StackError
from reference.stack.home import PRIVATE, Home
from reference.stack.outages import stop
from reference.stack.processes import kill_all
from reference.stack.small_disk import SmallDisk

__all__ = ["PrivateStack", "postgres_disk", "private_stack", "shift_clocks"]

PREFIX = "eda-private-"
SMALLEST_MB = 128  # an empty cluster takes about eighty


@dataclass(frozen=True, slots=True)
class PrivateStack:
    """``home`` is what every verb of :mod:`reference.stack` takes to mean this stack; ``endpoints`` do not change while it is."""

    home: Path
    endpoints: Endpoints


@contextmanager
def private_stack(
    *services: str,
    postgres_disk_mb: int = 0,
    clock_hours: Mapping[str, float] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[PrivateStack]:
    """Start these services, or all, for the block, and leave nothing of them behind, whatever ends it.

    ``postgres_disk_mb`` puts Postgres on a :class:`SmallDisk`, which needs root. ``clock_hours`` names services whose wall
    clock is off by so many hours, and stays so over restarts. Call it from a thread that outlives the block, for the services
    end with the thread that started them. Raises :class:`StackError`.
    """
    if 0 < postgres_disk_mb < SMALLEST_MB:
        raise StackError(f"Postgres does not fit on {postgres_disk_mb} MB: give it {SMALLEST_MB} or more")
    if postgres_disk_mb and services and "postgres" not in services:
        raise StackError("postgres_disk_mb is given, and postgres is not among the services: name it too")
    clocks = _clocks(clock_hours or {})
    _remove_abandoned()
    path = Path(tempfile.mkdtemp(prefix=PREFIX))
    lock = _claim(path)
    try:
        home = Home.open(path)
        home.remember_environment(clocks)
        if postgres_disk_mb:
            SmallDisk.mount(_postgres_data(home), megabytes=postgres_disk_mb)
        yield PrivateStack(home.path, verbs.up(services, home=home.path, owner=True, say=say))
    finally:
        _remove(path)
        lock.close()


def shift_clocks(clock_hours: Mapping[str, float], *, home: verbs.Where) -> None:
    """From their next start on, the wall clocks of these services are off by so many hours, and those of all others right.

    Raises :class:`StackError` for a service there is not, and for a home that is not private.
    """
    clocks, place = _clocks(clock_hours), Home.open(home)
    if not place.is_private:
        raise StackError(f"the clocks of {place.path} stay right: only a private stack's can be wrong")
    place.remember_environment(clocks)


def _clocks(hours: Mapping[str, float]) -> dict[str, dict[str, str]]:
    services = chosen(hours) if hours else ()
    return {service.name: shifted_clock(hours=hours[service.name]) for service in services}


def postgres_disk(home: verbs.Where) -> SmallDisk:
    """The small disk that Postgres of this home is on. Raises :class:`StackError` where it is on everybody's."""
    return SmallDisk.at(_postgres_data(Home.open(home)))


def _postgres_data(home: Home) -> Path:
    (postgres,) = chosen(["postgres"])
    return postgres.data(home)


def _claim(path: Path) -> IO[str]:
    """Make the home private, and ours as long as this process lives: the kernel lets go of the lock when it dies."""
    unfinished = path / f"{PRIVATE}.new"
    lock = unfinished.open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    unfinished.rename(path / PRIVATE)
    return lock


def _remove(path: Path) -> None:
    try:
        with suppress(StackError, Fault):  # it does not run, or its supervisord is on its way out
            stop("postgres", mode="immediate", home=path)  # it takes its shared memory along, as after a kill nobody would
        kill_all(Home.open(path))  # nobody will read what an orderly stop would save
        verbs.erase(home=path)
    finally:
        with suppress(StackError):
            postgres_disk(path).unmount()
        shutil.rmtree(path, ignore_errors=True)


def _remove_abandoned() -> None:
    """What a process that was killed had no time to take away: its lock is free."""
    for mark in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{PRIVATE}"):
        with suppress(OSError, StackError), mark.open("r+") as lock:  # what can not be removed stops nobody
            if mark.stat().st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(mark.parent)
