"""The compose backend: the same services from :file:`docker-compose.yml`, through the same verbs.

Ports and passwords come from the state home, so the URLs look alike and survive a change of backend.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from reference.stack import ports
from reference.stack.answering import PATIENCE_S, await_answer
from reference.stack.catalog import SERVICES
from reference.stack.errors import StackError
from reference.stack.home import Home, checkout, write_whole
from reference.stack.report import State
from reference.stack.service import Service

__all__ = [
    "command", "down", "engine_answers", "environment", "freeze", "kill", "remove_volumes", "states", "stop", "thaw", "up", "url",
]  # fmt: skip

ENGINE_S = 5.0

Say = Callable[[str], None]


def engine_answers() -> bool:
    """Whether a Docker engine, with its compose plugin, answers within a few seconds."""
    return checkout() is not None and _succeeds("info", "--format", "{{.ServerVersion}}") and _succeeds("compose", "version")


def up(services: Iterable[Service], home: Home, *, owned: bool, say: Say) -> None:
    """Start the containers that do not run and wait for their answer. ``owned`` has no meaning to a Docker engine."""
    if owned:
        raise StackError("containers cannot be tied to a process: EDA_BACKEND=native")
    with home.lock():
        found = states(services, home)
        frozen = [state.name for state in found if state.state == "frozen"]
        if frozen:
            _run([*command(home), "unpause", *frozen])
        ready = {state.name for state in (states(services, home) if frozen else found) if state.is_ready}
        for service in services:
            if service.name in ready:
                if service.name in frozen:
                    _await(service, home)
                say(f"{service.name} is up already at 127.0.0.1:{home.ports()[service.name]}")
        missing = [service for service in services if service.name not in ready]
        if not missing:
            return
        _prepare(missing, home, say)
        began = time.monotonic()
        _run([*command(home), "up", "--detach", "--wait", f"--wait-timeout={PATIENCE_S}", *(service.name for service in missing)])
        for service in missing:
            _await(service, home)
            say(f"{service.name} is up at 127.0.0.1:{home.ports()[service.name]} after {time.monotonic() - began:.1f} s")


def down(services: Iterable[Service], home: Home, *, everything: bool) -> int:
    """Stop and remove these containers; their volumes stay. The number of services that ran is returned."""
    with home.lock():
        running = [state.name for state in states(services, home) if state.is_ready]
        verb = ["down"] if everything else ["rm", "--stop", "--force", *(service.name for service in services)]
        _run([*command(home), *verb])
        return len(running)


def kill(service: Service, home: Home) -> None:
    """SIGKILL to the container's first process, which takes the others along; return when it has ended."""
    _end(service, home, "kill", "--signal=SIGKILL")


def stop(service: Service, home: Home, *, immediate: bool) -> None:
    """Orderly, or with the signal that the service has for an immediate stop. The container stays, stopped."""
    _end(service, home, *(("kill", f"--signal=SIG{service.immediate_signal}") if immediate else ("stop",)))


def freeze(service: Service, home: Home) -> None:
    """The engine freezes the container's control group: as SIGSTOP to all its processes at once."""
    if _state_of(service, home) != "frozen":  # the engine refuses to do it twice
        _run([*command(home), "pause", service.name])


def thaw(service: Service, home: Home) -> None:
    if _state_of(service, home) == "frozen":
        _run([*command(home), "unpause", service.name])


def remove_volumes(home: Home) -> None:
    """Throw away what the containers kept: with new passwords nobody could read it anyway."""
    with home.lock():
        _run([*command(home), "down", "--volumes"])


def states(services: Iterable[Service], home: Home) -> list[State]:
    """What the engine says of each service; a container counts as ready when its health check passed."""
    rows = {row["Service"]: row for row in _rows(_run([*command(home), "ps", "--all", "--format", "json"], check=False))}
    return [_state(service, rows.get(service.name, {}), home) for service in services]


def url(service: Service, home: Home) -> str:
    return service.url(ports=home.ports(), password=home.password(service.name))


def command(home: Home) -> list[str]:
    """``docker compose`` for this home: a project of its own, and its ports and passwords in an environment file."""
    root = checkout()
    if root is None:
        raise StackError("docker-compose.yml is part of the repository: run eda from a checkout, or set EDA_BACKEND=native")
    file = root / "docker-compose.yml"
    return ["docker", "compose", f"--project-name=eda-{home.token}", f"--file={file}", f"--env-file={_environment_file(home)}"]


def environment(services: Iterable[Service], home: Home) -> dict[str, str]:
    """``EDA_KAFKA_PORT``, ``EDA_KAFKA_PASSWORD`` and so on: all that the compose file leaves open."""
    taken = home.ports()
    found: dict[str, str] = {}
    for service in services:
        for name, wish in service.ports.items():
            found[f"EDA_{name.upper().replace('-', '_')}_PORT"] = str(taken.get(name, wish))
        found[f"EDA_{service.name.upper()}_PASSWORD"] = home.password(service.name)
    return found


def _end(service: Service, home: Home, *words: str) -> None:
    with home.lock():
        thaw(service, home)  # a frozen container takes no signal
        _run([*command(home), *words, service.name])
        deadline = time.monotonic() + PATIENCE_S
        while _state_of(service, home) not in {"stopped", "failed"}:
            if time.monotonic() > deadline:
                raise StackError(f"the container of {service.name} did not end in {PATIENCE_S} s. See: eda logs {service.name}")
            time.sleep(0.1)


def _state_of(service: Service, home: Home) -> str:
    return states([service], home)[0].state


def _environment_file(home: Home) -> Path:
    # All services, each time: compose reads the whole file even when it is asked for one service.
    path = home.path / "compose.env"
    write_whole(path, "".join(f"{name}={value}\n" for name, value in environment(SERVICES.values(), home).items()))
    return path


def _prepare(services: Sequence[Service], home: Home, say: Say) -> None:
    for service in services:
        remembered = home.ports()
        home.remember_ports(remembered | ports.assign(service.ports, remembered, say))


def _await(service: Service, home: Home) -> None:
    await_answer(service, url(service, home), hint=lambda: f"See: eda logs {service.name}")


def _state(service: Service, row: dict[str, Any], home: Home) -> State:
    if row.get("State") == "paused":
        return State(service.name, "frozen", "compose", url=url(service, home))
    if row.get("State") != "running" or not service.ports.keys() <= home.ports().keys():
        return State(service.name, "failed" if row.get("ExitCode") else "stopped", "compose")
    healthy = row.get("Health") in {"healthy", "", None}
    return State(service.name, "ready" if healthy else "starting", "compose", url=url(service, home))


def _rows(said: str) -> list[dict[str, Any]]:
    """Compose prints one JSON object a line, or, in older releases, one array."""
    found: list[dict[str, Any]] = []
    for line in filter(str.strip, said.splitlines()):
        parsed = json.loads(line)
        found += parsed if isinstance(parsed, list) else [parsed]
    return found


def _run(arguments: Sequence[str], *, check: bool = True) -> str:
    said = subprocess.run(arguments, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if check and said.returncode:
        last = said.stderr.strip().splitlines()[-1:] or [f"exit code {said.returncode}"]
        raise StackError(f"docker compose failed: {last[0]}")
    return said.stdout


def _succeeds(*arguments: str) -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    try:
        said = subprocess.run(
            [docker, *arguments], capture_output=True, stdin=subprocess.DEVNULL, timeout=ENGINE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return said.returncode == 0
