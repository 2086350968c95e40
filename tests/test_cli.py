"""``eda`` as people and programs call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reference.stack import Endpoints
from reference.stack.address import without_password


def eda(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("eda")
    env = {**os.environ, **environment}
    return subprocess.run([program, *words], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home where nothing runs."""
    for name in ("EDA_KAFKA_URL", "EDA_POSTGRES_DSN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EDA_BACKEND", "native")
    monkeypatch.setenv("EDA_HOME", str(tmp_path))


def test_status_for_programs(stack: Endpoints) -> None:
    """Name, state and URL of every service, as JSON."""
    states = {row["name"]: row for row in json.loads(eda("status", "--json").stdout)}
    assert states["kafka"]["url"] == stack.kafka
    assert states["postgres"]["state"] == "external"
    assert (states["rabbitmq"]["page"], states["kafka"]["page"]) == (page_of(stack.rabbitmq), "")


def test_status_for_people_shows_no_password(stack: Endpoints) -> None:
    """It may be pasted into an issue."""
    said = eda("status").stdout
    assert "kafka" in said
    assert stack.kafka.split(":")[2].split("@")[0] not in said
    assert f"web page of rabbitmq, for people: {page_of(stack.rabbitmq)} as lab" in said
    assert stack.rabbitmq.split(":")[2].split("@")[0] not in said


def page_of(url: str) -> str:
    return f"http://127.0.0.1:{url.partition('?management=')[2]}/"


def test_status_says_where_a_program_connects(stack: Endpoints) -> None:
    """The whole URL but for its password, on one line also in a pipe, and where the password is."""
    said = eda("status")
    urls = {line.split()[0]: line.split()[-1] for line in said.stdout.splitlines() if line}
    assert urls["postgres"] == without_password(stack.postgres)
    assert ("eda status --json" in said.stdout, said.returncode) == (True, 0)


@pytest.mark.parametrize("dsn", ["postgresql://me:geheim@db/shop?password=geheim", "host=db password=geheim"])
@pytest.mark.usefixtures("elsewhere")
def test_status_shows_no_password_that_stands_elsewhere(dsn: str) -> None:
    """Neither among the settings of an address, nor in a DSN that is no URL."""
    said = eda("status", EDA_BACKEND="", EDA_POSTGRES_DSN=dsn)
    assert ("external" in said.stdout, "geheim" in said.stdout) == (True, False)


@pytest.mark.usefixtures("elsewhere")
def test_status_of_nothing_is_no_failure() -> None:
    """Exit code 0, and its help says so."""
    told = " ".join(eda("status", "--help").stdout.split())
    assert (eda("status").returncode, "Exits with 0 whatever runs" in told) == (0, True)


@pytest.mark.usefixtures("elsewhere")
def test_an_expected_failure_is_one_line() -> None:
    """No traceback; exit code 1; what to do."""
    said = eda("logs", "kafka")
    assert (said.returncode, said.stderr) == (1, "error: kafka has no log yet: eda up kafka\n")


@pytest.mark.usefixtures("elsewhere")
def test_a_misspelt_service_is_answered_with_the_names() -> None:
    """Nothing is started."""
    said = eda("up", "kafak")
    there_are = "there are kafka, rabbitmq, pubsub, postgres"
    assert (said.returncode, said.stderr) == (1, f"error: no service is called kafak: {there_are}\n")


@pytest.mark.usefixtures("elsewhere")
def test_a_misspelt_backend_is_answered_with_the_names() -> None:
    """One line."""
    assert eda("up", EDA_BACKEND="podman").stderr == "error: EDA_BACKEND is 'podman': write native, compose or env\n"


@pytest.mark.usefixtures("elsewhere")
def test_doctor_finds_what_this_machine_has() -> None:
    """Every check has a name, a verdict, what was found, and what would mend it."""
    said = eda("doctor", "--json")
    checks = {row["name"]: row for row in json.loads(said.stdout)}
    assert set(checks["java"]) == {"name", "ok", "found", "fix", "required"}
    assert (said.returncode, checks["java"]["ok"], checks["state home"]["ok"]) == (0, True, True)


@pytest.mark.usefixtures("elsewhere")
def test_doctor_fails_when_something_required_is_missing(tmp_path: Path) -> None:
    """Exit code 1, and the command that gets it."""
    said = eda("doctor", "--json", PATH="/nonexistent", JAVA_HOME="", EDA_DIST=str(tmp_path / "none"))
    fixes = {row["name"]: row["fix"] for row in json.loads(said.stdout) if not row["ok"] and row["required"]}
    assert said.returncode == 1
    assert fixes["java"].startswith("apt-get install")
    assert fixes["maven"] == "apt-get install maven"


def test_the_schema_can_be_piped_into_a_database() -> None:
    """Whole, and nothing but SQL."""
    assert "CREATE TABLE IF NOT EXISTS outbox" in eda("schema").stdout
