"""``kill``, ``stop``, ``freeze`` and ``thaw``: outages of a whole service, made on purpose.

Each returns when it has happened: nothing of the service runs, or nothing of it moves. :func:`~reference.stack.up` ends all
of them; it returns when the service answers again, at its old address and on its old data. Only what this stack started is
touched: a service that an environment variable names belongs to somebody else.
"""

from __future__ import annotations

from typing import Literal

from reference.stack.catalog import chosen
from reference.stack.errors import StackDown, StackError
from reference.stack.home import Home
from reference.stack.service import Service
from reference.stack.verbs import BACKENDS, Where, backend, outside, states

__all__ = ["Mode", "freeze", "is_ours", "kill", "stop", "thaw"]

Mode = Literal["orderly", "immediate"]


def kill(service: str, *, home: Where = None) -> None:
    """SIGKILL to all its processes at once: no buffer is written, no client told. Returns when the last one is gone.

    Raises :class:`StackDown` when it does not run, :class:`StackError` when it is somebody else's.
    """
    victim, place = _ours(service, home)
    BACKENDS[backend(place)].kill(victim, place)


def stop(service: str, *, mode: Mode = "orderly", home: Where = None) -> None:
    """Have it shut down; with ``mode="immediate"``, which only Postgres knows, without a checkpoint and without goodbyes.

    An orderly stop that takes longer than 20 seconds becomes a kill. The rest of the stack keeps running, even if that is
    nothing. Raises as :func:`kill` does, and :class:`StackError` for a mode that the service has not.
    """
    victim, place = _ours(service, home)
    if mode == "immediate" and not victim.immediate_signal:
        raise StackError(f"{service} has no immediate stop: kill it, or stop it in order")
    BACKENDS[backend(place)].stop(victim, place, immediate=mode == "immediate")


def freeze(service: str, *, home: Where = None) -> None:
    """SIGSTOP to all its processes: connections stay open and nothing answers. Raises as :func:`kill` does.

    Nothing else ends it but :func:`thaw`, ``up``, ``down`` or :func:`kill`; frozen twice is frozen once.
    """
    victim, place = _ours(service, home)
    BACKENDS[backend(place)].freeze(victim, place)


def thaw(service: str, *, home: Where = None) -> bool:
    """SIGCONT to all its processes; whether it was frozen is returned. Does not wait for an answer, as ``up`` does.

    Raises as :func:`kill` does.
    """
    victim, place = _ours(service, home)
    (before,) = states([victim], place)
    BACKENDS[backend(place)].thaw(victim, place)  # also where the first process moves: one of its children may not
    return before.state == "frozen"


def is_ours(service: str, *, home: Where = None) -> bool:
    """Whether the stack may break it: an environment variable that names it makes it somebody else's."""
    (asked,) = chosen([service])
    return not outside(asked, Home.open(home))


def _ours(name: str, home: Where) -> tuple[Service, Home]:
    (service,) = chosen([name])
    place = Home.open(home)
    if not is_ours(name, home=home):
        raise StackError(f"{name} is named by {service.variable} and belongs to somebody else: break one that `eda up` started")
    if not any(state.state in {"ready", "starting", "frozen"} for state in states([service], place)):
        raise StackDown(f"{name} is not running: eda up {name}")
    return service, place
