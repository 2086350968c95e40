"""Homes of their own for tests that start, stop and kill."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from reference.stack import erase
from reference.stack.catalog import SERVICES


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of this machine, on free ports, whatever the environment says."""
    for service in SERVICES.values():
        monkeypatch.delenv(service.variable, raising=False)
    monkeypatch.setenv("EDA_BACKEND", "native")
    monkeypatch.setenv("EDA_PORTS", "free")


@pytest.fixture
def place(native: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state home that is gone, with all its processes, after the test."""
    path = Path(tempfile.mkdtemp(prefix="eda-test-"))
    monkeypatch.setenv("EDA_HOME", str(path))
    yield path
    erase(home=path)
    shutil.rmtree(path, ignore_errors=True)
