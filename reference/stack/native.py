"""The native backend: the services as processes of this machine, started together, each awaited until it answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from xmlrpc.client import Fault

import psutil

from reference.stack import ports
from reference.stack.errors import StackError
from reference.stack.home import Home
from reference.stack.processes import sweep
from reference.stack.report import State
from reference.stack.service import ANSWERED, Service, Site
from reference.stack.supervision import Supervisor

__all__ = ["down", "states", "up", "url"]

PATIENCE_S = 180.0
RUNNING = {"STARTING", "RUNNING"}

Say = Callable[[str], None]


def up(services: Iterable[Service], home: Home, *, owned: bool, say: Say) -> None:
    """Start what is not running and return when each has answered a real request. Says one line a service.

    Raises :class:`StackError` that names every service that failed; those that did not fail keep running.
    """
    with home.lock():
        supervisor = Supervisor(home)
        supervisor.launch(owned=owned)
        ready = {state.name for state in states(services, home) if state.is_ready}
        for service in services:
            if service.name in ready:
                say(f"{service.name} is up already at 127.0.0.1:{home.ports()[service.name]}")
        missing = [service for service in services if service.name not in ready]
        _start_together(missing, _Start(home, supervisor, say))


def down(services: Iterable[Service], home: Home, *, everything: bool) -> int:
    """Stop these services; with the last one goes supervisord. The number of processes that had to be stopped is returned."""
    with home.lock():
        supervisor = Supervisor(home)
        running = [name for name, info in supervisor.states().items() if info["statename"] in RUNNING]
        stopping = running if everything else [service.name for service in services if service.name in running]
        if set(running) - set(stopping):
            for name in stopping:
                supervisor.stop(name)
            return len(stopping)
        supervisor.quit()
        return max(len(stopping), sweep(home))


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
        "ready" if answered else "starting",
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


def _start_together(services: list[Service], start: _Start) -> None:
    if not services:
        return
    with ThreadPoolExecutor(len(services)) as pool:
        attempts = [pool.submit(start, service) for service in services]
    failures = [error for attempt in attempts if (error := attempt.exception()) is not None]
    unexpected = [error for error in failures if not isinstance(error, StackError)]
    if unexpected:
        raise unexpected[0]
    if failures:
        raise StackError("\n".join(map(str, failures)))


class _Start:
    """Bring one service to its first answer. Called from one thread a service; what is shared is behind a lock."""

    def __init__(self, home: Home, supervisor: Supervisor, say: Say) -> None:
        self.home, self.supervisor, self.say = home, supervisor, say
        self._turn = threading.Lock()

    def __call__(self, service: Service) -> None:
        began = time.monotonic()
        site = self._site(service)
        program = service.prepare(site)
        with self._turn:
            self.supervisor.start(service.name, program)
        self._await(service, service.url(ports=site.ports, password=site.password))
        self._remember(service)
        self.say(f"{service.name} is up at 127.0.0.1:{site.ports[service.name]} after {time.monotonic() - began:.1f} s")

    def _site(self, service: Service) -> Site:
        with self._turn:
            self.supervisor.stop(service.name)  # one that never answered still sits on its port
            remembered = self.home.ports()
            assigned = ports.assign(service.ports, remembered, self.say)
            self.home.remember_ports(remembered | assigned)
            return Site(self.home, assigned, self.home.password(service.name))

    def _await(self, service: Service, where: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            if not self._runs(service):
                raise StackError(f"{service.name} stopped while it was starting. {self._log(service)}")
            try:
                return service.probe(where)
            except StackError:  # it cannot be asked at all
                raise
            except Exception as error:  # each client has its own family of errors, and until the deadline all mean: not yet
                if time.monotonic() > deadline:
                    late = f"{service.name} did not answer in {PATIENCE_S:.0f} s: {error}"
                    raise StackError(f"{late}. {self._log(service)}") from None
            time.sleep(0.05)

    def _runs(self, service: Service) -> bool:
        try:
            return self.supervisor.states().get(service.name, {}).get("statename") in RUNNING
        except Fault:
            return True  # supervisord is shutting down or reloading: the next look tells

    def _log(self, service: Service) -> str:
        path = self.home.log(service.name)
        lines = path.read_text(errors="replace").splitlines()[-8:] if path.exists() else []
        return f"The end of {path}:" + "".join(f"\n  {line}" for line in lines)

    def _remember(self, service: Service) -> None:
        (service.data(self.home) / ANSWERED).touch()
        with self._turn:
            pid = self.supervisor.states()[service.name]["pid"]
            self.home.remember_ready(self.home.ready() | {service.name: {"pid": pid, "at": time.time()}})
