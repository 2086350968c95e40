"""Another time of day for one process: its wall clock is off by some hours, its monotonic clock is everybody's.

That is what a node with a wrong clock sees. It is done by libfaketime, which is loaded before the program's own libraries and
answers in their place, and by a few lines of C for what it leaves out, compiled once beside the downloads. A program that asks
the kernel itself is not fooled.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from contextlib import suppress
from importlib.resources import as_file, files
from pathlib import Path

import psutil

from reference.stack.accounts import within_reach
from reference.stack.errors import StackError

__all__ = ["COMPILERS", "INSTALL", "library", "shifted_clock"]

INSTALL = "apt-get install libfaketime"
COMPILERS = ("cc", "gcc", "clang", "tcc")
SHARED = Path("/dev/shm")  # noqa: S108  # the kernel's, not a temporary directory
FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib")


def shifted_clock(*, hours: float) -> dict[str, str]:
    """The environment, beside a process's own, in which its wall clock is ``hours`` ahead or, negative, behind.

    Hand it to a program that starts: ``subprocess.Popen(…, env=os.environ | shifted_clock(hours=-1))``. Children inherit it.
    Raises :class:`StackError` where libfaketime or a C compiler is missing.
    """
    _clear()
    first = [str(library()), str(_complement())]
    return {
        "LD_PRELOAD": ":".join([*first, *filter(None, [os.environ.get("LD_PRELOAD")])]),
        "FAKETIME": f"{hours * 3600:+.0f}",
        # Timeouts are measured on the monotonic clock, and so are our histories, across processes.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",  # its older name
        # A remedy for a fault of old C libraries. With these, Java's waits would end at once, and its brokers wait all day.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }


def library() -> Path:
    """libfaketime for programs with threads, wherever the distribution puts it. Raises :class:`StackError`."""
    for folder in map(Path, FOLDERS):
        for pattern in ("*/faketime/libfaketimeMT.so.1", "faketime/libfaketimeMT.so.1"):
            if found := next(iter(sorted(folder.glob(pattern))), None):
                return found
    raise StackError(f"libfaketime is missing, and a clock can not be wrong without it: {INSTALL}")


def _clear() -> None:
    """Remove the shared memory of processes that were killed: libfaketime fails in one that has the pid of such a process."""
    for left in (*SHARED.glob("faketime_shm_*"), *SHARED.glob("sem.faketime_sem_*")):
        pid = left.name.rpartition("_")[2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            with suppress(OSError):  # somebody else's, or gone already
                left.unlink()


def _complement() -> Path:
    """The shared object of :file:`clock.c`, named after its source: it is there whole or not at all."""
    source = files("reference.stack").joinpath("clock.c")
    name = hashlib.sha256(source.read_bytes() + platform.machine().encode()).hexdigest()[:12]
    target = within_reach() / f"clock-{name}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as scratch, as_file(source) as text:
            made = Path(scratch) / target.name
            _compile(text, made)
            made.chmod(0o755)  # Postgres runs as another user
            made.rename(target)
    return target


def _compile(source: Path, target: Path) -> None:
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise StackError("a C compiler is missing, and a clock can not be wrong without it: apt-get install tcc")
    words = [compiler, "-shared", "-fPIC", "-nostdlib", "-o", str(target), str(source)]
    said = subprocess.run(words, capture_output=True, text=True, check=False)
    if said.returncode:
        raise StackError(f"{compiler} could not compile {source.name}: {said.stderr.strip().splitlines()[-1:]}")
