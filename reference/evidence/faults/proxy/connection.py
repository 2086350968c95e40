"""A connection through the proxy: a client's socket, one to the server, and two ways between them.

It ends when both sides have closed, when one resets it, when a toxic ends it, or when it is cancelled; then both sockets are
closed, after a reset by a reset.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from reference.evidence.faults.proxy.toxic import Stream, Toxic
from reference.evidence.faults.proxy.way import Way

__all__ = ["Connection", "reset"]

AT_ONCE: Final = struct.pack("ii", 1, 0)  # linger on, for no time: a close is then a reset


class Connection:
    """``number`` counts the proxy's connections. ``seen`` may change what comes from the server, before any toxic has it."""

    def __init__(self, client: socket.socket, server: socket.socket, *, number: int, seen: Callable[[bytes], bytes]) -> None:
        self.number = number
        self._sockets = (client, server)
        self._work: list[asyncio.Task[None]] = []
        self._resets = False
        self.ways: dict[Stream, Way] = {
            "upstream": Way(client, server, seen=lambda data: data, end=self._end),
            "downstream": Way(server, client, seen=seen, end=self._end),
        }

    async def run(self) -> None:
        """Until it has ended."""
        try:
            async with asyncio.TaskGroup() as group:
                self._work = [group.create_task(step) for way in self.ways.values() for step in (way.read(), way.write())]
        except* OSError:  # one side has reset it, or is gone
            self._resets = True
        finally:
            for way in self.ways.values():
                way.stop()
            for one in self._sockets:
                (reset if self._resets else socket.socket.close)(one)

    def _end(self, toxic: Toxic) -> None:
        self._resets = self._resets or toxic.resets
        for task in self._work:
            task.cancel()


def reset(connection: socket.socket) -> None:
    """Close it as a crash does, so that the other side has an error and not an end."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    connection.close()
