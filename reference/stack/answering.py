"""Waiting for a service's answer: its first one, or the next after it was frozen. Whoever runs it waits here."""

from __future__ import annotations

import time
from collections.abc import Callable

from reference.stack.errors import StackError
from reference.stack.service import Service

__all__ = ["PATIENCE_S", "await_answer"]

PATIENCE_S = 180
LOOK_S = 0.05


def await_answer(service: Service, where: str, *, hint: Callable[[], str], runs: Callable[[], bool] = lambda: True) -> None:
    """Ask it at the URL ``where`` again and again; return when it has answered a real request.

    Raises :class:`StackError`, which ends with ``hint``, when ``runs`` says that it does not any more, or after
    ``PATIENCE_S``; and at once when it cannot be asked at all.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        if not runs():
            raise StackError(f"{service.name} stopped while it was starting. {hint()}")
        try:
            return service.probe(where)
        except StackError:  # it cannot be asked at all
            raise
        except Exception as error:  # each client has its own family of errors, and until the deadline all mean: not yet
            if time.monotonic() > deadline:
                raise StackError(f"{service.name} did not answer in {PATIENCE_S} s: {error}. {hint()}") from None
        time.sleep(LOOK_S)
