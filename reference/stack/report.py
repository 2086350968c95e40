"""What is said about a service: one :class:`State`, as a row for people and as JSON for programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reference.stack.address import address

__all__ = ["State"]


@dataclass(frozen=True, slots=True)
class State:
    """``state`` is ready, starting, stopped, failed, or external; ``seconds`` are those since it first answered."""

    name: str
    state: str
    backend: str
    pid: int | None = None
    url: str = field(default="", repr=False)
    seconds: float | None = None
    memory_mb: float | None = None

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
            "ready_seconds": None if self.seconds is None else round(self.seconds, 1),
            "memory_mb": None if self.memory_mb is None else round(self.memory_mb, 1),
        }

    def as_row(self) -> list[str]:
        numbers = [
            "" if self.pid is None else str(self.pid),
            address(self.url),
            "" if self.seconds is None else f"{self.seconds:.0f} s",
            "" if self.memory_mb is None else f"{self.memory_mb:.0f} MB",
        ]
        return [self.name, self.state, self.backend, *numbers]
