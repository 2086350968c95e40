"""The system's Chromium, without a window, for what must be seen in a real browser, and when a notebook in it is open."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from reference.stack import StackError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["OPEN", "chromium"]

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")  # scripts/setup installs the first
FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
INSTALL: Final = "sudo apt-get install --no-install-recommends chromium"
# Of a JupyterLab that was started with --expose-app-in-browser: the notebook at this path is shown, and its kernel is idle.
OPEN: Final = """path => {
  const shown = window.jupyterapp?.shell.currentWidget?.context;
  return shown?.path === path && shown.sessionContext.session?.kernel?.status === "idle";
}"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """It ends with the block.

    Raises :class:`StackError` that says what to install where it, or Playwright, is missing, and why where it does not start.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise StackError(f"Chromium is missing; get it with: {INSTALL}")
    if find_spec("playwright") is None:
        raise StackError("Playwright, which drives Chromium, is missing; get it with: pip install playwright")
    from playwright.sync_api import Error, sync_playwright  # it takes a moment, and few want it

    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        except Error as error:
            why = error.message.partition("\n")[0].removeprefix("BrowserType.launch: ")
            raise StackError(f"Chromium does not start ({why}); see what {program} --version says") from None
        try:
            yield browser
        finally:
            browser.close()
