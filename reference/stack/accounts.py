"""As whom Postgres runs, and where that user can reach its files. Postgres refuses to run as root."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from pathlib import Path

from reference.stack.errors import StackError
from reference.stack.home import downloads

__all__ = ["SYSTEM", "as_account", "give", "reachable", "unprivileged", "within_reach"]

SYSTEM = Path("/var/lib/eda-labs")


def unprivileged() -> pwd.struct_passwd | None:
    """``None`` for whoever is not root; for root, the user ``postgres`` if there is one, else ``nobody``."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StackError("Postgres does not run as root and there is no user 'nobody': useradd --system postgres")


def reachable(directory: Path) -> bool:
    """Can a user who owns nothing here walk down to ``directory``? Every ancestor must let others pass."""
    return all(stat.S_IMODE(part.stat().st_mode) & stat.S_IXOTH for part in (directory, *directory.parents))


def within_reach() -> Path:
    """Where programs and libraries for Postgres are kept: with the downloads, or where its user can walk to. Made if missing."""
    near = downloads()
    where = near if unprivileged() is None or reachable(near) else SYSTEM
    where.mkdir(mode=0o711, exist_ok=True)
    return where


def as_account(account: pwd.struct_passwd | None) -> tuple[str, ...]:
    """The words before a command that run it as ``account``; none when it is to run as oneself."""
    if account is None:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StackError("setpriv is missing, and Postgres does not run as root: apt-get install util-linux")
    return (setpriv, f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", "--")


def give(directory: Path, account: pwd.struct_passwd | None) -> None:
    """Make ``directory``, private to ``account``."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if account is not None:
        os.chown(directory, account.pw_uid, account.pw_gid)
    directory.chmod(0o700)
