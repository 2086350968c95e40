"""Who runs the services: what the environment names, else compose, else this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from reference.stack import Endpoints, StackError, compose, verbs
from reference.stack.home import Home


@pytest.fixture(autouse=True)
def nothing_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDA_BACKEND", raising=False)


def test_an_engine_that_answers_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has Docker gets containers."""
    monkeypatch.setattr(compose, "engine_answers", lambda: True)
    assert verbs.backend(Home.open(tmp_path)) == "compose"


def test_without_an_engine_processes_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client without an engine, as on this machine perhaps, is no engine."""
    monkeypatch.setattr(compose, "engine_answers", lambda: False)
    assert verbs.backend(Home.open(tmp_path)) == "native"


def test_what_runs_natively_stays_native(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting Docker Desktop does not hide a running stack from ``eda down``."""
    verbs.up(["postgres"])
    monkeypatch.delenv("EDA_BACKEND")
    monkeypatch.setattr(compose, "engine_answers", lambda: True)
    assert verbs.backend(Home.open(place)) == "native"
    monkeypatch.setenv("EDA_BACKEND", "native")


def test_an_engine_that_hangs_does_not_hang_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few seconds, then processes."""
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\nexec sleep 60\n")
    docker.chmod(0o755)
    monkeypatch.setattr("shutil.which", lambda _: str(docker))
    monkeypatch.setattr(compose, "ENGINE_S", 0.2)
    assert not compose.engine_answers()


def test_the_backend_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By ``EDA_BACKEND``; a word it does not know is answered with those it does."""
    monkeypatch.setenv("EDA_BACKEND", "compose")
    assert verbs.backend(Home.open(tmp_path)) == "compose"
    monkeypatch.setenv("EDA_BACKEND", "podman")
    with pytest.raises(StackError, match="write native, compose or env"):
        verbs.backend(Home.open(tmp_path))


def test_with_the_environment_alone_the_stack_is_what_it_names(native: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to name services that they do not use; what is not named is neither started nor asked."""
    monkeypatch.setenv("EDA_BACKEND", "env")
    monkeypatch.setenv("EDA_POSTGRES_DSN", "postgresql://lab@127.0.0.1:1/shop")
    assert verbs.endpoints() == Endpoints(postgres="postgresql://lab@127.0.0.1:1/shop", backend="env")
    assert {state.name: state.state for state in verbs.status()} == {
        "kafka": "stopped",
        "rabbitmq": "stopped",
        "pubsub": "stopped",
        "postgres": "external",
    }
    monkeypatch.delenv("EDA_POSTGRES_DSN")
    with pytest.raises(StackError, match="EDA_KAFKA_URL, EDA_RABBITMQ_URL, EDA_PUBSUB_URL and EDA_POSTGRES_DSN is not set"):
        verbs.up()


def test_the_environment_must_name_what_it_is_asked_for(native: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forced to the environment, nothing is started in its place."""
    monkeypatch.setenv("EDA_BACKEND", "env")
    with pytest.raises(StackError, match="EDA_BACKEND is env and EDA_KAFKA_URL is not set"):
        verbs.up(["kafka"])
