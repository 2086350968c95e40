from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from reference.stack import ports


@pytest.fixture(autouse=True)
def prefer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDA_PORTS", raising=False)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_free_preferred_port_is_taken() -> None:
    """People can write the address down."""
    wish = ports.spare()
    assert ports.assign({"kafka": wish}, {}, pytest.fail) == {"kafka": wish}


def test_the_remembered_port_comes_before_the_preferred_one() -> None:
    """The address of a home survives a restart."""
    wish, before = ports.spare(), ports.spare()
    assert ports.assign({"kafka": wish}, {"kafka": before}, pytest.fail) == {"kafka": before}


def test_a_strangers_port_is_left_to_the_stranger(taken: int) -> None:
    """The service moves, and one line says who is there."""
    said: list[str] = []
    moved = ports.assign({"kafka": 1}, {"kafka": taken}, said.append)["kafka"]
    assert ports.is_free(moved)
    assert said == [f"port {taken} is taken by {ports.owner(taken)}: kafka moves to {moved}"]
    assert f"(pid {os.getpid()})" in said[0]


def test_two_services_never_get_the_same_port(taken: int) -> None:
    """Both had to move, and to different places."""
    moved = ports.assign({"a": taken, "b": taken}, {}, lambda _: None)
    assert len(set(moved.values())) == 2


def test_free_ports_pass_over_the_preferred_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test's stack stays out of the way of the user's, even when that one is down."""
    monkeypatch.setenv("EDA_PORTS", "free")
    wish = ports.spare()
    assert ports.assign({"kafka": wish}, {}, pytest.fail)["kafka"] != wish
