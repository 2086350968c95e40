"""The native RabbitMQ: whose it is, what it opens, what it keeps, and what is left of it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pika
import psutil
import pytest
from pika.exceptions import ChannelClosedByBroker

from reference.stack import Endpoints, Page, StackError, State, down, erase, rabbitmq, status, up
from reference.stack.catalog import SERVICES
from reference.stack.home import Home
from reference.stack.processes import processes
from reference.stack.rabbitmq import RabbitMQ

ONLY = ["rabbitmq"]


def client(url: str) -> pika.BlockingConnection:
    parts = urlsplit(url)
    credentials = pika.PlainCredentials(parts.username or "", parts.password or "")
    return pika.BlockingConnection(pika.ConnectionParameters(parts.hostname, parts.port, "/", credentials))


def management(url: str, path: str) -> Any:
    parts = urlsplit(url)
    asked = urllib.request.Request(f"http://127.0.0.1:{parse_qs(parts.query)['management'][0]}/api/{path}")
    asked.add_header("Authorization", f"Basic {base64.b64encode(f'{parts.username}:{parts.password}'.encode()).decode()}")
    with urllib.request.urlopen(asked) as answer:  # noqa: S310  # our own server
        return json.load(answer)


def state() -> State:
    return next(state for state in status() if state.name == "rabbitmq")


def tree(pid: int | None) -> list[psutil.Process]:
    node = psutil.Process(pid)
    return [node, *node.children(recursive=True)]


def test_the_only_user_is_the_labs(stack: Endpoints) -> None:
    """An administrator with the drawn password; ``guest``, whom everybody knows, is not there."""
    users = management(stack.rabbitmq, "users")
    assert [(user["name"], user["tags"]) for user in users] in ([("lab", ["administrator"])], [("lab", "administrator")])


def test_its_settings_are_in_force(stack: Endpoints, eventually: Callable[..., Any]) -> None:
    """Its own two files, none of the system's; the memory at which publishers wait; the exchange that keeps a key on a queue."""
    node = eventually(lambda: next((node for node in management(stack.rabbitmq, "nodes") if "mem_limit" in node), None))
    assert (node["name"], node["mem_limit"]) == ("lab@localhost", 512 * 2**20)
    assert {Path(file).name for file in node["config_files"]} == {"rabbitmq.conf", "advanced.config"}
    assert "x-consistent-hash" in {kind["name"] for kind in node["exchange_types"]}


def test_a_message_larger_than_rabbitmq_4_takes_is_refused(stack: Endpoints) -> None:
    """RabbitMQ 3 would take it: what works here works there."""
    with client(stack.rabbitmq) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        with pytest.raises(ChannelClosedByBroker, match="larger than configured max size"):
            channel.basic_publish("", "nowhere", b"x" * (16 * 2**20 + 1))


def test_wrong_credentials_do_not_answer(stack: Endpoints) -> None:
    """Neither on the one port nor on the other is a stranger's answer taken for ours."""
    wrong = stack.rabbitmq.replace(urlsplit(stack.rabbitmq).password or "", "guessed")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        RabbitMQ().probe(wrong)
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        RabbitMQ().probe(wrong.partition("?")[0])


def test_its_page_is_for_its_user(stack: Endpoints) -> None:
    """At the management API's own port, and one needs no password to see where to type it."""
    page = RabbitMQ().page(stack.rabbitmq)
    assert page is not None
    assert (page.user, page.password) == ("lab", urlsplit(stack.rabbitmq).password)
    assert page.password not in repr(page)
    with urllib.request.urlopen(page.address) as answer:  # noqa: S310  # our own server
        assert b"RabbitMQ Management" in answer.read()


def test_somebody_elses_page_is_where_the_url_says() -> None:
    """With RabbitMQ's own port and user where it says nothing; an address that nobody can read has no page."""
    pages = [RabbitMQ().page(url) for url in ("amqp://rabbit", "amqp://me:pw@rabbit/?management=https://look.example/at", "amqp://")]
    assert pages == [Page("http://rabbit:15672/", "guest", "guest"), Page("https://look.example/at/", "me", "pw"), None]


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    """One with a node of its own, started by a user who has settings for the system's node in the environment."""
    path = Path(tempfile.mkdtemp(prefix="eda-test-"))
    theirs = {"RABBITMQ_NODENAME": "rabbit@elsewhere", "RABBITMQ_NODE_PORT": "1", "RABBITMQ_MNESIA_BASE": "/nonexistent"}
    with pytest.MonkeyPatch.context() as environment:
        for service in SERVICES.values():
            environment.delenv(service.variable, raising=False)
        for name, value in {"EDA_HOME": str(path), "EDA_BACKEND": "native", "EDA_PORTS": "free", **theirs}.items():
            environment.setenv(name, value)
        try:
            up(ONLY)
            yield Home.open(path)
        finally:
            erase(home=path)
            shutil.rmtree(path, ignore_errors=True)


def test_it_opens_nothing_but_its_two_ports(home: Home) -> None:
    """On loopback: no Erlang distribution, no epmd; and its data and its cookie are in the home."""
    listening = {
        (connection.laddr.ip, connection.laddr.port)
        for process in tree(state().pid)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", port) for name, port in home.ports().items() if name.startswith("rabbitmq")}
    assert "epmd" not in {process.name() for process in processes(home)}
    assert (home.path / "rabbitmq" / "data" / "lab@localhost").is_dir()
    assert (home.path / "rabbitmq" / ".erlang.cookie").stat().st_mode & 0o077 == 0


def test_no_epmd_comes_later(home: Home) -> None:
    """Once a minute RabbitMQ has a small Erlang start one that is missing: this is that Erlang, in the node's environment."""
    starter = ["erl", "-boot", "no_dot_erlang", "-sname", "epmd-starter-1", "-noinput", "-s", "erlang", "halt"]
    subprocess.run(starter, env=psutil.Process(state().pid).environ(), check=True, capture_output=True, timeout=120)
    assert "epmd" not in {process.name() for process in processes(home)}


def test_what_was_confirmed_survives_a_stop_a_kill_and_a_move(home: Home, eventually: Callable[..., Any]) -> None:
    """A durable queue and its messages; the killed node is said to have failed, and stays down until it is started."""
    url = up(ONLY).rabbitmq
    with client(url) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("kept", durable=True, arguments={"x-queue-type": "quorum"})
        for body in (b"1", b"2"):
            channel.basic_publish("", "kept", body, pika.BasicProperties(delivery_mode=2))

    down()
    assert processes(home) == []
    taken = home.ports()["rabbitmq-management"]
    said: list[str] = []
    with socket.create_server(("127.0.0.1", taken)):
        moved = up(ONLY, say=said.append).rabbitmq
    assert said[0].startswith(f"port {taken} is taken by")
    assert urlsplit(moved).netloc == urlsplit(url).netloc
    assert moved != url
    assert take(moved) == b"1"

    node, *helpers = tree(state().pid)
    node.kill()
    eventually(lambda: state().state == "failed")
    eventually(lambda: not any(process.is_running() for process in helpers))
    assert take(up(ONLY).rabbitmq) == b"2"


def take(url: str) -> bytes:
    """The next message of the queue, for good."""
    with client(url) as connection:
        channel = connection.channel()
        frame, _, body = channel.basic_get("kept")
        channel.basic_ack(frame.delivery_tag)
        return bytes(body)


def test_a_node_killed_in_its_first_boot_boots_again(place: Path, eventually: Callable[..., Any]) -> None:
    """Half its tables are there, and nobody was told that it is up: it starts from nothing."""
    with subprocess.Popen([sys.executable, "-c", "from reference.stack import up; up(['rabbitmq'])"]) as first:
        eventually((place / "rabbitmq" / "data" / "lab@localhost" / "schema.DAT").exists, within_s=120)
        eventually(lambda: state().pid is not None)
        os.kill(state().pid or 0, signal.SIGKILL)
        assert first.wait(60) == 1
    assert [user["name"] for user in management(up(ONLY).rabbitmq, "users")] == ["lab"]


def test_a_killed_owner_leaves_nothing(place: Path, eventually: Callable[..., Any]) -> None:
    """Neither the node nor any of the small processes around it; and it had time to stop in order."""
    code = "import time; from reference.stack import up; up(['rabbitmq'], owner=True); print('up', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        everything = {*tree(state().pid), *processes(Home.open(place))}
        assert {"beam.smp", "erl_child_setup"} <= {process.name() for process in everything}
        owner.kill()
    eventually(lambda: not any(process.is_running() for process in everything), within_s=60)
    assert "SIGTERM received" in (place / "log" / "rabbitmq.log").read_text()


def test_the_wrapper_of_a_distribution_is_passed_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's stands on the path and insists on a user of its own; the server is beside what the wrapper links to."""
    for name in ("lib", "bin"):
        (tmp_path / name).mkdir()
    (tmp_path / "lib" / "rabbitmq-script-wrapper").touch(0o755)
    (tmp_path / "lib" / "rabbitmq-server").touch(0o755)
    (tmp_path / "bin" / "rabbitmq-server").symlink_to(tmp_path / "lib" / "rabbitmq-script-wrapper")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert rabbitmq.server() == tmp_path / "lib" / "rabbitmq-server"


def test_a_missing_server_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, with the command that gets it."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(rabbitmq, "DEBIAN", Path("/nonexistent/rabbitmq-server"))
    with pytest.raises(StackError, match="RabbitMQ is missing: apt-get install rabbitmq-server"):
        rabbitmq.server()


def test_the_version_is_in_the_path() -> None:
    """For ``eda doctor``; a server elsewhere has none."""
    assert rabbitmq.release(Path("/usr/lib/rabbitmq/lib/rabbitmq_server-3.10.8/sbin/rabbitmq-server")) == "3.10.8"
    assert rabbitmq.release(Path("/opt/rabbitmq/sbin/rabbitmq-server")) == ""
