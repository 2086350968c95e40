"""What a service is to the stack: how it is prepared, started, stopped and asked whether it answers.

One file a service, such as :mod:`reference.stack.kafka`, and one line in :mod:`reference.stack.catalog`.
"""

from __future__ import annotations

import pwd
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from reference.stack.address import Page
from reference.stack.home import Home

__all__ = ["ANSWERED", "Program", "Service", "Site"]

# A file in a service's data directory, there since it first answered: data without it is nobody's, and may be half made.
ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Site:
    """Where one service lives: its home, its ports by name, its password."""

    home: Home
    ports: Mapping[str, int]
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Program:
    """A process to supervise. ``argv[0]`` is absolute; ``stop_signal`` asks for an orderly stop; ``account`` is who runs it."""

    argv: tuple[str, ...]
    directory: Path
    stop_signal: str = "TERM"
    environment: Mapping[str, str] = field(default_factory=dict)
    account: pwd.struct_passwd | None = None


class Service(Protocol):
    """One broker or database. Its methods hold no state: everything is in the :class:`Site`."""

    @property
    def name(self) -> str:
        """Lower case, as typed after ``eda up``; also the name of the compose service."""

    @property
    def variable(self) -> str:
        """The environment variable that names a service somebody else runs."""

    @property
    def ports(self) -> Mapping[str, int]:
        """The ports it would like, by name; the one clients use is called like the service."""

    @property
    def immediate_signal(self) -> str:
        """The signal that ends it at once, as a crash would; empty where the service has none but SIGKILL."""

    def url(self, *, ports: Mapping[str, int], password: str) -> str:
        """The URL a client uses, password included; ``ports`` has at least the service's own."""

    def page(self, url: str) -> Page | None:
        """The web page of the service that answers at this URL; ``None`` where it has none, or the URL cannot be read."""

    def data(self, home: Home) -> Path:
        """Where it keeps its data when it runs natively."""

    def prepare(self, site: Site) -> Program:
        """Everything that has to be there before the process starts. Killed half-way, the next call starts over."""

    def probe(self, url: str) -> None:
        """Make one real request with the real credentials; raises whatever the client raises when it is not answered."""
