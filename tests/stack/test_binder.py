"""Binder builds an image from ``binder/``; repo2docker shows how, without an engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dockerfile() -> str:
    program = Path(sys.executable).with_name("jupyter-repo2docker")
    if not program.exists():
        pytest.skip("jupyter-repo2docker is not installed")
    said = subprocess.run([program, "--no-build", "--debug", "."], cwd=ROOT, capture_output=True, text=True, check=True)
    return said.stdout + said.stderr


PARTS = [
    "openjdk-17-jre-headless",
    "maven",
    "rabbitmq-server",
    'env update -p ${NB_PYTHON_PREFIX} --file "binder/environment.yml"',
    "./binder/postBuild",
    'R2D_ENTRYPOINT="${REPO_DIR}/binder/start"',
]


@pytest.mark.parametrize("part", PARTS)
def test_the_image_has_our_parts(dockerfile: str, part: str) -> None:
    """Java, Maven, RabbitMQ, Python, what is installed at build, what runs at start."""
    assert part in dockerfile


def test_the_environment_is_one_file() -> None:
    """At the root for people, in ``binder/`` for Binder, which ignores the root when that folder is there."""
    assert (ROOT / "environment.yml").resolve() == ROOT / "binder" / "environment.yml"


@pytest.mark.parametrize("script", ["postBuild", "start"])
def test_scripts_are_sound(script: str) -> None:
    """Executable, and bash can read them."""
    path = ROOT / "binder" / script
    assert path.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0


def test_dependencies_name_no_index() -> None:
    """Whoever installs brings an index of their own."""
    lines = (ROOT / "constraints.txt").read_text().split()
    assert all("==" in line and "://" not in line and not line.startswith("-") for line in lines)
