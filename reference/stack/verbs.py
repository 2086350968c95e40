"""``up``, ``down``, ``status`` and ``endpoints``: the stack, whoever runs it.

For each service: an environment variable that names one (``EDA_KAFKA_URL``, ``EDA_POSTGRES_DSN``, …) wins; else Docker
compose when an engine answers; else processes of this machine. ``EDA_BACKEND`` (env, compose, native) decides instead;
with ``env``, the stack is what the environment names. A private home (:mod:`reference.stack.private`) asks none of them: what
is in it is processes of this machine.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
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

__all__ = ["BACKENDS", "Where", "backend", "down", "endpoints", "erase", "outside", "states", "status", "up"]

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
    place = Home.open(home)
    wanted = _asked_for(services, place)
    inside = [service for service in wanted if not outside(service, place)]
    for service in wanted:
        if service not in inside:
            _ask(service, say)
    if inside:
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
    return states(chosen(None), place)


def states(services: Iterable[Service], home: Home) -> list[State]:
    """The same of these services."""
    wanted = list(services)
    inside = [] if _environment_only(home) else [service for service in wanted if not outside(service, home)]
    known = {state.name: state for state in BACKENDS[backend(home)].states(inside, home)} if inside else {}
    found = [known.get(service.name) or _outside_state(service, home) for service in wanted]
    pages = [service.page(state.url) if state.is_ready else None for service, state in zip(wanted, found, strict=True)]
    return [replace(state, page=page) for state, page in zip(found, pages, strict=True)]


def endpoints(*services: str, home: Where = None) -> Endpoints:
    """Where these services (all, when none is named) answer. Starts nothing: raises :class:`StackDown` instead."""
    place = Home.open(home)
    found = states(_asked_for(services, place), place)
    frozen = [state.name for state in found if state.state == "frozen"]
    missing = [state.name for state in found if not state.is_ready and state.name not in frozen]
    wrong = [f"{_listed(names)} {how}" for names, how in ((missing, "not running"), (frozen, "frozen")) if names]
    if wrong:
        raise StackDown(f"{', '.join(wrong)}: eda up" + "".join(f" {name}" for name in services))
    inside = {state.backend for state in found} - {"env"}
    return Endpoints(**{state.name: state.url for state in found}, backend=inside.pop() if inside else "env")


def backend(home: Home) -> str:
    """Who runs what no environment variable names: ``native`` or ``compose``. A native stack that runs stays native."""
    if home.is_private:
        return "native"
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


def _asked_for(services: Iterable[str] | None, home: Home) -> list[Service]:
    """These; all of them when none is named, or, with ``EDA_BACKEND=env``, all that the environment names."""
    wanted = chosen(services)
    if not _environment_only(home):
        return wanted
    named = [service for service in wanted if outside(service, home)]
    missing = [service.variable for service in wanted if service not in named]
    if missing and (services or not named):
        raise StackError(f"EDA_BACKEND is env and {_listed(missing)} is not set")
    return named


def outside(service: Service, home: Home) -> str:
    """The URL that the environment gives this service, or the empty string."""
    if home.is_private or os.environ.get("EDA_BACKEND", "") not in {"", "env"}:
        return ""
    return os.environ.get(service.variable, "")


def _environment_only(home: Home) -> bool:
    return not home.is_private and os.environ.get("EDA_BACKEND") == "env"


def _outside_state(service: Service, home: Home) -> State:
    where = outside(service, home)
    return State(service.name, "external" if where else "stopped", "env", url=where)


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _ask(service: Service, say: Callable[[str], None]) -> None:
    where = os.environ[service.variable]
    try:
        service.probe(where)
    except Exception as error:  # each client has its own family of errors
        raise StackError(f"{service.variable} names {address(where)}, which does not answer: {error}") from None
    say(f"{service.name} answers at {address(where)} ({service.variable})")
