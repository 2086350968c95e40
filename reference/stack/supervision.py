"""Supervision by `supervisord <http://supervisord.org>`_, spoken to over its XML-RPC socket in the state home.

Every process of a stack carries a mark in its environment, so that what a dead supervisord left behind is found by what
it is, not by a pid that may be somebody else's by now.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import psutil
from supervisor.xmlrpc import SupervisorTransport

from reference.stack.accounts import as_account
from reference.stack.errors import StackError
from reference.stack.home import Home, write_whole
from reference.stack.service import Program

__all__ = ["MARK", "Supervisor", "dying_with_parent", "processes", "sweep"]

MARK = "EDA_STACK_HOME"
START_S = 30.0
STOP_S = 20.0
# What is our own child has to be waited for by us.
OWNED: dict[Path, subprocess.Popen[bytes]] = {}

CONFIG = """\
[supervisord]
directory={home}
logfile={home}/log/supervisord.log
logfile_maxbytes=1MB
logfile_backups=1
pidfile={home}/supervisord.pid
childlogdir={home}/log
umask=077
{user}

[unix_http_server]
file={socket}
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[include]
files=programs/*.conf
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
        config = self.home.path / "supervisord.conf"
        user = "user=root" if os.geteuid() == 0 else ""
        write_whole(config, CONFIG.format(home=_escape(self.home.path), socket=_escape(self.home.socket), user=user))
        command = [sys.executable, "-m", "supervisor.supervisord", "--configuration", str(config)]
        if owned:
            command = [*dying_with_parent("TERM"), *command, "--nodaemon", "--silent"]
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, env={**os.environ, MARK: str(self.home.path)},
        )  # fmt: skip
        self._await(child)
        if owned:
            OWNED[self.home.path] = child
        else:
            child.wait(START_S)  # the parent of the daemon

    def answers(self) -> bool:
        try:
            self._call("getSupervisorVersion")
        except OSError:
            return False
        return True

    def states(self) -> dict[str, dict[str, Any]]:
        """Per program: supervisord's ``statename`` and ``pid``; empty when supervisord does not run."""
        try:
            return {info["name"]: info for info in self._call("getAllProcessInfo")}
        except OSError:
            return {}

    def start(self, name: str, program: Program) -> None:
        """Start a program afresh, with this configuration. Call it for one program at a time."""
        write_whole(self.home.path / "programs" / f"{name}.conf", self._section(name, program))
        if name in self.states():
            self._call("removeProcessGroup", name)
        self._call("reloadConfig")
        self._call("addProcessGroup", name)
        self._call("startProcess", name, False)

    def stop(self, name: str) -> None:
        """Ask it to stop, wait, then kill it."""
        with suppress(OSError, Fault):  # it was not running
            self._call("stopProcess", name, True)

    def quit(self) -> None:
        """Stop every program, all at the same time, then supervisord."""
        with suppress(OSError):
            own = self._call("getPID")
            self._call("stopAllProcesses", False)
            deadline = time.monotonic() + STOP_S + 1
            while any(process.pid != own for process in processes(self.home)) and time.monotonic() < deadline:
                time.sleep(0.02)
            # It has nothing left to look after, and asked politely it would take two seconds to notice.
            os.kill(own, signal.SIGKILL)

    def _section(self, name: str, program: Program) -> str:
        # The account comes first: the kernel forgets the death signal of a process that changes its user.
        argv = (*as_account(program.account), *dying_with_parent(program.stop_signal), *program.argv)
        words = [f'{key}="{_escape(value)}"' for key, value in program.environment.items()]
        return PROGRAM.format(
            name=name, command=_escape(shlex.join(argv)), directory=_escape(program.directory), environment=",".join(words),
            log=_escape(self.home.log(name)), stop_signal=program.stop_signal, stop_s=STOP_S,
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


def dying_with_parent(last_words: str) -> tuple[str, ...]:
    """The words before a command that have Linux send it this signal when its parent dies; none where there is no setpriv."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", last_words, "--") if setpriv else ()


def processes(home: Home) -> list[psutil.Process]:
    """Every living process of this home's stack, whoever its parent is by now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(home.path) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def sweep(home: Home) -> int:
    """Stop whatever is left of this home's stack and wait until it is gone; how many processes that were."""
    left = processes(home)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(left, timeout=STOP_S)
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=STOP_S)
    home.socket.unlink(missing_ok=True)
    if home.path in OWNED:
        OWNED.pop(home.path).wait(STOP_S)
    return len(left)


def _escape(value: str | Path) -> str:
    """supervisord expands ``%(name)s`` in its files."""
    return str(value).replace("%", "%%")
