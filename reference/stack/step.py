"""One step of a preparation: a command that runs to its end, or ends when we do."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from reference.stack.accounts import as_account
from reference.stack.errors import StackError

__all__ = ["dying_with_parent", "run"]

PATIENCE_S = 180


def dying_with_parent(last_words: str) -> tuple[str, ...]:
    """The words before a command that have Linux send it this signal when its parent dies; none where there is no setpriv.

    The parent is a thread: it has to outlive the command. Change the account first, for the kernel forgets it otherwise.
    """
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", last_words, "--") if setpriv else ()


def run(command: Sequence[str], *, directory: Path, account: pwd.struct_passwd | None = None, typed: str = "") -> str:
    """Run it, type this into it, and return what it said on stderr. Raises :class:`StackError` with its last line."""
    said = subprocess.run(
        [*as_account(account), *dying_with_parent("KILL"), *command],
        input=typed, cwd=directory, env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"},
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    if said.returncode:
        lines = [line for line in (said.stderr or said.stdout).splitlines() if line.strip() and not line.startswith("\tat ")]
        raise StackError(f"{Path(command[0]).name} failed: {lines[-1] if lines else f'exit code {said.returncode}'}")
    return said.stderr
