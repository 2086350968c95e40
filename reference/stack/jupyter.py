"""JupyterLab, opened at the labs: on loopback, behind a token, Markdown rendered.

Killed at any line: the JupyterLab that it started ends with it.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from reference.stack import ports, welcome
from reference.stack.errors import StackError
from reference.stack.home import checkout
from reference.stack.step import dying_with_parent

__all__ = ["Launch", "launch", "serve"]

START = "labs/README.md"
PATIENCE_S = 180.0


@dataclass(frozen=True, slots=True)
class Launch:
    """What to execute, with which environment, and where it will answer."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    url: str = field(repr=False)

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        """Until it answers. Raises :class:`StackError` when it ends before, or does not."""
        deadline = time.monotonic() + PATIENCE_S
        while not _answers(urlsplit(self.url).port or 0):
            if (code := process.poll()) is not None:
                raise StackError(f"JupyterLab ended with exit code {code} before it answered")
            if time.monotonic() > deadline:
                raise StackError(f"JupyterLab did not answer in {PATIENCE_S:.0f} s")
            time.sleep(0.1)


def launch(*, port: int, browser: bool, copy: Path | None = None) -> Launch:
    """A JupyterLab over the checkout, or a ``copy`` of it, at ``port``; raises :class:`StackError` when that cannot be."""
    home = checkout()
    if home is None:
        raise StackError("the labs are part of the repository: run this from a checkout")
    if importlib.util.find_spec("jupyterlab") is None:
        raise StackError("JupyterLab is not installed: pip install 'eda-labs[labs]'")
    if not ports.is_free(port):
        raise StackError(f"port {port} is taken by {ports.owner(port)}: make lab PORT={ports.spare()}")
    root = copy or home
    page = "/lab"
    if (root / START).exists():  # else nobody is welcomed, and nothing of theirs is touched
        page = f"/lab/workspaces/{welcome.WORKSPACE}/tree/{START}"
        welcome.unfold(START)
        welcome.sign(root / "labs")
    # By environment, not as an argument: other users can read arguments.
    token = secrets.token_urlsafe(24)
    return Launch(
        argv=_argv(root, page, port, browser=browser),
        environment={**os.environ, "JUPYTER_TOKEN": token, "JUPYTER_CONFIG_PATH": _config_path(home)},
        url=f"http://127.0.0.1:{port}{page}?token={token}",
    )


def serve(ready: Launch, *, say: Callable[[str], None]) -> int:
    """Run it until it ends, and return its exit code; ``say`` is told the address once it answers there.

    Ctrl-C is JupyterLab's to answer, which asks first. Raises :class:`StackError` when it ends before it answers, or does not.
    """
    process = subprocess.Popen([*dying_with_parent("TERM"), *ready.argv], env=ready.environment)
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: process.send_signal(number))
        ready.wait(process)
        signal.signal(signal.SIGINT, lambda *_: None)  # from now on; until then it ends both
        say(f"\n  {ready.url}\n\nCtrl-C ends JupyterLab; the stack keeps running until: make down")
        code = process.wait()
        return code if code >= 0 else 128 - code
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    """It tells its version to everybody; asked here, not through a proxy that the environment names."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/api")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _argv(root: Path, page: str, port: int, *, browser: bool) -> tuple[str, ...]:
    options = [
        f"--ServerApp.root_dir={root}",
        f"--LabApp.default_url={page}",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        "--Application.log_level=WARN",
    ]
    if not browser:
        options.append("--no-browser")
    if os.geteuid() == 0:
        options.append("--allow-root")
    return (sys.executable, "-m", "jupyterlab", *options)


def _config_path(root: Path) -> str:
    ours = str(root / "binder" / "jupyter")
    return os.pathsep.join(filter(None, [ours, os.environ.get("JUPYTER_CONFIG_PATH")]))
