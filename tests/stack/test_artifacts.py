from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from reference.stack import artifacts, java
from reference.stack.errors import StackError


def test_what_is_made_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """A build that fails leaves nothing that could be taken for the result."""

    def broken(target: Path) -> None:
        target.mkdir()
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        artifacts._make(tmp_path / "jars", broken)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_two_at_once_build_once(tmp_path: Path) -> None:
    """The second waits and uses what the first made."""
    built: list[Path] = []

    def slowly(target: Path) -> None:
        built.append(target)
        time.sleep(0.2)
        target.mkdir()

    threads = [threading.Thread(target=artifacts._make, args=(tmp_path / "jars", slowly)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_a_missing_maven_is_said_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, with the command that gets it."""
    monkeypatch.setenv("EDA_DIST", str(tmp_path))
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(StackError, match="apt-get install maven"):
        artifacts.fetch()


def test_an_old_java_is_said_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which one was found, and the command that gets a newer one."""
    (tmp_path / "bin").mkdir()
    old = tmp_path / "bin" / "java"
    old.write_text('#!/bin/sh\necho \'openjdk version "1.8.0_402"\' >&2\n')
    old.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda _: None)
    java.find.cache_clear()
    with pytest.raises(StackError, match=r"java is Java 8\): apt-get install"):
        java.find()


def test_an_unknown_machine_is_told_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker, or a Postgres of one's own."""
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(StackError, match="riscv64: use Docker, or set EDA_POSTGRES_DSN"):
        artifacts.is_fetched()
