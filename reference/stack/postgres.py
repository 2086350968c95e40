"""Postgres 18 from relocatable binaries: one private cluster, loopback only, scram passwords, honest ``fsync``.

What enters is a :class:`~reference.stack.service.Site`; what leaves is a program. A cluster is either whole or not there:
it is built beside its place and renamed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from reference.stack import artifacts
from reference.stack.accounts import SYSTEM, give, reachable, unprivileged, within_reach
from reference.stack.address import Page
from reference.stack.errors import StackError
from reference.stack.home import Home, write_whole
from reference.stack.service import Program, Site
from reference.stack.step import run

__all__ = ["DATABASE", "SETTINGS", "USER", "Postgres", "binaries", "unpacked"]

USER = "lab"
DATABASE = "shop"
CLUSTER = "cluster-18"  # a data directory belongs to one major version

SETTINGS: Mapping[str, str] = {
    "wal_level": "logical",  # the change-data-capture relay reads the log
    "max_connections": "200",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "fsync": "on",  # the labs kill things and count what is lost: nothing may be faked
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server on loopback; user ``lab`` owns the database ``shop`` and may create others."""

    name: str = "postgres"
    variable: str = "EDA_POSTGRES_DSN"
    ports: Mapping[str, int] = field(default_factory=lambda: {"postgres": 15432})
    immediate_signal: str = "QUIT"

    def url(self, *, ports: Mapping[str, int], password: str) -> str:
        return f"postgresql://{USER}:{password}@127.0.0.1:{ports['postgres']}/{DATABASE}"

    def page(self, url: str) -> Page | None:  # noqa: ARG002  # it has none
        return None

    def data(self, home: Home) -> Path:
        """In the home; but when root's Postgres user cannot walk there (a clone under ``/root``), in ``/var/lib``."""
        if unprivileged() is None or reachable(home.path):
            return home.path / "postgres"
        return SYSTEM / home.token

    def prepare(self, site: Site) -> Program:
        account = unprivileged()
        server = binaries()
        directory = self.data(site.home)
        directory.parent.mkdir(mode=0o711, exist_ok=True)
        give(directory, account)
        if not (directory / CLUSTER).exists():
            _create(server, directory, site.password)
        place = {"port": str(site.ports["postgres"]), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        # With its data, and gone with it: in /dev/shm a server that is killed for good would leave a megabyte for ever.
        place["dynamic_shared_memory_type"] = "mmap"
        flags = [word for name, value in (place | dict(SETTINGS)).items() for word in ("-c", f"{name}={value}")]
        argv = (str(server / "bin" / "postgres"), "-D", str(directory / CLUSTER), *flags)
        # INT is Postgres's fast shutdown: it does not wait for clients to leave.
        return Program(argv, directory, stop_signal="INT", environment={"LC_ALL": "C.UTF-8", "TZ": "UTC"}, account=account)

    def probe(self, url: str) -> None:
        """``SELECT 1`` as the user and on the database that the labs use."""
        with psycopg.connect(url, connect_timeout=2) as connection:
            connection.execute("SELECT 1").fetchone()


def binaries() -> Path:
    """Where the server is: unpacked beside the jars, or in ``/var/lib`` when root's Postgres user cannot walk there."""
    return artifacts.postgres_binaries(within_reach())


def unpacked() -> Path | None:
    """The same place, if something has been unpacked there."""
    return next(within_reach().glob("embedded-postgres-binaries-*/"), None)


def _create(binaries: Path, directory: Path, password: str) -> None:
    """initdb, then the labs' database through single-user mode, both in a directory of this call's own, then a rename."""
    account = unprivileged()
    for abandoned in directory.glob("unfinished-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=directory))
    give(unfinished, account)
    secret, cluster = unfinished / "password", unfinished / "cluster"
    write_whole(secret, password + "\n")
    if account is not None:
        os.chown(secret, account.pw_uid, account.pw_gid)
    wishes = ["--no-locale", "--encoding=UTF8", "--no-instructions", "--no-sync", "--auth=scram-sha-256"]
    initdb = [str(binaries / "bin" / "initdb"), "-D", str(cluster), "-U", USER, f"--pwfile={secret}", *wishes]
    run(initdb, directory=unfinished, account=account)
    single = [str(binaries / "bin" / "postgres"), "--single", "-D", str(cluster), "postgres"]
    said = run(single, directory=unfinished, account=account, typed=f"CREATE DATABASE {DATABASE}\n")
    if "ERROR:" in said:  # single-user mode reports a failed statement and still exits with 0
        raise StackError(f"postgres failed: {said.strip().splitlines()[-1]}")
    cluster.rename(directory / CLUSTER)
    shutil.rmtree(unfinished)
