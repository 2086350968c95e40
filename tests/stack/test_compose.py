"""The compose file and the native stack are the same stack; there is no engine here to run the file on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from reference.stack import compose, kafka, postgres, pubsub, rabbitmq
from reference.stack.catalog import SERVICES
from reference.stack.home import Home

FILE = Path(__file__).parents[2] / "docker-compose.yml"
HOLE = re.compile(r"\$\{(\w+)(?::[-?][^}]*)?\}")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.open(tmp_path)
    names = [name for service in SERVICES.values() for name in service.ports]
    home.remember_ports({name: 21001 + place for place, name in enumerate(names)})
    return home


@pytest.fixture
def whole(home: Home) -> dict[str, Any]:
    """The file as compose sees it, its holes filled from the environment file."""
    values = compose.environment(SERVICES.values(), home)
    parsed: dict[str, Any] = yaml.safe_load(HOLE.sub(lambda hole: values[hole[1]], FILE.read_text()))
    return parsed


@pytest.fixture
def filled(whole: dict[str, Any]) -> dict[str, Any]:
    services: dict[str, Any] = whole["services"]
    return services


def validate(file: Path) -> subprocess.CompletedProcess[str]:
    """Against the Compose specification's JSON schema, which the checker carries with it."""
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_the_file_is_what_the_compose_specification_allows() -> None:
    """Every key at its place and of its type: an engine would start it."""
    said = validate(FILE)
    assert said.returncode == 0, said.stdout


def test_a_misspelt_key_would_be_seen(tmp_path: Path) -> None:
    """The check above can fail."""
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(FILE.read_text().replace("mem_limit:", "memory_limit:"))
    said = validate(wrong)
    assert said.returncode == 1
    assert "'memory_limit' was unexpected" in said.stdout


def test_every_service_is_in_the_file(filled: dict[str, Any]) -> None:
    """One catalogue, two ways to run it."""
    assert set(filled) == set(SERVICES)


def test_images_are_pinned_to_a_release(filled: dict[str, Any]) -> None:
    """Two machines run the same brokers."""
    assert all(re.fullmatch(r"[\w./-]+:\d+\.\d+(\.\d+)?(-[a-z]+)?", service["image"]) for service in filled.values())


def test_only_loopback_is_published(filled: dict[str, Any]) -> None:
    """Nobody in the café reaches the broker."""
    assert all(port.startswith("127.0.0.1:") for service in filled.values() for port in service["ports"])


def test_every_service_is_watched_bounded_and_kept(filled: dict[str, Any]) -> None:
    """A health check to wait for, a limit on memory, a volume that outlives the container."""
    for name, service in filled.items():
        assert service["healthcheck"]["test"]
        assert service["mem_limit"]
        assert service.get("volumes") or name == "pubsub"  # which keeps nothing, here or natively


def test_every_named_volume_is_declared_and_used(whole: dict[str, Any]) -> None:
    """Data goes where `docker volume ls` shows it."""
    used = {volume.partition(":")[0] for service in whole["services"].values() for volume in service.get("volumes", [])}
    assert used == set(whole["volumes"])


def test_the_ports_of_the_home_are_published(filled: dict[str, Any], home: Home) -> None:
    """A client's URL is the same on both backends; only Kafka's controller, which no client asks, is not published."""
    published = {int(port.split(":")[1]) for service in filled.values() for port in service["ports"]}
    assert published == {port for name, port in home.ports().items() if name != "kafka-controller"}


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


def test_rabbitmq_is_configured_as_the_native_one(whole: dict[str, Any], home: Home) -> None:
    """Setting for setting, plugins and user; only where it listens differs in a container."""
    files = {name: config["content"] for name, config in whole["configs"].items()}
    inside = dict(line.split(" = ", 1) for line in files["rabbitmq-settings"].splitlines())
    native = rabbitmq.configuration({"rabbitmq": 5672, "rabbitmq-management": 15672}, home.password("rabbitmq"))
    assert inside == {name: value.replace("127.0.0.1", "0.0.0.0") for name, value in native.items()}  # noqa: S104
    assert (files["rabbitmq-advanced"], files["rabbitmq-plugins"]) == (rabbitmq.ADVANCED, rabbitmq.PLUGINS)
    service = whole["services"]["rabbitmq"]
    assert {entry["source"] for entry in service["configs"]} == set(files)
    assert service["environment"] == {
        "RABBITMQ_NODENAME": rabbitmq.NODE,
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": rabbitmq.SCHEDULERS,
    }


def test_rabbitmq_has_room_above_its_watermark(filled: dict[str, Any]) -> None:
    """It makes publishers wait before the container's limit would kill it."""
    assert rabbitmq.SETTINGS["vm_memory_high_watermark.absolute"] == "512MiB"
    assert filled["rabbitmq"]["mem_limit"] == "1g"


def test_the_emulator_is_started_as_the_native_one(filled: dict[str, Any]) -> None:
    """The same project, the same Java."""
    assert f"--project={pubsub.PROJECT}" in filled["pubsub"]["command"]
    assert filled["pubsub"]["environment"]["JAVA_TOOL_OPTIONS"].split() == list(pubsub.JVM)


def test_kafka_is_the_same_release_as_the_jars(filled: dict[str, Any]) -> None:
    """The pom and the image move together, and so does Postgres."""
    pom = (Path(kafka.__file__).parent / "pom.xml").read_text()
    assert f"<kafka.version>{filled['kafka']['image'].rpartition(':')[2]}</kafka.version>" in pom
    assert f"<postgres.version>{filled['postgres']['image'].rpartition(':')[2]}.0</postgres.version>" in pom


def test_rabbitmq_is_a_4_with_its_management_api(filled: dict[str, Any]) -> None:
    """Distributions carry 3.10 to 4.0: what both promise is what the labs use."""
    assert re.fullmatch(r"rabbitmq:4\.\d+\.\d+-management", filled["rabbitmq"]["image"])


def test_a_home_is_a_project_of_its_own(home: Home) -> None:
    """Two clones do not stop each other's containers, and passwords do not stand in the arguments."""
    words = compose.command(home)
    assert words[:3] == ["docker", "compose", f"--project-name=eda-{home.token}"]
    assert words[3:] == [f"--file={FILE}", f"--env-file={home.path / 'compose.env'}"]
    assert home.password("kafka") not in " ".join(words)


def test_up_starts_what_is_missing_and_waits(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three are healthy already; only Postgres is started, and asked whether it answers."""
    ran: list[list[str]] = []
    healthy = [f'{{"Service":"{name}","State":"running","Health":"healthy"}}' for name in SERVICES if name != "postgres"]
    running = "\n".join([*healthy, '{"Service":"postgres","State":"exited","ExitCode":1}'])

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
    """Data outlives the containers, until it is to be forgotten."""
    ran: list[list[str]] = []

    def run(words: list[str], *, check: bool = True) -> str:
        ran.append(words[5:])
        return ""

    monkeypatch.setattr(compose, "_run", run)
    compose.down(SERVICES.values(), home, everything=True)
    assert ran[-1] == ["down"]
    compose.remove_volumes(home)
    assert ran[-1] == ["down", "--volumes"]


class Engine:
    """What ``docker compose`` would say of one service that runs; it remembers what it was told."""

    def __init__(self, state: str) -> None:
        self.state, self.told = state, list[list[str]]()

    def __call__(self, words: list[str], **_: bool) -> str:
        verb = words[5:]
        if verb[0] == "ps":
            return f'{{"Service":"postgres","State":"{self.state}","Health":"healthy","ExitCode":137}}'
        self.told.append(verb)
        after = {"pause": "paused", "unpause": "running", "kill": "exited", "stop": "exited"}
        self.state = after.get(verb[0], self.state)
        return ""


def engine(monkeypatch: pytest.MonkeyPatch, state: str) -> Engine:
    there = Engine(state)
    monkeypatch.setattr(compose, "_run", there)
    return there


@pytest.mark.parametrize(
    ("words", "end"),
    [
        (["kill", "--signal=SIGKILL", "postgres"], compose.kill),
        (["stop", "postgres"], lambda service, home: compose.stop(service, home, immediate=False)),
        (["kill", "--signal=SIGQUIT", "postgres"], lambda service, home: compose.stop(service, home, immediate=True)),
    ],
)
def test_an_outage_of_a_container(words: list[str], end: Any, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call of the engine, then waiting until the container has ended; a frozen one is thawed first."""
    running, frozen = engine(monkeypatch, "running"), Engine("paused")
    end(SERVICES["postgres"], home)
    assert running.told == [words]
    monkeypatch.setattr(compose, "_run", frozen)
    end(SERVICES["postgres"], home)
    assert frozen.told == [["unpause", "postgres"], words]
    assert compose.states([SERVICES["postgres"]], home)[0].state == "failed"


def test_a_frozen_container_is_frozen_once_and_thawed_by_up(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine would refuse to pause twice; ``up`` asks the service before it says that it is there."""
    there, asked, said = engine(monkeypatch, "running"), list[str](), list[str]()
    monkeypatch.setattr(postgres.Postgres, "probe", lambda _, url: asked.append(url))
    service = SERVICES["postgres"]
    compose.freeze(service, home)
    compose.freeze(service, home)
    assert compose.states([service], home)[0].state == "frozen"
    compose.up([service], home, owned=False, say=said.append)
    compose.thaw(service, home)
    assert there.told == [["pause", "postgres"], ["unpause", "postgres"]]
    assert (asked, len(said)) == ([compose.url(service, home)], 1)
