"""One way of a connection through the proxy: from one socket to the other, as the toxics in force on it have it.

Bytes enter and leave in order, none is changed. What is read and not yet written is bounded, so a reader that is slow, or a
toxic that is, makes the writer at the other end wait as it would without a proxy. A close on one side passes to the other.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from reference.evidence.faults.proxy.toxic import Piece, Toxic

__all__ = ["Way"]

CHUNK: Final = 32 * 1024  # bytes
CHUNKS: Final = 32  # on their way at most: a megabyte


class Way:
    """``end`` is called with a toxic that ends the whole connection. All of it runs on the proxy's loop."""

    def __init__(
        self, source: socket.socket, sink: socket.socket, *, seen: Callable[[bytes], bytes], end: Callable[[Toxic], None]
    ) -> None:
        self._source, self._sink, self._seen, self._end = source, sink, seen, end
        self._loop = asyncio.get_running_loop()
        self._toxics: dict[int, Toxic] = {}
        self._ends: dict[int, asyncio.TimerHandle] = {}
        self._changed = asyncio.Event()
        self._pieces = asyncio.Queue[Piece | None](CHUNKS)

    def put(self, number: int, toxic: Toxic) -> None:
        """It is in force from here on, also for what is on its way."""
        self._toxics[number] = toxic
        if toxic.ends_after_s is not None:
            self._ends[number] = self._loop.call_later(toxic.ends_after_s, self._end, toxic)
        self._tell()

    def take(self, number: int) -> None:
        """It is not in force any more: what it kept goes on."""
        self._toxics.pop(number, None)
        if number in self._ends:
            self._ends.pop(number).cancel()
        self._tell()

    def stop(self) -> None:
        """Nobody ends this connection any more."""
        for timer in self._ends.values():
            timer.cancel()

    async def read(self) -> None:
        """From the source, until it has closed its side."""
        while data := await self._loop.sock_recv(self._source, CHUNK):
            if seen := self._seen(data):
                await self._pieces.put(Piece(seen, self._loop.time()))
        await self._pieces.put(None)

    async def write(self) -> None:
        """To the sink, each piece when it is due; at last the close."""
        while (piece := await self._pieces.get()) is not None:
            while piece.data:
                piece = Piece(piece.data[await self._pass_on(piece) :], piece.due)
        closed_at = self._loop.time()
        while not await self._sleep(closed_at + max((toxic.close_after_s for toxic in self._toxics.values()), default=0.0)):
            pass
        self._sink.shutdown(socket.SHUT_WR)

    async def _pass_on(self, piece: Piece) -> int:
        """Send it as it is planned now; how many bytes went before the plan was changed, or the connection is to end."""
        toxics, pieces, went = list(self._toxics.values()), [piece], 0
        for toxic in toxics:
            pieces = toxic.plan(pieces)
        for part in pieces:
            if not await self._sleep(part.due):
                return went
            await self._loop.sock_sendall(self._sink, part.data)
            went += len(part.data)
            for toxic in toxics:
                toxic.sent(part)
        await self._end_if_spent()
        return went

    async def _end_if_spent(self) -> None:
        for toxic in self._toxics.values():
            if toxic.spent:
                self._end(toxic)
                await asyncio.sleep(0)  # where we are cancelled

    async def _sleep(self, until: float) -> bool:
        """True at that time, or when nothing holds any more, if it is later; false when the toxics have changed meanwhile."""
        if until <= self._loop.time() and not self._held:
            return True
        try:
            async with asyncio.timeout_at(None if self._held else until):
                await self._changed.wait()
        except TimeoutError:
            return True
        return False

    @property
    def _held(self) -> bool:
        return any(toxic.holds for toxic in self._toxics.values())

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
