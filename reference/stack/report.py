"""What is said about a service: one :class:`State`, as a row for people and as JSON for programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from reference.stack.address import Page, address, without_password

__all__ = ["HEADS", "State"]

HEADS: Final = ("service", "state", "backend", "pid", "ready for", "memory", "url")


@dataclass(frozen=True, slots=True)
class State:
    """``state`` is ready, starting, frozen, stopped, failed, or external; ``seconds`` are those since it first answered.

    ``page`` is the web page of a service that is ready, if it has one.
    """

    name: str
    state: str
    backend: str
    pid: int | None = None
    url: str = field(default="", repr=False)
    seconds: float | None = None
    memory_mb: float | None = None
    page: Page | None = None

    @property
    def is_ready(self) -> bool:
        return self.state in {"ready", "external"}

    def as_json(self) -> dict[str, Any]:
        """With the URL, password included: the state home is private, and other programs need to connect."""
        return {
            "name": self.name,
            "state": self.state,
            "backend": self.backend,
            "pid": self.pid,
            "address": address(self.url),
            "url": self.url,
            "page": "" if self.page is None else self.page.address,
            "ready_seconds": None if self.seconds is None else round(self.seconds, 1),
            "memory_mb": None if self.memory_mb is None else round(self.memory_mb, 1),
        }

    def as_row(self) -> list[str]:
        """Under :data:`HEADS`. The URL is without its password, and without its settings, which may hold another."""
        numbers = [
            "" if self.pid is None else str(self.pid),
            "" if self.seconds is None else f"{self.seconds:.0f} s",
            "" if self.memory_mb is None else f"{self.memory_mb:.0f} MB",
        ]
        where = without_password(self.url).partition("?")[0] if address(self.url) else ""
        return [self.name, self.state, self.backend, *numbers, where]
