"""Where an experiment finds database and broker, and where it leaves what it saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Addresses"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Who reaches database and broker where: directly, or through something that breaks.

    ``home`` is that of the stack, where it is the experiment's own to break. ``histories`` is a directory in which each shop
    leaves its own; without it they are forgotten.
    """

    dsn: str
    broker: str
    writer_dsn: str = ""
    relay_dsn: str = ""
    relay_broker: str = ""
    consumer_dsn: str = ""
    consumer_broker: str = ""
    home: Path | None = None
    histories: Path | None = None
