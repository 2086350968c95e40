"""The state home: the one directory that remembers a native stack.

It holds credentials, ports, logs and data. Nothing in it is half-written: small files are replaced whole, and
:meth:`Home.lock` lets one process at a time start or stop what runs here.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

__all__ = ["PRIVATE", "Home", "checkout", "downloads", "write_whole"]

SOCKET_PATH_LIMIT = 100  # bytes: AF_UNIX addresses end at 108, and supervisord binds a temporary name that is longer.

PRIVATE = "private"  # the file that makes a home so


@dataclass(frozen=True, slots=True)
class Home:
    """A directory, mode 0700, or 0711 for root so that Postgres, which refuses root, can pass through it."""

    path: Path

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None = None) -> Self:
        """``path``, else ``$EDA_HOME``, else ``.eda`` in the checkout, else ``~/.local/state/eda-labs``; made if missing."""
        home = Path(path or os.environ.get("EDA_HOME") or _default()).expanduser().resolve()
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o711 if os.geteuid() == 0 else 0o700)
        (home / "log").mkdir(mode=0o700, exist_ok=True)
        (home / "programs").mkdir(mode=0o700, exist_ok=True)
        return cls(home)

    @property
    def token(self) -> str:
        """Eight characters that tell this home from any other."""
        return hashlib.sha256(str(self.path).encode()).hexdigest()[:8]

    @property
    def socket(self) -> Path:
        """Where supervisord listens: here, or in a private temporary directory when this path is too long for a socket."""
        near = self.path / "supervisor.sock"
        if len(os.fsencode(near)) <= SOCKET_PATH_LIMIT:
            return near
        far = Path(tempfile.gettempdir()) / f"eda-{os.getuid()}-{self.token}"
        far.mkdir(mode=0o700, exist_ok=True)
        if far.stat().st_uid != os.getuid() or far.is_symlink():
            raise PermissionError(f"{far} belongs to somebody else: set EDA_HOME to a shorter path")
        return far / "supervisor.sock"

    @property
    def is_private(self) -> bool:
        """Whether it is one of :func:`~reference.stack.private_stack`: of one process, and out of the environment's reach."""
        return (self.path / PRIVATE).exists()

    def log(self, service: str) -> Path:
        return self.path / "log" / f"{service}.log"

    def password(self, service: str) -> str:
        """The service's password, drawn at first use; letters, digits, ``-`` and ``_`` only, so it stands in a URL as it is."""
        known = self._read("credentials.json")
        if service not in known:
            known[service] = secrets.token_urlsafe(18)
            write_whole(self.path / "credentials.json", json.dumps(known, indent=1))
        return str(known[service])

    def environment(self, service: str) -> dict[str, str]:
        """Variables that this home, and no other, gives the service's process beside its own."""
        return dict(self._read("environment.json").get(service, {}))

    def remember_environment(self, environment: Mapping[str, Mapping[str, str]]) -> None:
        plain = {service: dict(words) for service, words in environment.items()}
        write_whole(self.path / "environment.json", json.dumps(plain, indent=1))

    def ports(self) -> dict[str, int]:
        return dict(self._read("ports.json"))

    def remember_ports(self, ports: Mapping[str, int]) -> None:
        write_whole(self.path / "ports.json", json.dumps(dict(ports), indent=1))

    def ready(self) -> dict[str, dict[str, Any]]:
        """Per service: the pid that answered, and the Unix time when it first did."""
        return self._read("ready.json")

    def remember_ready(self, ready: Mapping[str, Any]) -> None:
        write_whole(self.path / "ready.json", json.dumps(dict(ready), indent=1))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One process at a time; the kernel lets go of it when the process dies."""
        with (self.path / "lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _read(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads((self.path / name).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


def write_whole(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file in one step: a reader, or a kill, sees the old one or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as file:
        os.fchmod(handle, mode)
        file.write(text)
    Path(name).replace(path)


def checkout() -> Path | None:
    """The repository this package was imported from, or ``None`` when it was installed without one."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() and (root / "docker-compose.yml").is_file() else None


def downloads() -> Path:
    """Where jars and the Postgres binaries are kept, shared by every home: ``$EDA_DIST``, else beside the default home."""
    root = checkout()
    near = root / ".eda" / "dist" if root else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "eda-labs"
    path = Path(os.environ.get("EDA_DIST") or near).expanduser().resolve()
    path.mkdir(parents=True, exist_ok=True)
    return path


def _default() -> Path:
    root = checkout()
    return root / ".eda" if root else Path("~/.local/state/eda-labs")
