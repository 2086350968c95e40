"""What stands on the proxy's port: it lets clients in while it is up, and puts the toxics on each connection.

All of it runs on one loop. The port is kept as long as the front is there, also while nobody listens: a client is refused
then, and no other server comes in between.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from reference.evidence.faults.proxy.connection import Connection, reset
from reference.evidence.faults.proxy.toxic import Stream, Toxic

__all__ = ["HOST", "Dose", "Front"]

HOST: Final = "127.0.0.1"
PATIENCE_S: Final = 10.0  # for a server that does not answer; a client then has a reset


@dataclass(slots=True)
class Dose:
    """A toxic for one stream, and its chance to be put on a connection; ``fired`` counts those it was put on."""

    toxic: Toxic
    stream: Stream
    toxicity: float
    fired: int = 0


class Front:
    """Made by any thread, and everything else on the loop. ``upstream`` is a family and an address of it.

    ``seen`` makes, for a connection, what the server's answers go through before any toxic has them.
    """

    def __init__(self, upstream: tuple[socket.AddressFamily, Any], *, seed: int) -> None:
        self._upstream, self._seed = upstream, seed
        self.seen: Callable[[], Callable[[bytes], bytes]] = lambda: lambda data: data
        self._place = _socket(0)
        self.port = int(self._place.getsockname()[1])
        self._doses: dict[int, Dose] = {}
        self._given = self._count = 0
        self._listening: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()

    def __len__(self) -> int:
        return len(self._connections)

    async def up(self) -> None:
        """Let clients in."""
        if self._listening is None:
            listener = _socket(self.port)
            listener.listen(128)
            self._listening = asyncio.create_task(self._listen(listener))

    async def down(self) -> None:
        """Refuse clients, and close every connection there is."""
        if self._listening is not None:
            await _cancelled({self._listening})
            self._listening = None
        await _cancelled(self._tasks)

    async def close(self) -> None:
        await self.down()
        self._place.close()

    async def put(self, dose: Dose) -> int:
        """On every connection that has the bad luck, now and from now on; the number is for :meth:`take`."""
        self._given += 1
        self._doses[self._given] = dose
        for connection in sorted(self._connections, key=lambda one: one.number):
            self._try(self._given, dose, connection)
        return self._given

    async def take(self, number: int) -> None:
        """Heal every connection of it; once more, it does nothing."""
        if dose := self._doses.pop(number, None):
            for connection in self._connections:
                connection.ways[dose.stream].take(number)

    async def _listen(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                client, _ = await loop.sock_accept(listener)
                self._count += 1
                task = asyncio.create_task(self._serve(client, self._count))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                task.add_done_callback(partial(_close, client))  # also when it was cut before it began

    async def _serve(self, client: socket.socket, number: int) -> None:
        server = socket.socket(self._upstream[0], socket.SOCK_STREAM)
        try:
            for one in (client, server):
                one.setblocking(False)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.get_running_loop().sock_connect(server, self._upstream[1])
        except OSError:
            reset(client)  # as the server's own host would have
            server.close()
            return
        except BaseException:
            client.close()
            server.close()
            raise
        connection = Connection(client, server, number=number, seen=self.seen())
        for given, dose in self._doses.items():
            self._try(given, dose, connection)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    def _try(self, number: int, dose: Dose, connection: Connection) -> None:
        """A connection's luck hangs on the seed and on its number, and on nothing that happens meanwhile."""
        draw = random.Random(f"{self._seed} {number} {connection.number}")
        if draw.random() < dose.toxicity:
            dose.fired += 1
            connection.ways[dose.stream].put(number, dose.toxic.on(draw))


def _socket(port: int) -> socket.socket:
    """Port 0: the one that keeps a port, and never listens. Any other: one that may listen beside it."""
    one = socket.socket()
    one.setblocking(False)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if port:  # whoever only keeps the port must not share it with a server that would reuse it
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((HOST, port))
    return one


def _close(one: socket.socket, _: object) -> None:
    one.close()


async def _cancelled(tasks: set[asyncio.Task[None]]) -> None:
    for task in (running := list(tasks)):
        task.cancel()
    for task in running:
        with suppress(asyncio.CancelledError):
            await task
