"""Messages through a pipe between two processes that take turns: whoever has asked sends nothing before the answer is there.

Bytes enter at one end and leave at the other, each message whole or not at all. ``until`` is on the monotonic clock; after it
:class:`TimeoutError` is raised. Where nobody is at the other end any more, :class:`EOFError` or :class:`BrokenPipeError`.
"""

from __future__ import annotations

import os
import select
import time
from math import inf
from typing import Final

__all__ = ["received", "send"]

_LENGTH: Final = 8  # bytes, before each message
_MOST: Final = 1 << 20  # at a time


def send(to: int, message: bytes, until: float = inf) -> None:
    """All of it is on its way."""
    left = memoryview(len(message).to_bytes(_LENGTH, "big") + message)
    while left:
        try:
            left = left[os.write(to, left) :]
        except BlockingIOError:
            _wait(to, select.POLLOUT, until)


def received(back: int, until: float = inf) -> bytes:
    """The next message."""
    text = bytearray()
    while len(text) < _LENGTH or len(text) < _LENGTH + int.from_bytes(text[:_LENGTH], "big"):
        text += _some(back, until)
    return bytes(text[_LENGTH:])


def _some(back: int, until: float) -> bytes:
    _wait(back, select.POLLIN, until)
    if not (some := os.read(back, _MOST)):
        raise EOFError
    return some


def _wait(end: int, for_what: int, until: float) -> None:
    ready = select.poll()
    ready.register(end, for_what)
    if not ready.poll(1000 * max(0.0, until - time.monotonic()) if until < inf else None):
        raise TimeoutError
