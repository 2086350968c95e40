"""A process whose wall clock is off by an hour, and whose monotonic clock is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from reference.stack import StackError, clock, private_stack, shift_clocks, shifted_clock, stop, up

CLOCKS = "import json, time; print(json.dumps([time.time(), time.monotonic()]))"
HOUR_S = 3600


@pytest.mark.parametrize("hours", [1, -1, 0.5])
def test_the_wall_clock_is_off_and_the_monotonic_clock_is_not(hours: float) -> None:
    """What the process reads lies between two readings of ours: shifted for the time of day, as it is for the other."""
    before = time.time(), time.monotonic()
    program = subprocess.run(
        [sys.executable, "-c", CLOCKS], env=os.environ | shifted_clock(hours=hours), capture_output=True, text=True, check=True
    )
    wall, monotonic = json.loads(program.stdout)
    assert before[0] - 1 <= wall - hours * HOUR_S <= time.time() + 1
    assert before[1] <= monotonic <= time.monotonic()


def test_a_killed_process_leaves_nothing_for_whoever_gets_its_pid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its shared memory is removed with the next call; that of one which lives stays."""
    with subprocess.Popen([sys.executable, "-c", ""]) as killed:
        pass
    for pid in (killed.pid, os.getpid()):
        for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
            (tmp_path / name).touch()
    monkeypatch.setattr(clock, "SHARED", tmp_path)
    shifted_clock(hours=1)
    assert {path.name for path in tmp_path.iterdir()} == {f"faketime_shm_{os.getpid()}", f"sem.faketime_sem_{os.getpid()}"}


def test_nothing_of_ours_changes() -> None:
    """The environment is handed over, not set."""
    before = dict(os.environ)
    shifted_clock(hours=1)
    assert dict(os.environ) == before


def test_what_is_loaded_already_stays_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's own LD_PRELOAD comes after ours."""
    monkeypatch.setenv("LD_PRELOAD", "/somebody/elses.so")
    assert shifted_clock(hours=1)["LD_PRELOAD"].endswith(".so:/somebody/elses.so")


def test_a_service_of_a_private_stack_has_it_too_and_keeps_it() -> None:
    """Postgres says another hour than we do, also after it was stopped and started."""
    with private_stack("postgres", clock_hours={"postgres": -1}) as private:
        for _ in range(2):
            with psycopg.connect(private.endpoints.postgres) as conn:
                row = conn.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
            assert row is not None
            assert abs(row[0] + HOUR_S - time.time()) < HOUR_S / 2
            stop("postgres", home=private.home)
            up(["postgres"], home=private.home)


def test_the_clock_of_a_private_stack_jumps_with_the_next_start(tmp_path: Path) -> None:
    """Ahead, and right again once it is named no more; the clocks of a stack that others use are left alone."""
    with private_stack("postgres") as private:
        for hours in (1, 0):
            shift_clocks({"postgres": hours} if hours else {}, home=private.home)
            stop("postgres", home=private.home)
            up(["postgres"], home=private.home)
            with psycopg.connect(private.endpoints.postgres) as conn:
                row = conn.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
            assert row is not None
            assert abs(row[0] - hours * HOUR_S - time.time()) < HOUR_S / 2
    with pytest.raises(StackError, match="only a private stack's can be wrong"):
        shift_clocks({"postgres": 1}, home=tmp_path)


def test_without_the_library_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so without a compiler, where what it leaves out was not compiled yet."""
    monkeypatch.setattr(clock, "FOLDERS", ())
    with pytest.raises(StackError, match=r"libfaketime is missing.*apt-get install libfaketime"):
        shifted_clock(hours=1)
    monkeypatch.undo()
    monkeypatch.setenv("EDA_DIST", str(tmp_path))
    tmp_path.chmod(0o755)
    monkeypatch.setattr(clock, "COMPILERS", ())
    monkeypatch.setattr(clock, "within_reach", lambda: tmp_path)
    with pytest.raises(StackError, match=r"a C compiler is missing.*apt-get install tcc"):
        shifted_clock(hours=1)


def test_a_clock_of_an_unknown_service_is_refused() -> None:
    """Before anything is started."""
    with pytest.raises(StackError, match="no service is called kafak"), private_stack("kafka", clock_hours={"kafak": 1}):
        pass
