"""The compose file and the native stack are the same stack; there is no engine here to run the file on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from reference.stack import compose, kafka, postgres
from reference.stack.catalog import SERVICES
from reference.stack.home import Home

FILE = Path(__file__).parents[2] / "docker-compose.yml"
HOLE = re.compile(r"\$\{(\w+)(?::[-?][^}]*)?\}")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.open(tmp_path)
    home.remember_ports({"kafka": 21001, "kafka-controller": 21002, "postgres": 21003})
    return home


@pytest.fixture
def filled(home: Home) -> dict[str, Any]:
    """The file as compose sees it, its holes filled from the environment file."""
    values = compose.environment(SERVICES.values(), home)
    parsed: dict[str, Any] = yaml.safe_load(HOLE.sub(lambda hole: values[hole[1]], FILE.read_text()))
    services: dict[str, Any] = parsed["services"]
    return services


def test_every_service_is_in_the_file(filled: dict[str, Any]) -> None:
    """One catalogue, two ways to run it."""
    assert set(filled) == set(SERVICES)


def test_images_are_pinned_to_a_release(filled: dict[str, Any]) -> None:
    """Two machines run the same brokers."""
    assert all(re.fullmatch(r"[\w./-]+:\d+\.\d+(\.\d+)?", service["image"]) for service in filled.values())


def test_only_loopback_is_published(filled: dict[str, Any]) -> None:
    """Nobody in the café reaches the broker."""
    assert all(port.startswith("127.0.0.1:") for service in filled.values() for port in service["ports"])


def test_every_service_is_watched_bounded_and_kept(filled: dict[str, Any]) -> None:
    """A health check to wait for, a limit on memory, a volume that outlives the container."""
    for service in filled.values():
        assert service["healthcheck"]["test"]
        assert service["mem_limit"]
        assert service["volumes"]


def test_kafka_is_configured_as_the_native_one(filled: dict[str, Any], home: Home) -> None:
    """Setting for setting; only where it binds and where it writes differ in a container."""
    native = kafka.properties(home.ports(), home.password("kafka")) | {"log.dirs": "/var/lib/kafka/data"}
    native["listeners"] = native["listeners"].replace("CLIENT://127.0.0.1", "CLIENT://0.0.0.0")
    inside = {name: value for name, value in filled["kafka"]["environment"].items() if name != "KAFKA_HEAP_OPTS"}
    assert inside == {f"KAFKA_{name.replace('.', '_').upper()}": value for name, value in native.items()}


def test_postgres_is_configured_as_the_native_one(filled: dict[str, Any], home: Home) -> None:
    """Setting for setting, user, database and password."""
    program, *flags = filled["postgres"]["command"]
    assert (program, flags) == ("postgres", [f"--{name}={value}" for name, value in postgres.SETTINGS.items()])
    who = filled["postgres"]["environment"]
    assert (who["POSTGRES_USER"], who["POSTGRES_DB"]) == (postgres.USER, postgres.DATABASE)
    assert who["POSTGRES_PASSWORD"] == home.password("postgres")


def test_kafka_is_the_same_release_as_the_jars(filled: dict[str, Any]) -> None:
    """The pom and the image move together, and so does Postgres."""
    pom = (Path(kafka.__file__).parent / "pom.xml").read_text()
    assert f"<kafka.version>{filled['kafka']['image'].rpartition(':')[2]}</kafka.version>" in pom
    assert f"<postgres.version>{filled['postgres']['image'].rpartition(':')[2]}.0</postgres.version>" in pom


def test_a_home_is_a_project_of_its_own(home: Home) -> None:
    """Two clones do not stop each other's containers, and passwords do not stand in the arguments."""
    words = compose.command(home)
    assert words[:3] == ["docker", "compose", f"--project-name=eda-{home.token}"]
    assert words[3:] == [f"--file={FILE}", f"--env-file={home.path / 'compose.env'}"]
    assert home.password("kafka") not in " ".join(words)


def test_up_starts_what_is_missing_and_waits(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka is healthy already; only Postgres is started, and asked whether it answers."""
    ran: list[list[str]] = []
    running = '{"Service":"kafka","State":"running","Health":"healthy"}\n{"Service":"postgres","State":"exited","ExitCode":1}\n'

    def run(words: list[str], *, check: bool = True) -> str:
        ran.append(words[5:])
        return running if "ps" in words else ""

    asked: list[str] = []
    monkeypatch.setattr(compose, "_run", run)
    monkeypatch.setattr(postgres.Postgres, "probe", lambda _, url: asked.append(url))
    said: list[str] = []
    compose.up(SERVICES.values(), home, owned=False, say=said.append)
    assert ran[-1] == ["up", "--detach", "--wait", "--wait-timeout=180", "postgres"]
    assert asked == [compose.url(SERVICES["postgres"], home)]
    assert said[0] == "kafka is up already at 127.0.0.1:21001"


def test_down_removes_the_containers_and_keeps_the_volumes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data outlives the containers."""
    ran: list[list[str]] = []

    def run(words: list[str], *, check: bool = True) -> str:
        ran.append(words[5:])
        return ""

    monkeypatch.setattr(compose, "_run", run)
    compose.down(SERVICES.values(), home, everything=True)
    assert ran[-1] == ["down"]
