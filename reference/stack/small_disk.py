"""A disk so small that it can be filled on purpose: a tmpfs of some megabytes, mounted where a service keeps its data.

What is mounted stays until :meth:`SmallDisk.unmount`, also when the process that mounted it is killed: the next
:func:`~reference.stack.private_stack` on the machine takes away what a dead one has left.
"""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from reference.stack.errors import StackError

__all__ = ["SmallDisk"]

NAME = "eda-small-disk"  # what the kernel's table of mounts calls it: no other file system is ever filled or unmounted
BALLAST = "ballast"
BLOCK = 64 * 1024


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A mounted tmpfs; everything under ``path`` is gone when it is unmounted."""

    path: Path

    @classmethod
    def mount(cls, path: Path, *, megabytes: int) -> Self:
        """Mount one at ``path``, made if missing. Raises :class:`StackError` where the system does not allow it."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        wishes = f"size={megabytes}m,mode=0700"
        said = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", wishes, NAME, str(path)], capture_output=True, text=True, check=False
        )
        if said.returncode:
            why = said.stderr.strip() or f"exit code {said.returncode}"
            raise StackError(f"a small disk is a tmpfs, and mounting one was denied ({why}): run it as root, with CAP_SYS_ADMIN")
        return cls(path)

    @classmethod
    def at(cls, path: Path) -> Self:
        """The one that is mounted there. Raises :class:`StackError` for any other directory: its disk would be everybody's."""
        mounted = {part.mountpoint for part in psutil.disk_partitions(all=True) if part.device == NAME}
        if str(path) not in mounted:
            raise StackError(f"{path} is no small disk: private_stack('postgres', postgres_disk_mb=192) gives Postgres one")
        return cls(path)

    def fill(self) -> int:
        """Take all that is free, in one file, and return how many bytes that was: whoever writes next gets ENOSPC.

        What others give back meanwhile is taken as well, until two looks in a row find nothing; fill again for later.
        """
        descriptor = os.open(self.path / BALLAST, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            before = os.fstat(descriptor).st_size
            while self._took(descriptor):
                pass
            return os.fstat(descriptor).st_size - before
        finally:
            os.close(descriptor)

    def drain(self) -> None:
        """Give back what :meth:`fill` took; no change where nothing was taken."""
        (self.path / BALLAST).unlink(missing_ok=True)

    def unmount(self) -> None:
        """Take it away with all that is on it, at once, or, where somebody still has a file of it open, when that ends."""
        for words in (["umount"], ["umount", "--lazy"]):
            if subprocess.run([*words, str(self.path)], capture_output=True, check=False).returncode == 0:
                break
        with suppress(OSError):
            self.path.rmdir()

    @staticmethod
    def _took(descriptor: int) -> bool:
        taken = False
        try:
            while True:
                os.write(descriptor, bytes(BLOCK))
                taken = True
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        return taken
