"""JupyterLab, opened at the labs: on loopback, behind a token, Markdown rendered."""

from __future__ import annotations

import importlib.util
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reference.stack import ports
from reference.stack.errors import StackError
from reference.stack.home import checkout

__all__ = ["Launch", "launch"]

START = "labs/README.md"


@dataclass(frozen=True, slots=True)
class Launch:
    """What to execute, with which environment, and where it will answer."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    url: str = field(repr=False)


def launch(*, port: int, browser: bool) -> Launch:
    """A JupyterLab over the checkout at ``port``; raises :class:`StackError` when that cannot be."""
    root = checkout()
    if root is None:
        raise StackError("the labs are part of the repository: run this from a checkout")
    if importlib.util.find_spec("jupyterlab") is None:
        raise StackError("JupyterLab is not installed: pip install 'eda-labs[labs]'")
    if not ports.is_free(port):
        raise StackError(f"port {port} is taken by {ports.owner(port)}: make lab PORT={ports.spare()}")
    page = f"/lab/tree/{START}" if (root / START).exists() else "/lab"
    # By environment, not as an argument: other users can read arguments.
    token = secrets.token_urlsafe(24)
    return Launch(
        argv=_argv(root, page, port, browser=browser),
        environment={**os.environ, "JUPYTER_TOKEN": token, "JUPYTER_CONFIG_PATH": _config_path(root)},
        url=f"http://127.0.0.1:{port}{page}?token={token}",
    )


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
