from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from reference.stack import StackError, ports
from reference.stack.jupyter import Launch, launch


@pytest.fixture
def server() -> Iterator[Launch]:
    ready = launch(port=ports.spare(), browser=False)
    process = subprocess.Popen(ready.argv, env=ready.environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield ready
    process.terminate()
    process.wait(30)


def get(url: str, within_s: float = 60) -> int:
    deadline = time.monotonic() + within_s
    while True:
        try:
            with urllib.request.urlopen(url) as answer:  # noqa: S310  # our own server
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            return refused.code
        except urllib.error.URLError:
            assert time.monotonic() < deadline, "JupyterLab does not answer"
            time.sleep(0.1)


def test_the_printed_url_opens_the_labs(server: Launch) -> None:
    """With its token; without it nobody reads a file."""
    assert get(server.url) == 200
    assert get(f"http://{urlsplit(server.url).netloc}/api/contents") == 403


def test_the_token_stands_where_nobody_looks() -> None:
    """Other users can read arguments; the server listens on loopback only."""
    ready = launch(port=ports.spare(), browser=False)
    assert ready.environment["JUPYTER_TOKEN"] not in " ".join(ready.argv)
    assert "--ServerApp.ip=127.0.0.1" in ready.argv
    assert ready.environment["JUPYTER_TOKEN"] not in repr(ready)


def test_root_is_allowed_only_when_it_is_root() -> None:
    """A container runs as root; a laptop does not."""
    assert ("--allow-root" in launch(port=ports.spare(), browser=False).argv) == (os.geteuid() == 0)


def test_a_taken_port_is_answered_with_a_free_one() -> None:
    """Whose it is, and the command that works."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(StackError, match=rf"port {taken} is taken by .*pid {os.getpid()}.*make lab PORT=\d+"):
            launch(port=taken, browser=True)
