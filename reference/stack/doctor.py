"""What the stack needs from the machine, checked one by one: found, or the command that gets it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from packaging.requirements import Requirement

from reference.stack import artifacts, clock, compose, java, ports, pubsub, rabbitmq
from reference.stack.catalog import SERVICES
from reference.stack.errors import StackError
from reference.stack.home import Home, downloads
from reference.stack.postgres import unpacked
from reference.stack.supervision import Supervisor

__all__ = ["Check", "examine"]

DISK_GB = 2.0
USED = ("", "rabbitmq", "pubsub")  # the extras whose clients ask the services whether they answer


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. ``fix`` is a command, empty when all is well; what is not ``required`` is good to know."""

    name: str
    ok: bool
    found: str
    fix: str = ""
    required: bool = True

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_row(self) -> list[str]:
        return ["ok" if self.ok else "MISSING" if self.required else "-", self.name, self.found, self.fix]


def examine() -> list[Check]:
    """Every check, in the order in which one would mend things."""
    checks: list[Callable[[], Check]] = [
        _packages, _java, _maven, _jars, _postgres, _rabbitmq, _pubsub, _setpriv, _clock, _docker, _ports, _disk, _home,
    ]  # fmt: skip
    return [check() for check in checks]


def _packages() -> Check:
    missing = []
    for line in requires("eda-labs") or []:
        wish = Requirement(line)
        if wish.marker is None or any(wish.marker.evaluate({"extra": extra}) for extra in USED):
            try:
                version(wish.name)
            except PackageNotFoundError:
                missing.append(wish.name)
    return Check("python packages", not missing, ", ".join(missing) or "all there", "make setup" if missing else "")


def _java() -> Check:
    try:
        path = java.find()
    except StackError as error:
        return Check("java", False, str(error), java.INSTALL)
    return Check("java", True, f"{path}, Java {java.release(path)}")


def _maven() -> Check:
    path = shutil.which("mvn")
    needed = not artifacts.is_fetched()  # only the download uses it
    return Check("maven", path is not None, path or "none", "" if path else "apt-get install maven", required=needed)


def _jars() -> Check:
    there = artifacts.is_fetched()
    return Check("jars", there, str(downloads()) if there else "not downloaded", "" if there else "eda fetch")


def _postgres() -> Check:
    there = unpacked()
    return Check("postgres binaries", there is not None, str(there or "not unpacked"), "" if there else "eda fetch")


def _rabbitmq() -> Check:
    try:
        script = rabbitmq.server()
    except StackError:
        return Check("rabbitmq-server", False, "none", f"{rabbitmq.INSTALL}; its service need not run")
    return Check("rabbitmq-server", True, f"{script.parent}, {rabbitmq.release(script) or 'version unknown'}")


def _pubsub() -> Check:
    try:
        path = pubsub.jar()
    except StackError as error:
        return Check("pub/sub emulator", False, str(error), pubsub.INSTALL)
    return Check("pub/sub emulator", True, f"{path}, {pubsub.release(path) or 'version unknown'}")


def _setpriv() -> Check:
    path = shutil.which("setpriv")
    return Check("setpriv", path is not None, path or "none", "" if path else "apt-get install util-linux")


def _clock() -> Check:
    """Only the experiments with a wrong clock need it."""
    try:
        return Check("libfaketime", True, str(clock.library()), required=False)
    except StackError:
        return Check("libfaketime", False, "none: no clock can be set wrong on purpose", clock.INSTALL, required=False)


def _docker() -> Check:
    there = compose.engine_answers()
    return Check("docker", there, "engine answers" if there else "no engine answers: services run natively", required=False)


def _ports() -> Check:
    running = Supervisor(Home.open()).answers()
    wishes = {port for service in SERVICES.values() for port in service.ports.values()}
    taken = [] if running else [f"{port} by {ports.owner(port)}" for port in sorted(wishes) if not ports.is_free(port)]
    found = "our own stack runs" if running else f"taken: {', '.join(taken)}; others will be used" if taken else "free"
    return Check("ports", not taken, found, required=False)


def _disk() -> Check:
    free = shutil.disk_usage(Home.open().path).free / 2**30
    return Check("disk space", free >= DISK_GB, f"{free:.1f} GB free", "" if free >= DISK_GB else f"free {DISK_GB:.0f} GB")


def _home() -> Check:
    home = Home.open()
    exposed = [path for path in home.path.glob("*.json") if path.stat().st_mode & 0o077]
    fix = "chmod 600 " + " ".join(map(str, exposed)) if exposed else ""
    found = f"{exposed[0]} is readable to others" if exposed else f"{home.path}, private"
    return Check("state home", not exposed, found, fix)
