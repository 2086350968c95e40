"""What nbval can not see: notebooks that would not be compared, and exercises that could not be failed."""

from __future__ import annotations

import ast
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from reference.brokers import Message
from reference.delivery import inbox, outbox
from reference.event import Event
from reference.lab import Lab
from reference.orders import handlers
from reference.stack import Endpoints

LABS = Path(__file__).parents[2] / "labs"
NOTEBOOKS = sorted(LABS.glob("*.ipynb"))
EXERCISES = {  # notebook → function in the exercise cell → (check, its solution's name)
    "1_outbox_and_inbox": {
        "run_once": ("relay", "run_once"),
        "handle": ("idempotent", "handle"),
        "choose_key": ("key", "choose_key"),
    },
}


def cells(path: Path) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def tags(cell: Any) -> set[str]:
    return set(cell.metadata.get("tags", []))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
class TestHygiene:
    def test_it_is_a_valid_notebook(self, path: Path) -> None:
        """It opens in any Jupyter."""
        nbformat.validate(nbformat.read(path, as_version=4))

    def test_every_cell_was_run_in_order(self, path: Path) -> None:
        """nbval compares nothing of a cell without a count, and says nothing of that."""
        assert [cell.execution_count for cell in cells(path)] == list(range(1, len(cells(path)) + 1))

    def test_facts_are_compared(self, path: Path) -> None:
        """Most cells that print are compared letter by letter."""
        printing = [cell for cell in cells(path) if cell.outputs]
        assert sum("nbval-ignore-output" in tags(cell) for cell in printing) < len(printing) / 3

    def test_nothing_was_written_to_stderr_and_nothing_raised(self, path: Path) -> None:
        """A learner sees no warning and no traceback that we did not mean."""
        outputs = [output for cell in cells(path) for output in cell.outputs]
        assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]

    def test_cells_are_short(self, path: Path) -> None:
        """Twenty-five lines at most, and one idea."""
        assert max(len(cell.source.splitlines()) for cell in cells(path)) <= 25

    def test_lines_fit_beside_the_board(self, path: Path) -> None:
        """On a page that is 1280 pixels wide, half of which is the board's."""
        assert max(len(line) for cell in cells(path) for line in cell.source.splitlines()) <= 62

    def test_text_between_cells_is_short(self, path: Path) -> None:
        """Eighty words at most before the next thing to do, tables, diagrams and hints not counted."""
        texts = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
        assert max(_words(text) for text in texts) <= 110

    def test_pictures_are_svg_and_the_file_is_small(self, path: Path) -> None:
        """Git and GitHub can show it: no bitmaps, no widgets without their kernel, some hundred kilobytes."""
        data = [kind for cell in cells(path) for output in cell.outputs for kind in output.get("data", {})]
        assert not {"image/png", "image/jpeg", "application/vnd.jupyter.widget-view+json"} & set(data)
        assert path.stat().st_size < 400_000

    def test_it_names_no_machine(self, path: Path) -> None:
        """Nothing of the machine it was run on is committed with it."""
        assert str(LABS.parent) not in path.read_text()


@pytest.fixture
def labs_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook runs in its own folder, and imports checks and solutions from there."""
    monkeypatch.syspath_prepend(str(LABS))


@pytest.fixture(scope="module")
def lab(stack: Endpoints) -> Lab:
    for name, value in stack.as_env().items():
        os.environ[name] = value
    return Lab.open(1)


@pytest.mark.usefixtures("labs_on_path")
@pytest.mark.parametrize(("notebook", "name"), [(book, name) for book, names in EXERCISES.items() for name in names])
class TestExercises:
    def test_the_starter_fails_its_check(self, lab: Lab, notebook: str, name: str) -> None:
        """Doing nothing is not passed."""
        check, _ = EXERCISES[notebook][name]
        report = getattr(_module("checks", notebook), check)(lab, _starter(notebook, name))
        assert not report.passed, report
        assert report.hint

    def test_the_solution_passes(self, lab: Lab, notebook: str, name: str) -> None:
        """What we call a solution is one, on the real brokers."""
        check, solution = EXERCISES[notebook][name]
        report = getattr(_module("checks", notebook), check)(lab, getattr(_module("solutions", notebook), solution))
        assert report.passed, report


def relay_that(delete: str, key: Callable[[Event], str] = lambda event: event.key) -> Callable[..., None]:
    """A relay that publishes rightly, but for its ``key``, and then deletes as told."""

    def run_once(conn: Any, broker: Any, topic: str) -> None:
        rows = outbox.pending(conn)
        broker.publish([Message(topic, key(r.event), r.event.to_value(), r.event.to_headers()) for r in rows])
        last = rows[-1].position if rows else 0
        conn.execute(delete, {"last": last, "read": [r.position for r in rows]})

    return run_once


def delete_first(conn: Any, broker: Any, topic: str) -> None:
    rows = outbox.pending(conn)
    conn.execute("DELETE FROM outbox WHERE position = ANY(%s)", ([r.position for r in rows],))
    broker.publish([Message(topic, r.event.key, r.event.to_value(), r.event.to_headers()) for r in rows])


def book_redeliveries_only(conn: Any, event: Event) -> None:
    if not inbox.claim(conn, event.id, consumer="exercise"):
        handlers.book(conn, event, consumer="exercise", account="orders", amount=1)


READ = "DELETE FROM outbox WHERE position = ANY(%(read)s)"


@pytest.mark.usefixtures("labs_on_path")
@pytest.mark.parametrize(
    ("check", "answer", "hinted"),
    [
        ("relay", relay_that("DELETE FROM outbox WHERE position <= %(last)s"), "no row that you did not read"),
        ("relay", relay_that("DELETE FROM outbox"), "no row that you did not read"),
        ("relay", relay_that("SELECT"), "must go from the outbox"),
        ("relay", relay_that(READ, key=lambda event: event.id), "share event.key"),
        ("relay", delete_first, "whose publish has returned"),
        ("idempotent", book_redeliveries_only, "inbox.claim"),
        ("key", lambda event: "all", "one queue for everything"),
    ],
)
def test_a_tempting_wrong_answer_fails(lab: Lab, check: str, answer: Any, hinted: str) -> None:
    """What the lab warns of does not pass its check, and the hint says what it was."""
    report = getattr(_module("checks", "1_outbox_and_inbox"), check)(lab, answer)
    assert not report.passed, report
    assert hinted in report.hint


def test_every_exercise_is_tested() -> None:
    """No exercise cell stands in a notebook without a starter and a solution being tried here."""
    found = {path.stem: {_defined(cell) for cell in cells(path) if "exercise" in tags(cell)} for path in NOTEBOOKS}
    assert found == {notebook: set(names) for notebook, names in EXERCISES.items()}


@pytest.mark.usefixtures("labs_on_path")
def test_an_answer_that_raises_is_a_finding(lab: Lab) -> None:
    """A learner's exception becomes "not yet" and the line it came from; the notebook goes on."""

    def broken(conn: object, event: object) -> None:
        raise KeyError("oops")

    report = _module("checks", "1_outbox_and_inbox").idempotent(lab, broken)
    assert "oops" in repr(report)
    assert "broken" in report.hint


def _module(kind: str, notebook: str) -> Any:
    return importlib.import_module(f"{kind}.{notebook.partition('_')[2]}")


def _starter(notebook: str, name: str) -> Any:
    """The function as the exercise cell defines it, without the call of the check."""
    names: dict[str, Any] = {}
    for cell in cells(LABS / f"{notebook}.ipynb"):
        if "exercise" in tags(cell) and _defined(cell) == name:
            tree = ast.parse(cell.source)
            keep = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.Import | ast.ImportFrom)]
            exec(compile(ast.Module(keep, []), notebook, "exec"), names)  # noqa: S102 - it is our own notebook
    return names[name]


def _defined(cell: Any) -> str:
    return next(node.name for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef))


def _words(markdown: str) -> int:
    for start, end in (("```", "```"), ("<details>", "</details>")):
        while start in markdown:
            head, _, rest = markdown.partition(start)
            markdown = head + rest.partition(end)[2]
    return sum(len(line.split()) for line in markdown.splitlines() if not line.startswith("|"))
