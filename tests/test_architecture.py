"""The rooms import upwards only; the contracts stand in ``pyproject.toml``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_no_room_imports_one_below_it() -> None:
    """Every import contract holds."""
    lint = Path(sys.executable).with_name("lint-imports")
    said = subprocess.run([lint, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout


def test_importing_the_package_connects_to_nothing() -> None:
    """Nothing opens a socket or starts a thread at import."""
    code = (
        "import socket, threading, pkgutil, importlib\n"
        "def refuse(*a, **k): raise AssertionError('a socket at import')\n"
        "socket.socket.connect = refuse\n"
        "import reference\n"
        "for module in pkgutil.walk_packages(reference.__path__, 'reference.'):\n"
        "    importlib.import_module(module.name)\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
