"""What pika logs of our own connections, and nothing else of pika's, is kept out of the log.

To be told that a topic does not exist, or that a broker is away, is an answer to us, and it is in the error that our caller
gets; pika warns of it, with tracebacks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pika.adapters.blocking_connection  # noqa: F401  # makes all the loggers there are

__all__ = ["quiet"]

_thread = threading.local()


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, on this thread, pika logs nothing."""
    before, _thread.quiet = getattr(_thread, "quiet", False), True
    try:
        yield
    finally:
        _thread.quiet = before


def _wanted(_: logging.LogRecord) -> bool:
    return not getattr(_thread, "quiet", False)


for _name in [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "pika"]:
    logging.getLogger(_name).addFilter(_wanted)  # a logger's filter does not hold for those below it
