"""A notebook as a learner has it before them: opened in JupyterLab, run, looked at, clicked.

Every wait here has a deadline, and raises Playwright's ``TimeoutError`` or an :class:`AssertionError` when it passes.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from reference.evidence.chromium import OPEN

if TYPE_CHECKING:  # Playwright takes a moment to import
    from playwright.sync_api import ConsoleMessage, Locator, Page

__all__ = ["CHART", "STRIP", "WAIT_S", "WIDTH", "Cell", "Notebook", "Repaint"]

WIDTH = 1280
WAIT_S = 120.0  # for anything that takes a moment
RUN_S = 900.0  # for a whole lab

# A board tells its numbers in words: each change is a repaint.
WATCH = """() => {
  const cells = window.jupyterapp.shell.currentWidget.content.widgets;
  window.repaints = [];
  const note = ({ target }) => {
    if (!target.matches(".eda-board .banner")) return;
    const at = cells.findIndex((cell) => cell.node.contains(target));
    const prompt = cells[at].node.querySelector(".jp-InputPrompt").textContent;
    window.repaints.push([at, prompt.startsWith("[*]"), target.dataset.verdict]);
  };
  new MutationObserver((changes) => changes.forEach(note)).observe(
    window.jupyterapp.shell.currentWidget.content.node,
    { subtree: true, attributes: true, attributeFilter: ["data-verdict"] });
}"""
# Not awaited: what is asserted is seen while cells run.
START = """command => {
  window.ended = null;
  window.jupyterapp.commands.execute(command).then((well) => { window.ended = well; }, (error) => { window.ended = `${error}`; });
}"""
SELECT = """([index, source]) => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  notebook.deselectAll();
  notebook.activeCellIndex = index;
  notebook.activeCell.model.sharedModel.setSource(source);
}"""
COLOURS = """canvas => {
  const counts = {};
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < data.length; i += 4) {
    const colour = [0, 1, 2].map((part) => data[i + part].toString(16).padStart(2, "0")).join("");
    counts[colour] = (counts[colour] ?? 0) + 1;
  }
  return counts;
}"""
# A canvas of a board, and which part of it, as shares of its width and height; how far the mouse moves at a time, in pixels.
Place = tuple[str, float, float, float, float]
CHART: Place = (".charts", 0.05, 0.20, 1.0, 0.21)  # a line across the upper chart
STRIP: Place = (".strip", 0.10, 0.08, 0.98, 0.80)  # without the keys at its left
STEP = (4, 9)
TOLD = "story => story.hidden ? '' : story.innerText"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell as JupyterLab holds it; ``printed`` is what it wrote to stdout, and the text of what it showed."""

    index: int
    is_code: bool
    source: str
    printed: str


@dataclass(frozen=True, slots=True)
class Repaint:
    """A board in the cell ``at`` shows other numbers, ``running`` while that cell runs."""

    at: int
    running: bool
    label: str


class Notebook:
    """``path`` under the server that answers at ``url``, in a tab of its own; ``complaints`` are the page's errors so far."""

    def __init__(self, page: Page, url: str, path: str) -> None:
        self.page, self.path = page, path
        self.complaints: list[str] = []
        page.set_default_timeout(WAIT_S * 1000)
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        server = urlsplit(url)
        page.goto(f"{server.scheme}://{server.netloc}/lab/tree/{path}?{server.query}&reset", wait_until="domcontentloaded")
        page.wait_for_function(OPEN, arg=path)
        page.evaluate("window.jupyterapp.restored.then(() => true)")
        page.evaluate(WATCH)

    def run_all(self) -> None:
        """Run ▸ Run All Cells, to the end; ``AssertionError`` when a cell raised."""
        self.start("notebook:run-all-cells")
        self.wait(RUN_S)

    def run(self, cell: int, source: str) -> None:
        """Write ``source`` into the cell and start it; it runs when this returns."""
        self.page.evaluate(SELECT, [cell, source])
        self.start("notebook:run-cell")

    def start(self, command: str) -> None:
        self.page.evaluate(START, command)

    def wait(self, within_s: float = WAIT_S, *, well: bool = True) -> None:
        """Until what was started has ended, and then as told: well, or not."""
        self.page.wait_for_function("window.ended !== null", timeout=within_s * 1000)
        ended = self.page.evaluate("window.ended")
        assert ended is well, f"it ended with {ended}: {self.alarms()}"

    def do(self, command: str, **arguments: Any) -> None:
        """A command of JupyterLab's palette, to its end."""
        self.page.evaluate("([command, words]) => window.jupyterapp.commands.execute(command, words)", [command, arguments])

    def cells(self) -> list[Cell]:
        told = self.page.evaluate("window.jupyterapp.shell.currentWidget.content.model.toJSON().cells")
        return [Cell(at, cell["cell_type"] == "code", _text(cell["source"]), _printed(cell)) for at, cell in enumerate(told)]

    def repaints(self) -> list[Repaint]:
        return [Repaint(*seen) for seen in self.page.evaluate("window.repaints")]

    def alarms(self) -> list[str]:
        """What cells show in red: errors, and whatever was written to stderr."""
        kinds = ("application/vnd.jupyter.error", "application/vnd.jupyter.stderr")
        return self._shown.locator(", ".join(f"[data-mime-type='{kind}']" for kind in kinds)).all_inner_texts()

    def cell(self, at: int) -> Locator:
        return self._shown.locator(".jp-Cell").nth(at)

    def board(self, at: int) -> Locator:
        """The board in that cell; while it stands beside the notebook, the one there."""
        here = self.cell(at).locator(".eda-board")
        return self.docked if here.count() and "apart" in (here.get_attribute("class") or "") else here

    @property
    def docked(self) -> Locator:
        """The board beside the notebook."""
        return self.page.locator(".jupyterlab-sidecar .eda-board")

    def boards(self) -> set[int]:
        """The cells that show one."""
        return {cell.index for cell in self.cells() if cell.is_code and self.cell(cell.index).locator(".eda-board").count()}

    def label(self, at: int) -> str:
        """What that cell's board says: its sentence and its counts."""
        banner = self.cell(at).locator(".eda-board .banner")
        return f"{banner.locator('p').inner_text()}. {banner.get_attribute('data-verdict')}"

    def labels(self, at: int) -> dict[str, str]:
        """By title, the counts of each of the boards in that cell."""
        boards = self.cell(at).locator(".eda-board").all()
        return {one.locator("h4").inner_text(): one.locator(".banner").get_attribute("data-verdict") or "" for one in boards}

    def bars(self, at: int | None = None) -> Locator:
        """What shows how far a wait is, in that cell or anywhere in the notebook."""
        return (self._shown if at is None else self.cell(at)).locator("progress")

    def breaks(self, selector: str) -> set[tuple[str, str]]:
        """How lines are broken in these elements of the notebook: CSS's white-space and word-break."""
        style = "all => all.map((one) => getComputedStyle(one)).map((style) => [style.whiteSpace, style.wordBreak])"
        return {(space, word) for space, word in self._shown.locator(selector).evaluate_all(style)}

    def point(self, at: int, title: str, where: Place) -> str:
        """Move the mouse over a place of that cell's board until a story with this title, a pattern, opens; the story's words."""
        board, deadline = self.board(at), time.monotonic() + WAIT_S
        story = board.locator(".story")
        board.locator(where[0]).scroll_into_view_if_needed()
        while time.monotonic() < deadline:
            for x, y in _points(board.locator(where[0]), where):
                self.page.mouse.move(x, y)
                told = " ".join(story.evaluate(TOLD).split())
                if re.match(title, told):
                    return told
        raise AssertionError(f"pointing at the board in cell {at} tells no story that begins with {title!r}")

    def colours(self, at: int) -> Counter[str]:
        """How many pixels of the strip of that cell's board have which colour, as ``#rrggbb``."""
        return Counter({f"#{colour}": count for colour, count in self.board(at).locator(".strip").evaluate(COLOURS).items()})

    @property
    def _shown(self) -> Locator:
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook")

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} ({message.location['url']})")


def _points(canvas: Locator, where: Place) -> Iterator[tuple[float, float]]:
    _, left, top, right, bottom = where
    box = canvas.bounding_box()
    assert box, "there is no such board"
    for y in range(int(top * box["height"]), int(bottom * box["height"]), STEP[1]):
        for x in range(int(left * box["width"]), int(right * box["width"]), STEP[0]):
            yield box["x"] + x, box["y"] + y


def _text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


def _printed(cell: dict[str, Any]) -> str:
    outputs = cell.get("outputs", [])
    return "\n".join(_text(output.get("text", output.get("data", {}).get("text/plain", ""))) for output in outputs)
