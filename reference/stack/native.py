"""The native backend: the services as processes of this machine, started together, each awaited until it answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import psutil

from reference.stack import processes
from reference.stack.home import Home
from reference.stack.report import State
from reference.stack.service import Service
from reference.stack.starting import Start, start_together
from reference.stack.supervision import RUNNING, Supervisor

__all__ = ["down", "freeze", "kill", "states", "stop", "thaw", "up", "url"]

Say = Callable[[str], None]


def up(services: Sequence[Service], home: Home, *, owned: bool, say: Say) -> None:
    """Start what is not running, thaw what is frozen, return when each has answered a real request. Says one line a service.

    Raises :class:`StackError` that names every service that failed; those that did not fail keep running.
    """
    with home.lock():
        supervisor = Supervisor(home)
        supervisor.launch(owned=owned)
        found = {state.name: state.state for state in states(services, home)}
        start_together(services, Start(home, supervisor, found, say))


def down(services: Iterable[Service], home: Home, *, everything: bool) -> int:
    """Stop these services; with the last one goes supervisord. The number of processes that had to be stopped is returned."""
    with home.lock():
        supervisor = Supervisor(home)
        running = supervisor.running()
        stopping = running if everything else [service.name for service in services if service.name in running]
        if set(running) - set(stopping):
            for name in stopping:
                supervisor.stop(name)
            return len(stopping)
        supervisor.quit()
        return max(len(stopping), processes.sweep(home))


def kill(service: Service, home: Home) -> None:
    """SIGKILL to all its processes; return when they are gone and supervisord knows."""
    with home.lock():
        supervisor = Supervisor(home)
        processes.kill(supervisor.pid(service.name))
        supervisor.await_end(service.name)


def stop(service: Service, home: Home, *, immediate: bool) -> None:
    """Orderly, or with the signal that the service has for an immediate stop. supervisord stays."""
    with home.lock():
        supervisor = Supervisor(home)
        everyone = processes.family(supervisor.pid(service.name))
        if immediate:
            supervisor.signal(service.name, service.immediate_signal)
        else:
            supervisor.stop(service.name)
        processes.await_end(everyone)
        supervisor.await_end(service.name)


def freeze(service: Service, home: Home) -> None:
    with home.lock():
        processes.freeze(Supervisor(home).pid(service.name))


def thaw(service: Service, home: Home) -> None:
    with home.lock():
        Supervisor(home).thaw(service.name)


def states(services: Iterable[Service], home: Home) -> list[State]:
    """What supervisord and the kernel know about each service, without asking the service itself."""
    known, ready, taken = Supervisor(home).states(), home.ready(), home.ports()
    return [_state(service, known.get(service.name, {}), ready.get(service.name, {}), taken, home) for service in services]


def url(service: Service, home: Home) -> str:
    """The URL of a service that was started here before."""
    return service.url(ports=home.ports(), password=home.password(service.name))


def _state(service: Service, known: dict[str, object], ready: dict[str, float], taken: dict[str, int], home: Home) -> State:
    if known.get("statename") not in RUNNING or not service.ports.keys() <= taken.keys():
        # STOPPED is what we asked for; EXITED, whatever the code, is not.
        return State(service.name, "failed" if known.get("statename") in {"EXITED", "FATAL", "BACKOFF"} else "stopped", "native")
    pid = int(str(known["pid"]))
    answered = ready.get("pid") == pid
    return State(
        service.name,
        "frozen" if processes.is_frozen(pid) else "ready" if answered else "starting",
        "native",
        pid=pid,
        url=url(service, home),
        seconds=time.time() - ready["at"] if answered else None,
        memory_mb=_memory_mb(pid),
    )


def _memory_mb(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        return sum(part.memory_info().rss for part in (process, *process.children(recursive=True))) / 2**20
    except psutil.Error:
        return None
