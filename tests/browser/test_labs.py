"""Every lab as a learner has it: Run All in a real JupyterLab, in a real browser, and the faults pressed by hand.

A lab is run once; what is asserted of that run was seen while it ran. A second lab needs no line here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reference.live import palette
from reference.stack.jupyter import Launch
from tests.browser.notebook import CHART, STRIP, WAIT_S, WIDTH, Cell, Notebook, Repaint

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LABS = sorted((Path(__file__).parents[2] / "labs").glob("*.ipynb"))
BOARD = re.compile(r"lab\.(board|play)\(")
SEVERAL = re.compile(r"\bBoards\(")
PLAY = re.compile(r"lab\.play\(seconds=\d+")
ANOTHER = re.compile(r"lab\.(begin|board|on|play)\(")  # from there on, what is printed is about another experiment
FACTS = re.compile(r"^(\w+): (committed \d.*)", re.MULTILINE)
FACT = re.compile(r"^committed \d.*", re.MULTILINE)

pytestmark = pytest.mark.timeout(1800)  # a lab runs for more than a minute, and for three times as long on a slow machine


@dataclass(frozen=True, slots=True)
class Run:
    """A lab after Run All, and what was seen of it by then."""

    notebook: Notebook
    cells: list[Cell]
    alarms: list[str]
    repaints: list[Repaint]

    @property
    def boards(self) -> list[int]:
        """The cells that are to show one."""
        return [cell.index for cell in self.cells if cell.is_code and BOARD.search(cell.source)]

    @property
    def several(self) -> list[int]:
        """The cells that are to show one for each broker."""
        return [cell.index for cell in self.cells if cell.is_code and SEVERAL.search(cell.source)]

    def fact(self, board: int) -> str | None:
        """The verdict that is printed of what this board has shown; ``None`` where none is."""
        for cell in self.cells[board + 1 :]:
            if cell.is_code and ANOTHER.search(cell.source):
                return None
            if found := FACT.search(cell.printed):
                return found[0]
        return None


@pytest.fixture(scope="module", params=LABS, ids=lambda path: path.stem)
def lab(request: pytest.FixtureRequest, chromium: Browser, jupyterlab: Launch) -> Iterator[Run]:
    page = chromium.new_page(viewport={"width": WIDTH, "height": 1000})
    notebook = Notebook(page, jupyterlab.url, f"labs/{request.param.name}")
    notebook.run_all()
    yield Run(notebook, notebook.cells(), notebook.alarms(), notebook.repaints())
    page.close()


@pytest.fixture
def soon(lab: Run, eventually: Callable[..., None], screenshots: Path) -> Callable[..., None]:
    """``soon(condition)``: as ``eventually``, with the time that a page takes on a busy machine; or it says how it looks."""

    def wait(condition: Callable[[], object]) -> None:
        try:
            eventually(condition, within_s=WAIT_S)
        except AssertionError as error:
            picture = screenshots / f"{Path(lab.notebook.path).stem}-in-vain.png"
            lab.notebook.page.screenshot(path=picture)
            error.add_note(f"{picture}; red: {lab.notebook.alarms()}; on the console: {lab.notebook.complaints}")
            raise

    return wait


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the labs are kept: in ``$EDA_SCREENSHOTS``, if that is set."""
    folder = Path(os.environ.get("EDA_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_run_all_shows_no_error(lab: Run) -> None:
    """No cell shows an error or a word on stderr, and the page's console none either: a blank notebook has none there."""
    assert (lab.alarms, lab.notebook.complaints) == ([], [])


def test_every_board_moves_while_its_cell_runs(lab: Run) -> None:
    """Each cell that is to show a board, or several, shows them, and numbers change before the cell ends."""
    cells = [*lab.boards, *lab.several]
    seen = {at: {paint.label for paint in lab.repaints if paint.at == at and paint.running} for at in cells}
    assert lab.notebook.boards() == set(seen) != set()
    assert min(map(len, seen.values())) > 1, seen


def test_the_last_frame_is_the_fact_that_is_printed(lab: Run, soon: Callable[..., None]) -> None:
    """What a board says when its cell has ended is the verdict that the notebook then prints, and nothing is "so far" in it."""
    facts = {at: fact for at in lab.boards if (fact := lab.fact(at))}
    assert facts
    for at, fact in facts.items():
        soon(lambda at=at, fact=fact: (label := lab.notebook.label(at)).endswith(fact) and "so far" not in label)


def test_several_boards_end_as_their_picture(lab: Run) -> None:
    """Each of them, under its own name, with the very counts that the picture of all has as text."""
    for at in lab.several:
        pictured = dict(FACTS.findall("\n".join(cell.printed for cell in lab.cells[at:] if cell.is_code)))
        assert pictured
        assert lab.notebook.labels(at) == pictured


def test_no_bar_stays(lab: Run) -> None:
    """What shows how far a wait is goes away with it."""
    assert lab.notebook.bars().count() == 0


def test_long_lines_break_between_words(lab: Run) -> None:
    """What is printed, code that is shown, and code to run: nothing is cut off or torn beside the board."""
    assert lab.notebook.breaks(".jp-OutputArea-output pre") == {("pre-wrap", "normal")}
    assert {space for space, _ in lab.notebook.breaks(".cm-content")} == {"break-spaces"}


def test_the_board_stands_beside_the_notebook(lab: Run) -> None:
    """One, in a place of its own, however many experiments there were; the last of them is in it."""
    assert lab.notebook.docked.count() == 1
    assert (lab.notebook.docked.locator(".banner").get_attribute("data-verdict") or "").startswith("committed")


def test_a_picture_of_the_lab_is_kept(lab: Run, screenshots: Path) -> None:
    """As a learner sees it on a small laptop, with a board in view."""
    at = max(lab.boards)
    lab.notebook.board(at).scroll_into_view_if_needed()
    lab.notebook.page.screenshot(path=screenshots / f"{Path(lab.notebook.path).stem}.png")


def test_in_a_dark_theme_boards_are_dark(lab: Run, soon: Callable[..., None]) -> None:
    """A board takes its dark palette when JupyterLab goes dark, and its light one when that goes light again."""
    at = max(lab.boards)

    def painted(colours: dict[str, str]) -> bool:
        return lab.notebook.colours(at)[colours["applied"].lower()] > 0

    try:
        lab.notebook.do("apputils:change-theme", theme="JupyterLab Dark")
        soon(lambda: painted(palette.DARK) and not painted(palette.LIGHT))
    finally:
        lab.notebook.do("apputils:change-theme", theme="JupyterLab Light")
    soon(lambda: painted(palette.LIGHT) and not painted(palette.DARK))


def test_faults_are_pressed_while_the_cell_runs(lab: Run, screenshots: Path, soon: Callable[..., None]) -> None:
    """A click breaks something at once and is seen on the time axis, a mark tells its story, a click mends it.

    The cell is stopped then, and ends with its board at rest.
    """
    notebook, play = lab.notebook, next(cell for cell in lab.cells if cell.is_code and PLAY.search(cell.source))
    board = play.index
    notebook.run(board, PLAY.sub("lab.play(seconds=1800", play.source))
    soon(lambda: notebook.docked.get_by_role("button").count())
    button = notebook.docked.get_by_role
    button("button", name="pause consumer").click()
    soon(lambda: re.search(r"\d{3,} not (delivered|applied) yet", notebook.label(board)))
    soon(lambda: notebook.docked.locator("button.holds").all_inner_texts() == ["pause consumer"])
    soon(lambda: re.search(r"seconds \d+ of 1800", " ".join(notebook.bars(board).locator("..").inner_text().split())))
    assert notebook.point(board, "pause consumer", CHART).endswith("fault")
    assert "committed" in notebook.point(board, r"order-\d+ #\d+ · ", STRIP)
    notebook.page.screenshot(path=screenshots / f"{Path(notebook.path).stem}-by-hand.png")
    button("button", name="reset").click()
    assert notebook.point(board, "reset", CHART).endswith("fault")
    soon(lambda: notebook.docked.locator("button.holds").count() == 0)
    soon(lambda: "applied twice 0 · out of order 0" in notebook.label(board))
    notebook.do("notebook:interrupt-kernel")
    notebook.wait(well=False)
    assert ["KeyboardInterrupt" in alarm for alarm in notebook.alarms()] == [True]
    soon(lambda: button("button", name="pause consumer").is_disabled())
    soon(lambda: notebook.bars().count() == 0)


def test_opening_a_lab_again_keeps_one_board(lab: Run, soon: Callable[..., None]) -> None:
    """Whoever runs the cells from the top again has one board beside the notebook, and it is the new one."""
    notebook, first = lab.notebook, next(cell for cell in lab.cells if "Lab.open(" in cell.source)
    notebook.run(first.index, first.source)
    notebook.wait()
    soon(lambda: notebook.docked.count() == 1 and "nothing committed yet" in notebook.docked.inner_text())
