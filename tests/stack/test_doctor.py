"""What ``eda doctor`` says about the services that come from outside, and what the labs do without them."""

from __future__ import annotations

from pathlib import Path

import pytest

from reference.stack import StackError, State, commands, doctor, pubsub, rabbitmq, verbs
from reference.stack.catalog import SERVICES


def check(name: str) -> doctor.Check:
    return next(check for check in doctor.examine() if check.name == name)


def test_what_is_there_is_named_with_its_version() -> None:
    """Where it is, and which."""
    assert check("rabbitmq-server").ok
    assert rabbitmq.release(rabbitmq.server()) in check("rabbitmq-server").found
    assert check("pub/sub emulator").ok
    assert pubsub.release(pubsub.jar()) in check("pub/sub emulator").found


def test_a_missing_emulator_is_a_line_with_the_ways_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Required: `eda up` and `make test` fail without it."""
    monkeypatch.setattr(pubsub, "_sdks", lambda: iter(()))
    monkeypatch.delenv("EDA_PUBSUB_EMULATOR", raising=False)
    missing = check("pub/sub emulator")
    assert (missing.ok, missing.required) == (False, True)
    assert "gcloud components install pubsub-emulator" in missing.fix


def test_a_missing_rabbitmq_is_a_line_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package; not its service."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(rabbitmq, "DEBIAN", Path("/nonexistent"))
    missing = check("rabbitmq-server")
    assert (missing.ok, missing.fix) == (False, "apt-get install rabbitmq-server; its service need not run")


def states(*ready: str) -> list[State]:
    return [State(name, "ready" if name in ready else "stopped", "native") for name in SERVICES]


@pytest.fixture
def without_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    def up(**_: object) -> None:
        raise StackError("the Pub/Sub emulator is missing: get it")

    monkeypatch.setattr(verbs, "up", up)


def test_the_labs_open_without_a_broker_that_few_sections_use(
    without_emulator: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is missing is said."""
    monkeypatch.setattr(verbs, "status", lambda: states("kafka", "rabbitmq", "postgres"))
    commands._start_for_labs()
    assert "not everything is there: the Pub/Sub emulator is missing: get it" in capsys.readouterr().err


def test_the_labs_do_not_open_on_nothing(without_emulator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every lab needs Kafka and Postgres."""
    monkeypatch.setattr(verbs, "status", lambda: states("rabbitmq", "postgres"))
    with pytest.raises(StackError, match="the Pub/Sub emulator is missing"):
        commands._start_for_labs()
