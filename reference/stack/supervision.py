"""Supervision by `supervisord <http://supervisord.org>`_, spoken to over its XML-RPC socket in the state home."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from reference.stack.accounts import as_account
from reference.stack.errors import StackError
from reference.stack.home import Home, write_whole
from reference.stack.processes import MARK, OWNED, STOP_S, processes, sweep, thaw
from reference.stack.service import Program
from reference.stack.step import dying_with_parent

__all__ = ["RUNNING", "Supervisor"]

START_S = 30.0
RUNNING = {"STARTING", "RUNNING"}

# Logs are relative to the home, where supervisord runs: it expands a percent sign in their path twice.
CONFIG = """\
[supervisord]
directory={home}
logfile=log/supervisord.log
logfile_maxbytes=1MB
logfile_backups=1
pidfile=supervisord.pid
childlogdir=log
umask=077
{user}

[unix_http_server]
file={socket}
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

"""

# autorestart stays false: the labs kill brokers on purpose, and a broker that came back by itself would hide what is lost.
# startretries=0 for the same reason: one start, one answer.
PROGRAM = """\
[program:{name}]
command={command}
directory={directory}
environment={environment}
stdout_logfile={log}
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=1
redirect_stderr=true
autostart=false
autorestart=false
startretries=0
startsecs=0
stopsignal={stop_signal}
stopwaitsecs={stop_s:.0f}
killasgroup=true
"""


class Supervisor:
    """The supervisord of one home, running or not."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def launch(self, *, owned: bool) -> None:
        """Start it if it does not answer. Owned, it ends, and everything under it, when the calling thread's process dies."""
        if self.answers():
            return
        sweep(self.home)
        command = [sys.executable, "-m", "supervisor.supervisord", "--configuration", str(self._configure())]
        if owned:
            command = [*dying_with_parent("TERM"), *command, "--nodaemon", "--silent"]
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, cwd=self.home.path, env={**os.environ, MARK: str(self.home.path)},
        )  # fmt: skip
        self._await(child)
        if owned:
            OWNED[self.home.path] = child
        else:
            child.wait(START_S)  # the parent of the daemon

    def answers(self) -> bool:
        try:
            self._call("getSupervisorVersion")
        except (OSError, Fault):  # not there, or on its way out
            return False
        return True

    def states(self) -> dict[str, dict[str, Any]]:
        """Per program: supervisord's ``statename`` and ``pid``; empty when supervisord does not run."""
        try:
            return {info["name"]: info for info in self._call("getAllProcessInfo")}
        except OSError:
            return {}

    def running(self) -> list[str]:
        """The programs that run; none, too, while supervisord is on its way out."""
        try:
            return [name for name, info in self.states().items() if info["statename"] in RUNNING]
        except Fault:
            return []

    def start(self, name: str, program: Program) -> None:
        """Start a program afresh, with this configuration. Call it for one program at a time."""
        write_whole(self.home.path / "programs" / f"{name}.conf", self._section(name, program))
        self._configure()
        if name in self.states():
            self._call("removeProcessGroup", name)
        self._call("reloadConfig")
        self._call("addProcessGroup", name)
        self._call("startProcess", name, False)

    def stop(self, name: str) -> None:
        """Ask it to stop, wait, then kill it."""
        self.thaw(name)  # what is frozen hears nothing
        with suppress(OSError, Fault):  # it was not running
            self._call("stopProcess", name, True)

    def pid(self, name: str) -> int:
        """The pid of a program that runs, else 0."""
        known = self.states().get(name, {})
        return int(known["pid"]) if known.get("statename") in RUNNING else 0

    def signal(self, name: str, word: str) -> None:
        """Send its first process a signal, such as ``QUIT``; one that is frozen would not hear it, and is thawed."""
        self.thaw(name)
        with suppress(OSError, Fault):  # it has just ended
            self._call("signalProcess", name, word)

    def thaw(self, name: str) -> None:
        """SIGCONT to all its processes."""
        thaw(self.pid(name))

    def await_end(self, name: str) -> None:
        """Return when supervisord has noticed that it ended, and takes a start for a new one."""
        deadline = time.monotonic() + STOP_S
        while self.pid(name):
            if time.monotonic() > deadline:
                raise StackError(f"supervisord still takes {name} for running: see {self.home.log('supervisord')}")
            time.sleep(0.02)

    def quit(self) -> None:
        """Stop every program, all at the same time, then supervisord."""
        for name in self.running():
            self.thaw(name)
        with suppress(OSError, Fault):  # it is not there, or on its way out: what it leaves is swept
            own = self._call("getPID")
            self._call("stopAllProcesses", False)
            deadline = time.monotonic() + STOP_S + 1
            while any(process.pid != own for process in processes(self.home)) and time.monotonic() < deadline:
                time.sleep(0.02)
            # It has nothing left to look after, and asked politely it would take two seconds to notice.
            os.kill(own, signal.SIGKILL)

    def _configure(self) -> Path:
        """Write the whole configuration. Its own ``[include]`` would take brackets in the path for a pattern."""
        path = self.home.path / "supervisord.conf"
        user = "user=root" if os.geteuid() == 0 else ""
        head = CONFIG.format(home=_escape(self.home.path), socket=_escape(self.home.socket), user=user)
        sections = [part.read_text() for part in sorted((self.home.path / "programs").iterdir()) if part.suffix == ".conf"]
        write_whole(path, "\n".join([head, *sections]))
        return path

    def _section(self, name: str, program: Program) -> str:
        argv = (*as_account(program.account), *dying_with_parent(program.stop_signal), *program.argv)
        words = [f'{key}="{_escape(value)}"' for key, value in program.environment.items()]
        return PROGRAM.format(
            name=name, command=_escape(shlex.join(argv)), directory=_escape(program.directory), environment=",".join(words),
            log=self.home.log(name).relative_to(self.home.path), stop_signal=program.stop_signal, stop_s=STOP_S,
        )  # fmt: skip

    def _await(self, child: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_S
        while not self.answers():
            if child.poll() not in (None, 0) or time.monotonic() > deadline:
                raise StackError(f"supervisord did not start: see {self.home.log('supervisord')}")
            time.sleep(0.02)

    def _call(self, method: str, *arguments: object) -> Any:
        # The URL is a formality: the transport goes to the socket. A connection a call, for threads share this object.
        transport = SupervisorTransport(None, None, f"unix://{self.home.socket}")
        try:
            return getattr(ServerProxy("http://localhost", transport=transport).supervisor, method)(*arguments)
        finally:
            transport.close()


def _escape(value: str | Path) -> str:
    """supervisord expands ``%(name)s`` in its files."""
    return str(value).replace("%", "%%")
