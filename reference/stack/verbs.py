"""``up``, ``down``, ``status`` and ``endpoints``: the stack, whoever runs it.

For each service: an environment variable that names one (``EDA_KAFKA_URL``, ``EDA_POSTGRES_DSN``, …) wins; else Docker
compose when an engine answers; else processes of this machine. ``EDA_BACKEND`` (env, compose, native) decides instead;
with ``env``, the stack is what the environment names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

from reference.stack import compose, native
from reference.stack.address import Endpoints, address
from reference.stack.catalog import chosen
from reference.stack.errors import StackDown, StackError
from reference.stack.home import Home
from reference.stack.report import State
from reference.stack.service import Service
from reference.stack.supervision import Supervisor

__all__ = ["backend", "down", "endpoints", "erase", "status", "up"]

BACKENDS: dict[str, ModuleType] = {"native": native, "compose": compose}

Where = str | os.PathLike[str] | None


def _silent(line: str) -> None:
    pass


def up(
    services: Iterable[str] | None = None, *, home: Where = None, owner: bool = False, say: Callable[[str], None] = _silent
) -> Endpoints:
    """Start what does not run, all of it together, and return when every service has answered a real request.

    With ``owner`` the stack ends when this process does, even by SIGKILL; call it from the thread that lives longest, for
    Linux ties the two by thread. ``say`` receives a line a service. A second call is a no-op. Raises :class:`StackError`.
    """
    wanted = _asked_for(services)
    inside = [service for service in wanted if not _outside(service)]
    for service in wanted:
        if service not in inside:
            _ask(service, say)
    if inside:
        place = Home.open(home)
        BACKENDS[backend(place)].up(inside, place, owned=owner, say=say)
    return endpoints(*(service.name for service in wanted), home=home)


def down(services: Iterable[str] | None = None, *, home: Where = None) -> int:
    """Stop these services, or everything; no process of the stack is left. How many were running is returned.

    A service named by an environment variable is somebody else's and keeps running.
    """
    names = list(services or [])
    place = Home.open(home)
    stopped: int = BACKENDS[backend(place)].down(chosen(names), place, everything=not names)
    return stopped


def erase(*, home: Where = None) -> None:
    """Stop everything and forget it: data, credentials, ports and logs. What was downloaded stays."""
    place = Home.open(home)
    down(home=home)
    if backend(place) == "compose":
        compose.remove_volumes(place)
    for service in chosen(None):
        shutil.rmtree(service.data(place), ignore_errors=True)
    for name in ("credentials.json", "ports.json", "ready.json", "compose.env"):
        (place.path / name).unlink(missing_ok=True)
    for name in ("log", "programs"):
        shutil.rmtree(place.path / name, ignore_errors=True)


def status(*, home: Where = None) -> list[State]:
    """One :class:`State` a service, started or not."""
    place = Home.open(home)
    if os.environ.get("EDA_BACKEND") == "env":
        return [_outside_state(service) for service in chosen(None)]
    inside = [service for service in chosen(None) if not _outside(service)]
    known = {state.name: state for state in BACKENDS[backend(place)].states(inside, place)} if inside else {}
    return [known.get(service.name) or _outside_state(service) for service in chosen(None)]


def endpoints(*services: str, home: Where = None) -> Endpoints:
    """Where these services (all, when none is named) answer. Starts nothing: raises :class:`StackDown` instead."""
    wanted = {service.name for service in _asked_for(services)}
    states = [state for state in status(home=home) if state.name in wanted]
    missing = [state.name for state in states if not state.is_ready]
    if missing:
        raise StackDown(f"{_listed(missing)} not running: eda up" + "".join(f" {name}" for name in services))
    inside = {state.backend for state in states} - {"env"}
    return Endpoints(**{state.name: state.url for state in states}, backend=inside.pop() if inside else "env")


def backend(home: Home) -> str:
    """Who runs what no environment variable names: ``native`` or ``compose``. A native stack that runs stays native."""
    wish = os.environ.get("EDA_BACKEND", "")
    if wish in BACKENDS:
        return wish
    if wish not in {"", "env"}:
        raise StackError(f"EDA_BACKEND is {wish!r}: write native, compose or env")
    return "native" if Supervisor(home).answers() or not compose.engine_answers() else "compose"


def log_of(service: str, *, home: Where = None) -> Path:
    """The log file of a service that runs natively; raises :class:`StackError` where there is none yet."""
    path = Home.open(home).log(chosen([service])[0].name)
    if not path.exists():
        raise StackError(f"{service} has no log yet: eda up {service}")
    return path


def _asked_for(services: Iterable[str] | None) -> list[Service]:
    """These; all of them when none is named, or, with ``EDA_BACKEND=env``, all that the environment names."""
    wanted = chosen(services)
    if os.environ.get("EDA_BACKEND") != "env":
        return wanted
    named = [service for service in wanted if _outside(service)]
    missing = [service.variable for service in wanted if service not in named]
    if missing and (services or not named):
        raise StackError(f"EDA_BACKEND is env and {_listed(missing)} is not set")
    return named


def _outside(service: Service) -> str:
    """The URL that the environment gives this service, or the empty string."""
    return os.environ.get(service.variable, "") if os.environ.get("EDA_BACKEND", "") in {"", "env"} else ""


def _outside_state(service: Service) -> State:
    where = _outside(service)
    return State(service.name, "external" if where else "stopped", "env", url=where)


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _ask(service: Service, say: Callable[[str], None]) -> None:
    where = _outside(service)
    try:
        service.probe(where)
    except Exception as error:  # each client has its own family of errors
        raise StackError(f"{service.variable} names {address(where)}, which does not answer: {error}") from None
    say(f"{service.name} answers at {address(where)} ({service.variable})")
