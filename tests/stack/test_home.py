from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from reference.stack.home import Home, write_whole


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_home_is_private(tmp_path: Path) -> None:
    """Nobody lists it; for root, others may pass through it, because Postgres runs as another user."""
    home = Home.open(tmp_path / "home")
    assert mode(home.path) == (0o711 if os.geteuid() == 0 else 0o700)
    assert mode(home.path / "log") == 0o700


def test_a_password_is_drawn_once_and_kept_private(tmp_path: Path) -> None:
    """A restart lets the same clients in; each service has its own; nobody else reads the file."""
    home = Home.open(tmp_path)
    first = home.password("kafka")
    assert Home.open(tmp_path).password("kafka") == first != home.password("postgres")
    assert mode(tmp_path / "credentials.json") == 0o600


def test_the_environment_names_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``EDA_HOME`` wins over the default; an argument wins over both."""
    monkeypatch.setenv("EDA_HOME", str(tmp_path / "named"))
    assert Home.open().path == tmp_path / "named"
    assert Home.open(tmp_path / "given").path == tmp_path / "given"


def test_a_long_path_gets_a_socket_that_fits(tmp_path: Path) -> None:
    """AF_UNIX addresses end at 108 bytes, wherever the clone is."""
    home = Home.open(tmp_path / ("deep" * 25) / ("deeper" * 10))
    assert len(os.fsencode(home.socket)) <= 100
    assert mode(home.socket.parent) == 0o700
    home.socket.parent.rmdir()


def test_a_broken_file_is_as_good_as_none(tmp_path: Path) -> None:
    """Whatever a full disk left behind does not stop the next start."""
    home = Home.open(tmp_path)
    (tmp_path / "ports.json").write_text('{"kafka": ')
    assert home.ports() == {}


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    """Old or new, never between."""
    path = tmp_path / "file"
    write_whole(path, "a" * 100_000)

    def write() -> None:
        for letter in "bcdefghij" * 5:
            write_whole(path, letter * 100_000)

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        text = path.read_text()
        assert text == text[0] * 100_000
    writer.join()
