"""How far a long run is, for people and for files."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from reference.evidence.progress import progress

PROGRAM = """
from reference.evidence.progress import progress
with progress(50, label="faults") as advance:
    for _ in range(50):
        advance(1)
"""


def test_where_nobody_looks_on_a_tenth_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """From 0 % on, never twice, and never above 100 %; nothing on standard output, which is the program's own."""
    with progress(25, label="faults") as advance:
        for _ in range(27):
            advance(1)
    said = capsys.readouterr()
    assert (said.out, said.err.splitlines()) == ("", [f"faults: {n} %" for n in range(0, 101, 10)])


def test_a_run_of_few_steps_has_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """A step that is more than a tenth is one line."""
    with progress(3, label="faults") as advance:
        for _ in range(3):
            advance(1)
    assert capsys.readouterr().err.splitlines() == [f"faults: {n} %" for n in (0, 30, 60, 100)]


def test_on_a_terminal_it_is_a_bar() -> None:
    """One line that grows."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stderr=theirs)
    os.close(theirs)
    said = b""
    while chunk := _read(ours):
        said += chunk
    os.close(ours)
    assert (process.wait(60), b"100%" in said, b"faults: " in said) == (0, True, False)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # how Linux says that nobody has its other end any more
        return b""
