"""Bringing native services to their first answer, or to the next one after they were frozen.

A port is looked at before the service binds it, seconds later where a JVM starts first. Who loses it to somebody else in
between is started again on another.

Killed at any line: what was started keeps running under supervisord, and the next start finds it, or stops it and begins anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from xmlrpc.client import Fault

import psutil

from reference.stack import ports
from reference.stack.answering import await_answer
from reference.stack.errors import StackError
from reference.stack.home import Home
from reference.stack.processes import family
from reference.stack.service import ANSWERED, Service, Site
from reference.stack.supervision import RUNNING, Supervisor

__all__ = ["Start", "start_together"]

ATTEMPTS = 3
RARELY_S = 2.0

Say = Callable[[str], None]


class _PortLost(StackError):
    """Another start on another port may help."""


def start_together(services: Sequence[Service], start: Start) -> None:
    """All at the same time, each in a thread of its own. Raises :class:`StackError` that names every one that failed."""
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


class Start:
    """Bring one service to its first answer. Called from one thread a service; what is shared is behind a lock."""

    def __init__(self, home: Home, supervisor: Supervisor, found: Mapping[str, str], say: Say) -> None:
        self.home, self.supervisor, self.found, self.say = home, supervisor, found, say
        self._turn = threading.Lock()

    def __call__(self, service: Service) -> None:
        if self.found[service.name] in {"ready", "frozen"} and self._answers_again(service):
            return
        began = time.monotonic()
        for attempts_left in reversed(range(ATTEMPTS)):
            site = self._site(service)
            try:
                self._begin(service, site)
                break
            except _PortLost:
                if not attempts_left:
                    raise
        self._remember(service)
        self.say(f"{service.name} is up at 127.0.0.1:{site.ports[service.name]} after {time.monotonic() - began:.1f} s")

    def _begin(self, service: Service, site: Site) -> None:
        program = service.prepare(site)
        extra = [f"{name}={value}" for name, value in self.home.environment(service.name).items()]
        if extra:  # for the program alone: what changes the account before it must not see them, for it is still another user
            program = replace(program, argv=("/usr/bin/env", *extra, *program.argv))
        with self._turn:
            self.supervisor.start(service.name, program)
        self._await(service, site.ports, site.password)

    def _await(self, service: Service, its_ports: Mapping[str, int], password: str) -> None:
        """Its answer, and not that of somebody who took its port: then it raises :class:`_PortLost`."""
        due = time.monotonic() + RARELY_S

        def runs() -> bool:
            """Some go on without a port that they lost: to find out costs a look at every process, now and then."""
            nonlocal due
            alive = self._runs(service)
            if not alive or time.monotonic() > due:
                due = time.monotonic() + RARELY_S
                self._check_ports(service, its_ports)
            return alive

        where = service.url(ports=its_ports, password=password)
        await_answer(service, where, hint=lambda: self._log(service), runs=runs)
        self._check_ports(service, its_ports)

    def _check_ports(self, service: Service, its_ports: Mapping[str, int]) -> None:
        if self._outrun(service, its_ports):
            raise _PortLost(f"{service.name} has lost a port to {ports.owner(its_ports[service.name])}. {self._log(service)}")

    def _outrun(self, service: Service, its_ports: Mapping[str, int]) -> bool:
        """Whether somebody else took one of its ports, after we had looked and before the service did.

        Looked at twice: a socket that is opened during a look has no owner in it.
        """
        return all(self._seems_outrun(service, its_ports) for _ in range(2))

    def _seems_outrun(self, service: Service, its_ports: Mapping[str, int]) -> bool:
        own = family(self.supervisor.pid(service.name))
        if not own:
            return not all(map(ports.is_free, its_ports.values()))
        try:
            found = ports.listeners()
            # Whoever may not be seen is a stranger, unless the service itself is hidden from us.
            ours = {process.pid for process in own} | ({None} if any(map(_is_hidden, own)) else set())
        except psutil.Error:  # nobody may look, or it has just ended
            return False
        return any(there and not there & ours for there in map(found.get, its_ports.values()))

    def _answers_again(self, service: Service) -> bool:
        """It did once. It may have been frozen since, or be about to die of something: then it has to be started."""
        self.supervisor.thaw(service.name)
        its_ports = {name: port for name, port in self.home.ports().items() if name in service.ports}
        try:
            self._await(service, its_ports, self.home.password(service.name))
        except _PortLost:
            return False
        except StackError:
            if self._runs(service):
                raise
            return False
        how = "moves again" if self.found[service.name] == "frozen" else "is up already"
        self.say(f"{service.name} {how} at 127.0.0.1:{its_ports[service.name]}")
        return True

    def _site(self, service: Service) -> Site:
        with self._turn:
            self.supervisor.stop(service.name)  # one that never answered still sits on its port
            remembered = self.home.ports()
            assigned = ports.assign(service.ports, remembered, self.say, free=self.home.is_private)
            self.home.remember_ports(remembered | assigned)
            return Site(self.home, assigned, self.home.password(service.name))

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


def _is_hidden(process: psutil.Process) -> bool:
    """Its sockets are not for this user to see, as Postgres' are not for a root who may not trace others."""
    try:
        process.num_fds()
    except psutil.AccessDenied:
        return True
    return False
