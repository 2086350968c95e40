"""Postgres on a disk of some megabytes that is filled on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from reference.stack import PrivateStack, SmallDisk, StackError, postgres_disk, private_stack, up

DENIED = "setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"
MOUNT = "from pathlib import Path; from reference.stack import SmallDisk; SmallDisk.mount(Path({path!r}), megabytes=128)"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")


@pytest.fixture
def small() -> Iterator[PrivateStack]:
    with private_stack("postgres", postgres_disk_mb=128) as private:
        with psycopg.connect(private.endpoints.postgres) as conn:
            conn.execute("CREATE TABLE rows (n int PRIMARY KEY, body text)")
            conn.execute("CREATE TABLE counter AS SELECT 0 AS n")
        yield private


def mounts() -> str:
    return Path("/proc/mounts").read_text()


def insert_until_refused(dsn: str) -> int:
    """Rows of a kilobyte, each a transaction, until one is refused; how many were committed."""
    committed = 0
    with psycopg.connect(dsn, autocommit=True) as conn:
        try:
            while True:
                conn.execute("INSERT INTO rows VALUES (%s, repeat('x', 1000))", (committed + 1,))
                committed += 1
        except psycopg.errors.DiskFull:
            return committed


def write_log_until_lost(dsn: str) -> int:
    """Count up in one row, in place, with a long log, until the server is gone; the last count that was committed."""
    committed = 0
    with closing(psycopg.connect(dsn, autocommit=True)) as conn:
        try:
            while True:  # the log's own file ends after 16 MB, and there is no room for another
                conn.execute("UPDATE counter SET n = %s", (committed + 1,))
                committed += 1
                conn.execute("SELECT pg_logical_emit_message(true, 'ballast', repeat('x', 100000))")
        except psycopg.OperationalError:
            return committed


def count(dsn: str) -> int:
    with psycopg.connect(dsn) as conn:
        row = conn.execute("SELECT count(*) FROM rows").fetchone()
        return row[0] if row else 0


@needs_root
def test_a_full_disk_refuses_and_loses_nothing(small: PrivateStack) -> None:
    """Inserts fail with the error that names the disk; drained, Postgres goes on; every committed row is there."""
    dsn, disk = small.endpoints.postgres, postgres_disk(small.home)
    assert disk.fill() > 0
    committed = insert_until_refused(dsn)
    disk.drain()
    assert up(["postgres"], home=small.home) == small.endpoints
    assert count(dsn) == committed
    with psycopg.connect(dsn) as conn:
        conn.execute("INSERT INTO rows VALUES (0, '')")
    assert count(dsn) == committed + 1


@needs_root
def test_a_full_disk_under_the_log_is_a_crash_that_ends_when_it_is_drained(small: PrivateStack) -> None:
    """Postgres panics, and can not start while the disk is full: the error has its last words. Then ``up`` brings it back."""
    dsn, disk = small.endpoints.postgres, postgres_disk(small.home)
    disk.fill()
    committed = write_log_until_lost(dsn)
    with pytest.raises(StackError, match="No space left on device"):
        up(["postgres"], home=small.home)
    disk.drain()
    assert up(["postgres"], home=small.home) == small.endpoints
    with psycopg.connect(dsn) as conn:
        assert conn.execute("SELECT n FROM counter").fetchone() in {(committed,), (committed + 1,)}  # the last one's fate is open


@needs_root
def test_the_disk_goes_with_the_stack(small: PrivateStack) -> None:
    """Full, and after an error in the block, it is unmounted."""
    with pytest.raises(psycopg.errors.DiskFull), private_stack("postgres", postgres_disk_mb=128) as other:  # noqa: PT012
        postgres_disk(other.home).fill()
        assert str(other.home) in mounts()
        with psycopg.connect(other.endpoints.postgres) as conn:
            conn.execute("CREATE TABLE more AS SELECT n, repeat('x', 1000) FROM generate_series(1, 1000) AS n")
    assert str(other.home) not in mounts()
    assert not other.home.exists()
    assert str(small.home) in mounts()


@needs_root
def test_filling_takes_all_and_draining_gives_it_back(tmp_path: Path) -> None:
    """To the last block, as often as one likes."""
    disk = SmallDisk.mount(tmp_path / "disk", megabytes=1)
    try:
        taken = disk.fill()
        assert (taken, disk.fill()) == (2**20, 0)
        disk.drain()
        disk.drain()
        assert disk.fill() == taken
        assert SmallDisk.at(disk.path) == disk
    finally:
        disk.unmount()
    assert not disk.path.exists()


def test_where_mounting_is_denied_the_error_says_what_it_takes(tmp_path: Path) -> None:
    """One sentence with the system's own reason in it."""
    words = [*(DENIED if os.geteuid() == 0 else ()), sys.executable, "-c", MOUNT.format(path=str(tmp_path / "disk"))]
    said = subprocess.run(words, capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert "StackError: a small disk is a tmpfs, and mounting one was denied (mount: " in said.stderr
    assert said.stderr.endswith("run it as root, with CAP_SYS_ADMIN\n")


def test_no_other_disk_is_ever_filled(tmp_path: Path) -> None:
    """The error names the directory, and what gives Postgres a small disk."""
    with pytest.raises(StackError, match=r"is no small disk: private_stack\('postgres', postgres_disk_mb=192\)"):
        SmallDisk.at(tmp_path)
    with pytest.raises(StackError, match="is no small disk"):
        postgres_disk(tmp_path)


def test_a_disk_on_which_postgres_does_not_fit_is_refused() -> None:
    """Before anything is mounted or started; so is one for a Postgres that is not asked for."""
    with pytest.raises(StackError, match="does not fit on 20 MB: give it 128 or more"), private_stack(postgres_disk_mb=20):
        pass
    with pytest.raises(StackError, match="name it too"), private_stack("kafka", postgres_disk_mb=192):
        pass
