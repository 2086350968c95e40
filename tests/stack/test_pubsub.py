"""The native Pub/Sub emulator: where it comes from, what it opens, and what it forgets."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import psutil
import pytest
from google.api_core.exceptions import GoogleAPICallError
from google.pubsub_v1.services.publisher import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from reference.stack import Endpoints, StackError, State, down, ports, pubsub, status, up
from reference.stack.pubsub import PubSub

ONLY = ["pubsub"]
TOPIC = "projects/lab-project/topics/kept"


@contextmanager
def client(url: str) -> Iterator[PublisherClient]:
    with grpc.insecure_channel(urlsplit(url).netloc.rpartition("@")[2]) as channel:
        yield PublisherClient(transport=PublisherGrpcTransport(channel=channel))


def state() -> State:
    return next(state for state in status() if state.name == "pubsub")


def test_it_takes_a_message(stack: Endpoints) -> None:
    """Without credentials, in the project that the URL names."""
    with client(stack.pubsub) as publisher:
        topic = publisher.create_topic(name="projects/lab-project/topics/probe-of-the-stack").name
        try:
            assert publisher.publish(topic=topic, messages=[{"data": b"v"}]).message_ids
        finally:
            publisher.delete_topic(topic=topic)


def test_nobody_there_does_not_answer() -> None:
    """A port without an emulator is no emulator."""
    with pytest.raises(GoogleAPICallError):
        PubSub().probe(f"pubsub://lab-project@127.0.0.1:{ports.spare()}")


def test_it_listens_on_loopback_only(place: Path) -> None:
    """On its port, and on one more that the kernel picks for it."""
    up(ONLY)
    listening = [c.laddr for c in psutil.Process(state().pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    assert urlsplit(up(ONLY).pubsub).port in {address.port for address in listening}


def test_it_forgets_everything_when_it_stops(place: Path, eventually: Callable[..., Any]) -> None:
    """A stop and a kill lose the topics; the address stays; killed, it stays down until it is started."""
    before = up(ONLY)
    with client(before.pubsub) as publisher:
        publisher.create_topic(name=TOPIC)
    os.kill(state().pid or 0, signal.SIGKILL)
    eventually(lambda: state().state == "failed")
    assert up(ONLY) == before
    with client(before.pubsub) as publisher:
        assert list(publisher.list_topics(project="projects/lab-project")) == []
        publisher.create_topic(name=TOPIC)
    assert down() == 1
    assert up(ONLY) == before
    with client(before.pubsub) as publisher:
        assert list(publisher.list_topics(project="projects/lab-project")) == []


def test_without_the_emulator_the_others_come_up(place: Path, without_sdk: None) -> None:
    """And the error says what is missing, and three ways to get it."""
    with pytest.raises(StackError) as failure:
        up(["postgres", "pubsub"])
    for part in (
        "the Pub/Sub emulator is missing",
        "gcloud components install pubsub-emulator",
        "google-cloud-cli-pubsub-emulator",
        "Docker",
        "EDA_PUBSUB_EMULATOR",
    ):
        assert part in str(failure.value)
    assert {state.name: state.state for state in status() if state.name in {"postgres", "pubsub"}} == {
        "postgres": "ready",
        "pubsub": "stopped",
    }


@pytest.fixture
def without_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has no Cloud SDK anywhere."""
    monkeypatch.setattr(pubsub, "_sdks", lambda: iter(()))
    monkeypatch.delenv("EDA_PUBSUB_EMULATOR", raising=False)


def test_the_newest_emulator_of_an_sdk_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0.8.20 is newer than 0.8.9; the SDK is the one whose ``gcloud`` is on the path."""
    lib = tmp_path / "sdk" / "platform" / "pubsub-emulator" / "lib"
    lib.mkdir(parents=True)
    for version in ("0.8.20", "0.8.9"):
        (lib / f"cloud-pubsub-emulator-{version}-all.jar").touch()
    (tmp_path / "sdk" / "bin").mkdir()
    (tmp_path / "sdk" / "bin" / "gcloud").touch(0o755)
    (tmp_path / "gcloud").symlink_to(tmp_path / "sdk" / "bin" / "gcloud")
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CLOUDSDK_ROOT_DIR", "CLOUDSDK_ROOT", "EDA_PUBSUB_EMULATOR"):
        monkeypatch.delenv(name, raising=False)
    assert pubsub.jar() == lib / "cloud-pubsub-emulator-0.8.20-all.jar"
    assert pubsub.release(pubsub.jar()) == "0.8.20"


def test_a_jar_that_is_named_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else there is; one that is not there is said."""
    jar = tmp_path / "emulator.jar"
    monkeypatch.setenv("EDA_PUBSUB_EMULATOR", str(jar))
    with pytest.raises(StackError, match=f"EDA_PUBSUB_EMULATOR names {jar}, and there is no such file"):
        pubsub.jar()
    jar.touch()
    assert pubsub.jar() == jar
