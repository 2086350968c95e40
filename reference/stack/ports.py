"""Ports on loopback: the preferred ones when they are free, any free one otherwise, and the same ones next time."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

import psutil

from reference.stack.errors import StackError

__all__ = ["assign", "is_free", "listeners", "owner", "spare"]

# Below the range the kernel takes outgoing ports from, so that nobody's connection sits on one before we bind it.
SPARE = range(20_000, 32_000)
ANSWERS = {"127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"}  # noqa: S104  who listens there, listens on loopback


def assign(
    preferred: Mapping[str, int], remembered: Mapping[str, int], say: Callable[[str], None], *, free: bool = False
) -> dict[str, int]:
    """A port for each name; with ``free``, or ``EDA_PORTS=free``, no preferred one. Says whose port it had to give up."""
    ports: dict[str, int] = {}
    free = free or os.environ.get("EDA_PORTS") == "free"
    for name, wish in preferred.items():
        first = remembered.get(name) or (None if free else wish)
        if first is not None and is_free(first) and first not in ports.values():
            ports[name] = first
            continue
        ports[name] = spare({*ports.values(), *preferred.values(), *remembered.values()})
        if first is not None:
            say(f"port {first} is taken by {owner(first)}: {name} moves to {ports[name]}")
    return ports


def is_free(port: int) -> bool:
    """Whether a server could bind it now, as servers do: an address in TIME_WAIT is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def owner(port: int) -> str:
    """The name and pid of whoever listens there, as far as this user may know."""
    with suppress(psutil.Error):
        for pid in filter(None, listeners().get(port, ())):
            return f"{psutil.Process(pid).name()} (pid {pid})"
    return "another process"


def listeners() -> dict[int, set[int | None]]:
    """By port, the pids of those who would answer on 127.0.0.1; ``None`` is one that this user may not see.

    Looks at every process. Raises :class:`psutil.Error` where nobody may.
    """
    found: dict[int, set[int | None]] = {}
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.ip in ANSWERS:
            found.setdefault(connection.laddr.port, set()).add(connection.pid)
    return found


def spare(avoid: Collection[int] = ()) -> int:
    """A free port that is none of these."""
    for port in random.SystemRandom().sample(SPARE, k=500):  # whoever seeds random must not get the ports of the next who does
        if port not in avoid and is_free(port):
            return port
    raise StackError(f"no free port between {SPARE.start} and {SPARE.stop} on 127.0.0.1")
