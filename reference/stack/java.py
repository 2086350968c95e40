"""Find a Java that runs Kafka 4."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from reference.stack.errors import StackError

__all__ = ["NEEDED", "find", "release"]

NEEDED = 17
INSTALL = "apt-get install default-jre-headless"


@cache
def find() -> str:
    """The path of a ``java`` of release 17 or newer: ``$JAVA_HOME`` first, then ``$PATH``. Raises :class:`StackError`."""
    seen = []
    for candidate in _candidates():
        number = release(candidate)
        if number is not None and number >= NEEDED:
            return candidate
        seen.append(f"{candidate} is {'broken' if number is None else f'Java {number}'}")
    raise StackError(f"no Java {NEEDED} or newer ({'; '.join(seen) or 'none found'}): {INSTALL}")


def release(java: str) -> int | None:
    """The feature release of this ``java``, such as 17, or ``None`` when it does not run."""
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=True).stderr
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(match[1]) if match else None


def _candidates() -> list[str]:
    home = os.environ.get("JAVA_HOME")
    at_home = str(Path(home) / "bin" / "java") if home else None
    found = [at_home if at_home and Path(at_home).is_file() else None, shutil.which("java")]
    return list(dict.fromkeys(java for java in found if java))
