"""What the native stack downloads, through Maven, at the versions :file:`pom.xml` pins.

The result is a directory named after the pom's content: it is there whole or not at all, and several homes, or several
processes at once, share it.
"""

from __future__ import annotations

import fcntl
import hashlib
import lzma
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from reference.stack.errors import StackError
from reference.stack.home import downloads

__all__ = ["fetch", "is_fetched", "kafka_jars", "postgres_binaries"]

PLATFORMS = {"x86_64": "linux-amd64", "amd64": "linux-amd64", "aarch64": "linux-arm64v8", "arm64": "linux-arm64v8"}
PATIENCE_S = 1800


def kafka_jars() -> list[Path]:
    """Kafka's class path."""
    return sorted((fetch() / "kafka").glob("*.jar"))


def postgres_binaries(root: Path | None = None) -> Path:
    """A directory with ``bin``, ``lib`` and ``share``, unpacked once, under ``root`` or beside the jars."""
    archive = next((fetch() / "postgres").glob("*.jar"))
    where = root or downloads()
    return _make(where / archive.stem, lambda target: _unpack(archive, target))


def fetch() -> Path:
    """The directory of downloaded jars; runs Maven only when it is not there yet. Raises :class:`StackError`."""
    return _make(_wanted(), _run_maven)


def is_fetched() -> bool:
    return _wanted().is_dir()


def _wanted() -> Path:
    pom = files("reference.stack").joinpath("pom.xml").read_bytes()
    return downloads() / f"jars-{hashlib.sha256(pom + _platform().encode()).hexdigest()[:12]}"


def _platform() -> str:
    try:
        return PLATFORMS[platform.machine().lower()]
    except KeyError:
        raise StackError(f"no Postgres binaries for {platform.machine()}: use Docker, or set EDA_POSTGRES_DSN") from None


def _make(target: Path, build: Callable[[Path], None]) -> Path:
    """``target``, built in a directory beside it and renamed when whole; a second process waits for the first."""
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target):
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as scratch:
                build(Path(scratch) / "whole")
                (Path(scratch) / "whole").rename(target)
    return target


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    with (target.parent / f".{target.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _run_maven(output: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise StackError("Maven is missing, and Kafka comes through it: apt-get install maven")
    with tempfile.TemporaryDirectory() as project:
        pom = Path(project) / "pom.xml"
        pom.write_bytes(files("reference.stack").joinpath("pom.xml").read_bytes())
        wishes = [f"-Dstack.output={output}", f"-Dpostgres.platform={_platform()}"]
        goals = ["dependency:copy-dependencies@kafka", "dependency:copy-dependencies@postgres"]
        said = subprocess.run(
            [maven, "--quiet", "--batch-mode", "--file", str(pom), *wishes, *goals],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    if said.returncode:
        lines = [line for line in (said.stdout + said.stderr).splitlines() if "ERROR" in line]
        raise StackError("Maven could not download the stack: " + (lines[0] if lines else f"exit code {said.returncode}"))


def _unpack(jar: Path, target: Path) -> None:
    """The jar holds one ``.txz``; every directory in it is made readable to all, for Postgres runs as another user."""
    with zipfile.ZipFile(jar) as archive:
        name = next(entry for entry in archive.namelist() if entry.endswith(".txz"))
        with archive.open(name) as packed, lzma.open(packed) as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
            tar.extractall(target, filter="tar")
    for directory, _, _ in os.walk(target):
        Path(directory).chmod(0o755)
