"""What a person sees and does: the board's script in a real Chromium, with a model that only remembers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from reference.evidence.history import History, Record
from reference.live.board import Board

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytest.importorskip("playwright")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

PAGE = """<!doctype html><meta charset=utf-8><style>{css}</style>
<body style="margin:0{paper}"><div id=board></div><script type=module>
const state = {state}, heard = {{}};
window.sent = [];
window.show = (frame) => {{ state.frame = frame; heard["change:frame"](); }};
const on = (name, act) => {{ heard[name] = act; }};
const model = {{ get: (name) => state[name], on, off() {{}}, send: (message) => window.sent.push(message) }};
const board = await import(URL.createObjectURL(new Blob([{script}], {{ type: "text/javascript" }})));
board.default.render({{ model, el: document.getElementById("board") }});
</script>"""


@pytest.fixture
def frame(make_orders: Callable[..., list[Record]]) -> dict[str, Any]:
    with Board(History(make_orders(12))) as board:
        pass
    return dict(board.frame) | {"live": True}


@pytest.fixture
def page() -> Iterator[Page]:
    from playwright.sync_api import sync_playwright  # only where there is a browser

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser.new_page(viewport={"width": 960, "height": 600})
        browser.close()


def put(page: Page, frame: dict[str, Any], *, paper: str = "") -> list[str]:
    """Show the frame; returns the list in which errors of the page collect."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    board = Board(History(), title="Outbox", faults={"kill relay": lambda: None})
    state = {"frame": frame, "title": board.title, "faults": board.faults, "palettes": board.palettes}
    theme = f";--jp-layout-color0:{paper}" if paper else ""
    page.set_content(PAGE.format(css=board._css, paper=theme, state=json.dumps(state), script=json.dumps(board._esm)))
    page.locator(".eda-board canvas[aria-label]").wait_for()
    return errors


def pixel(page: Page, x: int, y: int) -> list[int]:
    script = "([x, y]) => [...document.querySelector('canvas').getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3)"
    return list(page.evaluate(script, [x, y]))


def test_it_paints_and_says_the_verdict(page: Page, frame: dict[str, Any]) -> None:
    """The canvas is painted without an error, and its label is the verdict for those who do not see it."""
    errors = put(page, frame)
    label, sign = page.locator("canvas").get_attribute("aria-label"), pixel(page, 33, 29)
    assert (label, sign, errors) == (frame["label"], [0, 158, 115], [])


@pytest.mark.parametrize(("paper", "expected"), [("#ffffff", [255, 255, 255]), ("#111111", [17, 17, 17])])
def test_its_ground_is_jupyterlabs(page: Page, frame: dict[str, Any], paper: str, expected: list[int]) -> None:
    """In JupyterLab the board stands on the theme's own ground, light or dark."""
    put(page, frame, paper=paper)
    assert pixel(page, 3, 3) == expected


def test_pointing_at_a_mark_tells_its_story(page: Page, frame: dict[str, Any]) -> None:
    """Pointing at a mark opens its event's story; moving away closes it."""
    put(page, frame)
    x, y, *_ = json.loads(frame["hits"])[0]
    corner = page.locator("canvas").bounding_box() or {"x": 0, "y": 0}
    page.mouse.move(corner["x"] + x + 6, corner["y"] + y + 10)
    story = page.locator(".story")
    told = "order-0 #1 · applied 0.000 s committed 0.001 s published 0.002 s delivered to billing 0.003 s applied by billing"
    assert " ".join(story.inner_text().split()) == told
    page.mouse.move(1, 1)
    assert story.is_hidden()


def test_the_keyboard_reaches_marks_and_buttons(page: Page, frame: dict[str, Any]) -> None:
    """Arrow keys walk over the marks, and the tab key goes on to the fault buttons."""
    put(page, frame)
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator(".story b").inner_text() == "order-0 #2 · applied"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("window.sent") == [{"fault": "kill relay"}]


def test_buttons_rest_when_the_block_has_ended(page: Page, frame: dict[str, Any]) -> None:
    """The last frame says that nothing is live any more, and the buttons cannot be pressed."""
    put(page, frame)
    button = page.get_by_role("button", name="kill relay")
    assert button.is_enabled()
    page.evaluate("frame => window.show(frame)", frame | {"live": False})
    page.wait_for_function("document.querySelector('button').disabled")


def test_a_frame_without_stories_keeps_the_last_ones(page: Page, frame: dict[str, Any]) -> None:
    """Most frames of a moving board come without stories; pointing still works."""
    put(page, frame)
    page.evaluate("frame => window.show(frame)", {name: value for name, value in frame.items() if name != "hits"})
    page.locator("canvas").press("ArrowRight")
    assert page.locator(".story").is_visible()
