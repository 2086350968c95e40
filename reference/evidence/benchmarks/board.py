"""The live board in a real JupyterLab, in a real browser: frames that are seen, how late, and what they cost.

A notebook fills a board and keeps it moving, from a thread, at a steady rate; the page notes when each frame is painted. A
frame counts as seen when the browser has shown it, and its delay runs from the moment at which the board hands it over to the
kernel until then. Source: the figures are those a person notices: below eight frames a second it jerks, and a click that is
answered within a tenth of a second feels immediate (Miller 1968).
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from reference.evidence.chromium import OPEN, chromium
from reference.evidence.progress import progress
from reference.stack import Endpoints, StackError, ports
from reference.stack.jupyter import launch
from reference.stack.step import dying_with_parent

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["measure"]

PHASES: Final = ("sleeping", "computing", "idle")
CELLS: Final = (
    "from reference.evidence.benchmarks.busy_board import Busy, throughput\nbusy = Busy()\nbusy.show()",
    "busy.sleep({seconds})",
    "busy.compute({seconds})",
    "busy.end()",
    "throughput()",
)
# One frame of the screen later it is seen.
WATCH: Final = """() => {
  window.painted = [];
  document.addEventListener("eda-board-painted", ({ detail }) => requestAnimationFrame(() =>
    window.painted.push([detail.frame, detail.at, (performance.timeOrigin + performance.now()) / 1000])));
}"""
RUN: Final = """index => {
  window.jupyterapp.shell.currentWidget.content.activeCellIndex = index;
  return window.jupyterapp.commands.execute("notebook:run-cell");
}"""
PRINTED: Final = """index => {
  const { outputs } = window.jupyterapp.shell.currentWidget.content.widgets[index].model.toJSON();
  return outputs.map(({ text, traceback }) => text ?? (traceback ?? []).join("\\n")).flat().join("");
}"""


def measure(running: Endpoints, *, seconds: float = 10.0) -> dict[str, Any]:
    """Frames a second by phase, the share of those sent that was seen, delays in ms, and CPU in ms a frame: the kernel's, and
    that of the process where its frames are composed.

    ``throughput`` is what a consumer beside the board keeps of its events a second. Each phase takes ``seconds``. Raises
    :class:`StackError` when JupyterLab, Playwright or a browser is missing.
    """
    with _notebook(running, [cell.format(seconds=seconds) for cell in CELLS]) as page, progress(5, label="board") as done:
        page.evaluate(WATCH)
        for cell in (0, 1, 2):
            page.evaluate(RUN, cell)
            done(1)
        time.sleep(seconds)  # the measurement itself: nothing runs
        page.evaluate(RUN, 3)
        told, painted = _printed(page, 3), page.evaluate("window.painted")
        done(1)
        page.evaluate(RUN, 4)
        beside = _printed(page, 4)
        done(1)
    return _figures(told, painted) | {"throughput": beside}


def _figures(told: list[tuple[str, float, int, float, float]], painted: list[tuple[int, float, float]]) -> dict[str, Any]:
    seen: dict[int, tuple[float, float]] = {}
    for frame, at, shown in painted:
        if frame and at:
            seen.setdefault(frame, (at, shown))
    figures: dict[str, Any] = {"frames a second": {}, "seen of those sent": {}}
    sent_in_all, kernel_s, composer_s = 0, 0.0, 0.0
    for (phase, begun, first, *spent), (_, ended, last, *later) in pairwise(told):
        if phase in PHASES:
            found = [frame for frame in range(first + 1, last + 1) if frame in seen]
            figures["frames a second"][phase] = round(len(found) / (ended - begun), 2)
            figures["seen of those sent"][phase] = round(len(found) / max(1, last - first), 3)
            sent_in_all += last - first
            kernel_s, composer_s = kernel_s + later[0] - spent[0], composer_s + later[1] - spent[1]
    delays = [1000 * (shown - at) for at, shown in seen.values()]
    figures["delay ms"] = {"median": round(median(delays), 1), "p95": round(quantiles(delays, n=20)[-1], 1)}
    cpu = {"kernel": kernel_s, "composer": composer_s}
    told_cpu = {f"{where} CPU ms a frame": round(1000 * spent_s / max(1, sent_in_all), 2) for where, spent_s in cpu.items()}
    return figures | told_cpu | {"frames": sent_in_all}


def _printed(page: Page, cell: int) -> Any:
    text: str = page.evaluate(PRINTED, cell)
    try:
        return json.loads(text.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise StackError(f"the notebook could not be measured: {text[-2000:]}") from None


@contextmanager
def _notebook(running: Endpoints, cells: list[str]) -> Iterator[Page]:
    """A notebook of these cells, open in JupyterLab, in a browser."""
    with tempfile.TemporaryDirectory(prefix="eda-board-") as folder:
        (Path(folder) / "board.ipynb").write_text(json.dumps(_as_notebook(cells)))
        with chromium() as browser, _jupyterlab(running, Path(folder)) as url:
            page = browser.new_page(viewport={"width": 1280, "height": 1200})
            page.set_default_timeout(300_000)
            server = urlsplit(url)
            page.goto(f"{server.scheme}://{server.netloc}/lab/tree/board.ipynb?{server.query}&reset")
            page.wait_for_function(OPEN, arg="board.ipynb")
            yield page


@contextmanager
def _jupyterlab(running: Endpoints, folder: Path) -> Iterator[str]:
    ready = launch(port=ports.spare(), browser=False, copy=folder)
    own: Mapping[str, str] = {**running.as_env(), "EDA_BACKEND": "env", "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces")}
    command = [*dying_with_parent("TERM"), *ready.argv, "--expose-app-in-browser"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env={**ready.environment, **own}, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        ready.wait(process)
        yield ready.url
    finally:
        process.terminate()
        process.wait(60)


def _as_notebook(cells: list[str]) -> dict[str, Any]:
    made: list[dict[str, Any]] = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "execution_count": None, "outputs": [], "source": source}
        for n, source in enumerate(cells)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return {"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
