from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPCookieProcessor, Request, build_opener

import nbformat
import pika
import pytest
from nbformat.sign import NotebookNotary

from reference.stack import Endpoints, StackError, ports
from reference.stack.catalog import SERVICES
from reference.stack.jupyter import Launch, launch, serve
from reference.stack.proxied import PLACE

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a person has arranged, and trusted, is neither seen nor changed."""
    monkeypatch.setenv("JUPYTERLAB_WORKSPACES_DIR", str(tmp_path / "workspaces"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def server() -> Iterator[Launch]:
    ready = launch(port=ports.spare(), browser=False)
    process = subprocess.Popen(ready.argv, env=ready.environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield ready
    process.terminate()
    process.wait(30)


def get(url: str, within_s: float = 60) -> int:
    deadline = time.monotonic() + within_s
    while True:
        try:
            with urllib.request.urlopen(url) as answer:  # noqa: S310  # our own server
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            return refused.code
        except urllib.error.URLError:
            assert time.monotonic() < deadline, "JupyterLab does not answer"
            time.sleep(0.1)


def test_the_printed_url_opens_the_labs(server: Launch) -> None:
    """With its token; without it nobody reads a file."""
    assert get(server.url) == 200
    assert get(f"http://{urlsplit(server.url).netloc}/api/contents") == 403


@pytest.mark.parametrize("place", ["proxy", PLACE])
def test_rabbitmqs_page_is_behind_the_token(server: Launch, stack: Endpoints, place: str) -> None:
    """Whoever opened the labs asks it through the proxy, with its user; a stranger who knows the user is sent to log in."""
    get(server.url)
    page = SERVICES["rabbitmq"].page(stack.rabbitmq)
    assert page is not None
    where = f"http://{urlsplit(server.url).netloc}/{place}/{urlsplit(page.address).port}/api/overview"
    user = {"Authorization": f"Basic {base64.b64encode(f'{page.user}:{page.password}'.encode()).decode()}"}
    stranger, learner = (build_opener(HTTPCookieProcessor()) for _ in range(2))
    with stranger.open(Request(where, headers=user)) as answer:
        assert urlsplit(answer.url).path == "/login"
    learner.open(server.url).close()  # as a browser does; from then on its cookie lets it in
    with learner.open(Request(where, headers=user)) as answer:
        assert json.load(answer)["node"] == "lab@localhost"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        learner.open(where)


@pytest.fixture
def queue(stack: Endpoints) -> Iterator[str]:
    """The name of one, with a letter in it that no address can have, and one message."""
    with pika.BlockingConnection(pika.URLParameters(stack.rabbitmq.partition("?")[0] + "%2F")) as connection:
        channel = connection.channel()
        channel.queue_declare(name := f"looked at {uuid.uuid4().hex[:8]}")
        channel.basic_publish("", name, b"one")
        yield name
        channel.queue_delete(name)


def test_a_person_looks_at_a_queue(server: Launch, stack: Endpoints, queue: str) -> None:
    """From the labs' own page, through the place that it is told of: logs in, sees the overview, and opens the queue."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")
    playwright = pytest.importorskip("playwright.sync_api")
    page = SERVICES["rabbitmq"].page(stack.rabbitmq)
    assert page is not None
    get(server.url)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        looking = browser.new_page()
        looking.set_default_timeout(60_000)
        looking.goto(server.url, wait_until="commit")
        place = looking.evaluate("JSON.parse(document.getElementById('jupyter-config-data').textContent).edaProxy")
        refused: list[str] = []
        looking.on("response", lambda answer: refused.append(answer.url) if answer.status >= 400 else None)
        looking.goto(f"http://{urlsplit(server.url).netloc}/{place}/{urlsplit(page.address).port}/")
        looking.locator("[name=username]").fill(page.user)
        looking.locator("[name=password]").fill(page.password)
        looking.get_by_role("button", name="Login").click()
        looking.get_by_role("link", name="Queues", exact=True).click()
        looking.locator("#queues-name").fill(queue)  # a page of queues has room for a hundred
        looking.locator("#queues-name").press("Enter")
        looking.get_by_role("link", name=queue).click()
        looking.get_by_role("heading", name=f"Queue {queue}").wait_for()
        browser.close()
    assert refused == []


SERVES = """
import sys
from reference.stack.jupyter import launch, serve
sys.exit(serve(launch(port=int(sys.argv[1]), browser=False), say=lambda words: print(words, flush=True)))
"""


@pytest.fixture
def serving() -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", SERVES, str(ports.spare())]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    yield process
    process.kill()
    process.communicate(timeout=60)


def printed_url(serving: subprocess.Popen[str]) -> str:
    assert serving.stdout is not None
    return next(line.strip() for line in serving.stdout if "http" in line)


def test_the_address_is_printed_when_it_answers(serving: subprocess.Popen[str]) -> None:
    """Whoever clicks it at once finds the labs; a request to end ends JupyterLab, and its exit code is ours."""
    url = printed_url(serving)
    assert get(url, within_s=0) == 200
    serving.terminate()
    assert serving.wait(60) in (0, 128 + signal.SIGTERM)
    assert ports.is_free(urlsplit(url).port or 0)


def test_it_ends_with_the_one_who_started_it(serving: subprocess.Popen[str], eventually: Callable[..., Any]) -> None:
    """Even by SIGKILL: no server is left that nobody knows the token of."""
    port = urlsplit(printed_url(serving)).port or 0
    serving.kill()
    eventually(lambda: ports.is_free(port), within_s=60)


def test_a_server_that_ends_at_once_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its exit code; no address is printed."""
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)  # this process keeps its own
    said: list[str] = []
    ready = Launch((sys.executable, "-c", "raise SystemExit(3)"), os.environ, f"http://127.0.0.1:{ports.spare()}/lab")
    with pytest.raises(StackError, match="JupyterLab ended with exit code 3 before it answered"):
        serve(ready, say=said.append)
    assert said == []


def test_the_pictures_of_a_lab_are_shown_before_it_was_run() -> None:
    """Its notebook is trusted as it is; one that somebody sent is not."""
    launch(port=ports.spare(), browser=False)
    notary, (lab, *_) = NotebookNotary(), sorted((ROOT / "labs").glob("*.ipynb"))
    notebook = nbformat.read(lab, as_version=4)
    assert notary.check_signature(notebook)
    notebook.cells[1].source += "\n# and something else"
    assert not notary.check_signature(notebook)


def test_what_somebody_has_arranged_stays(own_jupyter: Path) -> None:
    """The workspace of the labs is made once; a later start leaves in it whatever is there by then."""
    launch(port=ports.spare(), browser=False)
    (made,) = (own_jupyter / "workspaces").iterdir()
    arranged = json.loads(made.read_text())
    assert arranged["data"]["layout-restorer:data"]["left"]["collapsed"]
    arranged["data"]["layout-restorer:data"]["left"]["collapsed"] = False
    made.write_text(json.dumps(arranged))
    launch(port=ports.spare(), browser=False)
    assert json.loads(made.read_text()) == arranged


def test_the_token_stands_where_nobody_looks() -> None:
    """Other users can read arguments; the server listens on loopback only."""
    ready = launch(port=ports.spare(), browser=False)
    assert ready.environment["JUPYTER_TOKEN"] not in " ".join(ready.argv)
    assert "--ServerApp.ip=127.0.0.1" in ready.argv
    assert ready.environment["JUPYTER_TOKEN"] not in repr(ready)


def test_root_is_allowed_only_when_it_is_root() -> None:
    """A container runs as root; a laptop does not."""
    assert ("--allow-root" in launch(port=ports.spare(), browser=False).argv) == (os.geteuid() == 0)


def test_a_taken_port_is_answered_with_a_free_one() -> None:
    """Whose it is, and the command that works."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(StackError, match=rf"port {taken} is taken by .*pid {os.getpid()}.*make lab PORT=\d+"):
            launch(port=taken, browser=True)
