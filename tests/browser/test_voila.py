"""A board on a page of Voila's, as wide as a phone: no cells, no JupyterLab around it, and everything on it can be read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest

from tests.browser.notebook import WAIT_S
from tests.live.texts import WATCH, texts

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

PHONE = {"width": 390, "height": 844}
SMALLEST = 10  # CSS pixels
EVENTS = 480
FILL = """
import threading
import time

from reference.evidence.history import History, Record
from reference.live.board import Board


def told(history, number):
    values = {"event": f"e{number}", "key": f"order-{number % 20:02}", "seq": number // 20 + 1, "group": "warehouse"}
    for op in ("commit", "publish", "deliver", "apply"):
        history.add(Record(op=op, **values))
    history.add(Record(op="lag", partition=number % 6, value=float(number % 1_000), group="warehouse"))


def fill(history, count, pause_s):
    for number in range(count):
        told(history, number)
        time.sleep(pause_s)
"""
BLOCK = f"""
past = History()
with Board(past, title="past"):
    writer = threading.Thread(target=fill, args=(past, {EVENTS}, 0.001))
    writer.start()
    writer.join()
"""
# What it commits is never delivered, so that a click is seen in words.
FOLLOWS = """
history = History()
threading.Thread(target=fill, args=(history, 1_000_000, 0.05), daemon=True).start()
faults = {"lose one": lambda: history.add(Record(op="commit", event="lost", key="k", seq=1))}
Board(history, title="now", faults=faults, follows=True)
"""

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two boards: one whose block has ended when the page opens, and one that moves as long as somebody looks."""
    path = tmp_path_factory.mktemp("notebook") / "boards.ipynb"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(source) for source in (FILL, BLOCK, FOLLOWS)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


@pytest.fixture(scope="module")
def page(notebook: Path, voila: Callable[[Path], str], chromium: Browser) -> Iterator[Page]:
    """``page.complaints`` are its errors so far. Voila's own page asks a server far away for icons, and gets none here."""
    page = chromium.new_page(viewport=PHONE, device_scale_factor=2)
    page.set_default_timeout(WAIT_S * 1000)
    page.route(re.compile(r"^https?://(?!127\.0\.0\.1)"), lambda route: route.fulfill(status=200, content_type="text/css"))
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.add_init_script(WATCH)
    page.goto(voila(notebook))
    for name in ("past", "now"):
        board(page, name).locator(".banner[data-verdict]").wait_for()
    page.complaints = complaints  # type: ignore[attr-defined]
    yield page
    page.close()


@pytest.fixture
def soon(eventually: Callable[..., None]) -> Callable[..., None]:
    """``soon(condition)``: as ``eventually``, with the time that a page takes on a busy machine."""
    return partial(eventually, within_s=WAIT_S)


def board(page: Page, name: str) -> Locator:
    return page.locator(f".eda-board[aria-label={name}]")


def committed(page: Page, name: str) -> int:
    return int((board(page, name).locator(".banner").get_attribute("data-verdict") or "").split()[1])


def test_a_block_that_has_ended_shows_its_end(page: Page) -> None:
    """Voila opens the page when all cells have run: that board stands still, and shows all that its block recorded."""
    past = board(page, "past")
    assert committed(page, "past") == EVENTS
    assert past.locator(".banner p").inner_text() == "nothing lost, each applied once, order kept"
    assert past.locator("canvas:visible").count() == 2


def test_a_board_that_follows_moves(page: Page, soon: Callable[..., None]) -> None:
    """Its numbers grow, and it is painted anew, while nobody does anything and no cell runs."""
    board(page, "now").scroll_into_view_if_needed()
    first, painted = committed(page, "now"), len(texts(page))
    soon(lambda: committed(page, "now") > first + 20 and len(texts(page)) > painted)


def test_a_click_reaches_the_kernel(page: Page, soon: Callable[..., None]) -> None:
    """A fault button does its fault, and what it did is on the board."""
    board(page, "now").get_by_role("button", name="lose one").click()
    soon(lambda: "1 not delivered yet" in board(page, "now").locator(".banner p").inner_text())


def test_nothing_is_wider_than_the_page(page: Page) -> None:
    """No part of a board goes over the right edge, and the page does not scroll sideways."""
    edges = "boards => boards.flatMap((one) => [one, ...one.querySelectorAll('*')]).map((e) => e.getBoundingClientRect().right)"
    assert max(page.locator(".eda-board").evaluate_all(edges)) <= PHONE["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_everything_can_be_read(page: Page) -> None:
    """No word, on a canvas or beside it, is smaller than ten CSS pixels."""
    sizes = "all => all.map((one) => parseFloat(getComputedStyle(one).fontSize))"
    assert min(page.locator(".eda-board, .eda-board *").evaluate_all(sizes)) >= SMALLEST
    assert [text for text in texts(page) if text.size < SMALLEST - 0.01] == []


def test_the_page_has_no_complaint(page: Page) -> None:
    """All of that without an error on the console."""
    assert page.complaints == []  # type: ignore[attr-defined]
