"""The browser that a measurement needs: what is said where there is none, or none that works."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reference.cli import app
from reference.evidence.chromium import chromium
from reference.stack import Endpoints, StackError


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only Chromium there is, and it ends at once."""
    path = tmp_path / "chromium"
    path.write_text("#!/bin/sh\necho 'no shared library' >&2\nexit 127\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return path


def refusal() -> str:
    with pytest.raises(StackError) as raised, chromium():
        pass
    return str(raised.value)


def test_a_missing_browser_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And how to get it; not Playwright, which is there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refusal() == "Chromium is missing; get it with: sudo apt-get install --no-install-recommends chromium"


def test_a_missing_playwright_is_named(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And how to get it; not the browser, which is there."""
    monkeypatch.setitem(sys.modules, "playwright", None)  # as if it were not installed
    assert refusal() == "Playwright, which drives Chromium, is missing; get it with: pip install playwright"


def test_a_browser_that_does_not_start_is_said_in_one_sentence(program: Path) -> None:
    """With its path, so that a person can see for himself."""
    said = refusal()
    assert (said.startswith("Chromium does not start ("), str(program) in said, len(said.splitlines())) == (True, True, 1), said


def test_a_command_that_needs_one_ends_without_a_traceback(stack: Endpoints, program: Path) -> None:
    """``eda bench board`` says it in one line."""
    said = CliRunner().invoke(app, ["bench", "board", "--seconds", "1"])
    told = said.stderr.splitlines()
    assert (said.exit_code, len(told), told[0].startswith("error: Chromium does not start (")) == (1, 1, True), said
