"""A stack of one process's own: nobody else's is touched, and nothing is left of it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reference.stack import Endpoints, PrivateStack, StackError, private_stack, status, up
from reference.stack.home import Home
from reference.stack.processes import processes

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def is_gone(private: PrivateStack) -> bool:
    return not private.home.exists() and not processes(Home(private.home))


@pytest.mark.parametrize("backend", ["env", "native", "compose", ""])
def test_the_environment_has_no_say(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever services and backend it names: the private one is started, asked and stopped."""
    monkeypatch.setenv("EDA_BACKEND", backend)
    monkeypatch.setenv("EDA_POSTGRES_DSN", NOWHERE)
    with private_stack("postgres") as private:
        assert private.endpoints.backend == "native"
        assert private.endpoints.postgres != NOWHERE
        assert up(["postgres"], home=private.home) == private.endpoints
        assert {state.name: state.state for state in status(home=private.home)}["postgres"] == "ready"
    assert is_gone(private)
    assert os.environ["EDA_POSTGRES_DSN"] == NOWHERE


def test_no_shared_memory_is_left() -> None:
    """Neither of the old kind, which no process owns, nor files in memory: a machine has only so many of them."""
    with private_stack("postgres") as private:
        (lock,) = (private.home / "postgres").glob("*/postmaster.pid")
        lines = lock.read_text().splitlines()
        segment = lines[6].split()[1]
        assert segment in segments()
        assert "PostgreSQL." not in Path(f"/proc/{lines[0]}/maps").read_text()  # as files in memory are called
    assert segment not in segments()


def segments() -> set[str]:
    return {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()}


@pytest.mark.parametrize("end", [KeyError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_whatever_ends_the_block(end: type[BaseException]) -> None:
    """No process, no file; the exception comes out as it is."""
    with pytest.raises(end), private_stack("postgres") as private:
        raise end
    assert is_gone(private)


def test_it_has_services_of_its_own(stack: Endpoints) -> None:
    """Two private stacks and the session's share nothing."""
    with private_stack("postgres") as one, private_stack("postgres") as other:
        assert len({stack.postgres, one.endpoints.postgres, other.endpoints.postgres}) == 3
        with psycopg.connect(one.endpoints.postgres) as conn:
            conn.execute("CREATE TABLE here ()")
        with psycopg.connect(other.endpoints.postgres) as conn, pytest.raises(psycopg.errors.UndefinedTable):
            conn.execute("SELECT FROM here")


def test_a_service_that_cannot_start_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says why, and what did start is gone with the rest."""
    monkeypatch.setenv("EDA_PUBSUB_EMULATOR", str(tmp_path / "no.jar"))
    with tempfile.TemporaryDirectory() as near:  # a test's own folder has too long a name for a socket
        monkeypatch.setattr("tempfile.tempdir", near)
        Path(near).chmod(0o755)
        with pytest.raises(StackError, match="EDA_PUBSUB_EMULATOR names"), private_stack("postgres", "pubsub"):
            pass
        assert list(Path(near).glob("eda-private-*")) == []
        monkeypatch.undo()


def test_what_a_killed_owner_left_is_taken_away_by_the_next(eventually: Callable[..., Any]) -> None:
    """Even frozen, where nothing hears that its owner is gone."""
    code = (
        "import sys, time\n"
        "from reference.stack import freeze, private_stack\n"
        "with private_stack('postgres') as private:\n"
        "    freeze('postgres', home=private.home)\n"
        "    print(private.home, flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        left = Path(owner.stdout.readline().strip())
        owner.kill()
    assert left.is_dir()
    with private_stack("postgres") as private:
        assert private.home.exists()
        assert is_gone(PrivateStack(left, private.endpoints))
    assert eventually(lambda: not [pid for pid in Path("/proc").glob("[0-9]*") if _works_in(pid, left)])


def _works_in(process: Path, folder: Path) -> bool:
    try:
        return str(process.joinpath("cwd").readlink()).startswith(str(folder))
    except OSError:
        return False
