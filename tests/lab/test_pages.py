"""The links to web pages: made from what runs, and without a password in anything that is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from reference.lab.pages import Pages
from reference.stack import Endpoints, Page, ports

if TYPE_CHECKING:
    from playwright.sync_api import Page as BrowserPage

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
OURS = {"rabbitmq": Page("http://127.0.0.1:15674/", "lab", "geheim")}
ELSEWHERE = {"rabbitmq": Page("https://rabbit.example/", "me", "geheim")}


def test_what_runs_is_linked(stack: Endpoints) -> None:
    """RabbitMQ's page, by its port for the proxy and as text by its address; the others have no page, and are not named."""
    port = int(parse_qs(urlsplit(stack.rabbitmq).query)["management"][0])
    pages = Pages.of_stack()
    assert pages.links == [{"name": "rabbitmq", "address": f"http://127.0.0.1:{port}/", "port": port, "user": "lab"}]
    assert repr(pages) == f"rabbitmq: http://127.0.0.1:{port}/ as lab, whose password is in the URL of: eda status --json"


def test_a_notebook_keeps_no_password(stack: Endpoints) -> None:
    """Neither in the cell's output nor in the widget's state; the browser is told it when it asks, and nobody else's."""
    password = urlsplit(stack.rabbitmq).password
    pages, said = Pages.of_stack(), list[Any]()
    assert password
    kept = [*pages._repr_mimebundle_(), pages.get_state()]
    assert "rabbitmq" in json.dumps(kept)
    assert password not in json.dumps(kept)
    pages.send = said.append
    pages._handle_custom_msg({"show": "kafka"}, [])
    pages._handle_custom_msg({"show": "rabbitmq"}, [])
    assert said == [{"show": "rabbitmq", "password": password}]


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is named yet by the environment, and nothing else counts."""
    for name in ("EDA_KAFKA_URL", "EDA_RABBITMQ_URL", "EDA_PUBSUB_URL", "EDA_POSTGRES_DSN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EDA_BACKEND", "env")


@pytest.mark.usefixtures("outside")
def test_what_does_not_run_is_left_out() -> None:
    """With the reason, and the command that brings it."""
    pages = Pages.of_stack()
    assert (pages.links, repr(pages)) == ([], "rabbitmq is not running: eda up rabbitmq")


@pytest.mark.usefixtures("outside")
def test_a_page_that_does_not_answer_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker may run without its management plugin, or have it at another port: the one that was asked is named."""
    port = ports.spare()
    monkeypatch.setenv("EDA_RABBITMQ_URL", f"amqp://me:geheim@127.0.0.1:1/?management={port}")
    pages = Pages.of_stack()
    assert pages.links == []
    assert repr(pages).startswith(f"rabbitmq has no page that answers at http://127.0.0.1:{port}/: ")
    assert "refused" in repr(pages)


def test_a_page_elsewhere_is_linked_as_it_is() -> None:
    """No proxy of ours leads there."""
    assert Pages(ELSEWHERE).links == [{"name": "rabbitmq", "address": "https://rabbit.example/", "port": None, "user": "me"}]


HTML = """<!doctype html><meta charset=utf-8>{config}<body {body}><div id=pages></div><script type=module>
const state = {state}, heard = {{}};
window.sent = [];
window.told = (message) => heard["msg:custom"](message);
const on = (name, act) => {{ heard[name] = act; }};
const model = {{ get: (name) => state[name], on, off() {{}}, send: (message) => window.sent.push(message) }};
const pages = await import(URL.createObjectURL(new Blob([{script}], {{ type: "text/javascript" }})));
pages.default.render({{ model, el: document.getElementById("pages") }});
</script>"""


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserPage]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    playwright = pytest.importorskip("playwright.sync_api")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium.new_page()
        chromium.close()


def put(browser: BrowserPage, pages: Pages, *, config: str = "", body: str = "") -> None:
    state = {"links": pages.links, "missing": pages.missing}
    told = f'<script id="jupyter-config-data" type="application/json">{config}</script>' if config else ""
    browser.set_content(HTML.format(config=told, body=body, state=json.dumps(state), script=json.dumps(pages._esm)))
    browser.locator(".eda-pages li").first.wait_for()


@pytest.mark.parametrize(
    ("config", "body", "expected"),
    [
        ('{"baseUrl": "/", "edaProxy": "eda/proxy"}', "", "/eda/proxy/15674/"),
        ('{"baseUrl": "/"}', "", "/proxy/15674/"),
        ('{"baseUrl": "/user/me/"}', "", "/user/me/proxy/15674/"),
        ("", 'data-base-url="/user/me"', "/user/me/proxy/15674/"),
        ("", "", "http://127.0.0.1:15674/"),
    ],
)
def test_a_link_leads_through_the_server_it_is_on(browser: BrowserPage, config: str, body: str, expected: str) -> None:
    """JupyterLab's, JupyterHub's and Binder's, the classic notebook's; where no Jupyter serves the page, to this machine."""
    put(browser, Pages(OURS), config=config, body=body)
    assert browser.locator("a").get_attribute("href") == expected
    assert ("http://127.0.0.1:15674/" in browser.locator("li").inner_text()) == (expected != "http://127.0.0.1:15674/")


def test_a_link_elsewhere_stays_and_reasons_are_read(browser: BrowserPage) -> None:
    """What is left out is told in the same list."""
    put(browser, Pages(ELSEWHERE, ["kafka is not running"]), config='{"baseUrl": "/"}')
    assert browser.locator("a").get_attribute("href") == "https://rabbit.example/"
    assert browser.locator("li.missing").inner_text() == "kafka is not running"


def test_the_password_comes_when_it_is_asked_for(browser: BrowserPage) -> None:
    """By click or by keyboard; until then the page does not hold it."""
    put(browser, Pages(OURS), config='{"baseUrl": "/"}')
    assert "geheim" not in browser.content()
    button = browser.get_by_role("button", name="show the password of rabbitmq")
    button.focus()
    browser.keyboard.press("Enter")
    assert browser.evaluate("window.sent") == [{"show": "rabbitmq"}]
    browser.evaluate("window.told({show: 'rabbitmq', password: 'geheim'})")
    assert browser.locator(".password").inner_text() == "geheim"
    assert button.count() == 0
