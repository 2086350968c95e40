"""JupyterLab as ``eda lab`` starts it, for a browser: over a copy of the labs, since who runs a notebook there saves it.
And Voila, over whatever notebook a test hands it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from reference.stack import Endpoints, StackError, ports
from reference.stack.jupyter import Launch, launch
from reference.stack.step import dying_with_parent

ROOT = Path(__file__).parents[2]
START_S = 180.0
# What a person has set for themselves, or opened last, is not what the labs are tested with.
OF_A_PERSON = (
    "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
)  # fmt: skip


@pytest.fixture(scope="module")
def jupyterlab(stack: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """A server of this module's own; its kernels find the session's stack by their environment, and end with it."""
    copy, own = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("jupyter")
    for folder in ("labs", "docs"):  # the labs show pictures from there
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    persons = {name: str(own / name) for name in OF_A_PERSON}
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in persons.items():
            patch.setenv(name, folder)
        ready = launch(port=ports.spare(), browser=False, copy=copy)
    environment = {**ready.environment, **stack.as_env(), "EDA_BACKEND": "env", **persons}
    with (own / "log").open("w") as log:
        command = [*dying_with_parent("TERM"), *ready.argv, "--expose-app-in-browser"]  # not even a killed test run leaves it
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            try:
                ready.wait(process)
            except StackError as error:
                raise AssertionError(f"{error}: {(own / 'log').read_text()}") from error
            yield ready
        finally:
            _end(process)


@pytest.fixture(scope="module")
def voila(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], str]]:
    """``voila(notebook)`` serves it on loopback, behind a token, and returns its address; it ends with the module."""
    with ExitStack() as running:
        yield lambda notebook: running.enter_context(_served(notebook, tmp_path_factory.mktemp("voila")))


@contextmanager
def _served(notebook: Path, own: Path) -> Iterator[str]:
    port, token = ports.spare(), secrets.token_urlsafe(24)
    settings = {
        "Voila": {"ip": "127.0.0.1", "port": port, "port_retries": 0, "token": token, "open_browser": False},
        # It needs JupyterLab's file browser, which a page of Voila's has not, and says so on the console.
        "VoilaConfiguration": {"extension_denylist": ["@jupyterhub/jupyter-server-proxy"]},
    }
    (own / "voila.json").write_text(json.dumps(settings))
    environment = {**os.environ, **dict.fromkeys(OF_A_PERSON, str(own))}
    with (own / "log").open("w") as log:
        command = [*dying_with_parent("TERM"), sys.executable, "-m", "voila", str(notebook)]
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_S
            while not _listens(port):
                told = (own / "log").read_text()
                assert process.poll() is None and time.monotonic() < deadline, f"Voila does not answer: {told}"  # noqa: PT018
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/?token={token}"
        finally:
            _end(process)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def _end(server: subprocess.Popen[bytes]) -> None:
    """It ends its kernels before itself; what it has not ended within a minute is killed."""
    if server.poll() is not None:
        return
    kernels = psutil.Process(server.pid).children(recursive=True)
    server.terminate()
    _, late = psutil.wait_procs([*kernels, psutil.Process(server.pid)], timeout=60)
    for process in late:
        process.kill()
    server.wait()
    assert not late, f"still there a minute after SIGTERM: {late}"
