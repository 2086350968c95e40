"""``eda check``: anybody's history, judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reference.cli import app
from reference.evidence.history import History, Record

EDA = Path(sys.executable).with_name("eda")
CLEAN = [
    Record(op="commit", phase="invoke", event="e1", key="k", seq=1, at=1.0),
    Record(op="commit", event="e1", key="k", seq=1, at=1.1),
    Record(op="deliver", event="e1", key="k", topic="t", partition=0, offset=7, group="g", process="c", at=1.2),
    Record(op="deliver", event="e1", key="k", topic="t", partition=0, offset=8, group="g", process="c", at=1.3),
    Record(op="apply", event="e1", key="k", group="g", process="c", at=1.4),
]
LOST = Record(op="commit", event="e2", key="k", seq=2, at=2.0)
TWICE = [Record(op="deliver", event="e", key="k", group="g", at=at) for at in (2.0, 3.0)]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    History([*CLEAN, LOST]).save(tmp_path / "broken.jsonl")
    (tmp_path / "clean").mkdir()
    for number, records in enumerate((CLEAN[2:], CLEAN[:2])):
        History(records).save(tmp_path / "clean" / f"{number}.jsonl")
    return tmp_path


def test_a_clean_history_is_called_clean(saved: Path) -> None:
    """A directory is one history, in the order of time, and a duplicate delivery is no violation."""
    said = CliRunner().invoke(app, ["check", str(saved / "clean"), "--json"])
    figures = json.loads(said.stdout)
    assert (said.exit_code, figures["clean"], figures["acknowledged"], figures["duplicates"], figures["violations"]) == (
        0, True, 1, 1, [],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("records", "sentence"),
    [
        ([Record(op="commit", event="e", at=1.0), *TWICE[:1]], "clean: nothing lost, unexpected, applied twice or out of order"),
        ([Record(op="commit", event="e", at=1.0), *TWICE],
         "clean: nothing lost, unexpected, applied twice or out of order; one duplicate, which is allowed"),
        ([Record(op="fault", note="kill", at=1.0)],
         "clean, but nothing was judged: no event was committed, published, delivered or applied in it"),
        ([Record(op="commit", event="e", at=1.0), Record(op="commit", event="f", at=1.0)], "not clean: 2 lost"),
        (TWICE, "not clean: 1 unexpected"),
    ],
)  # fmt: skip
def test_the_first_line_says_whether_it_is_clean(tmp_path: Path, records: list[Record], sentence: str) -> None:
    """In a sentence, before the counts."""
    History(records).save(tmp_path / "told.jsonl")
    said = CliRunner().invoke(app, ["check", str(tmp_path / "told.jsonl")])
    first, counts, *_ = said.stdout.splitlines()
    assert (first, counts.startswith("committed ")) == (sentence, True)


def test_a_violation_is_said_in_words_and_in_the_exit_code(saved: Path) -> None:
    """With the event, the group and, as JSON, the records that show it."""
    said = CliRunner().invoke(app, ["check", str(saved / "broken.jsonl")])
    assert (said.exit_code, "lost 1" in said.stdout) == (1, True)
    assert "- e2 was committed, and group g never received it" in said.stdout
    said = CliRunner().invoke(app, ["check", str(saved / "broken.jsonl"), "--json"])
    [violation] = json.loads(said.stdout)["violations"]
    assert (said.exit_code, violation["anomaly"], [record["op"] for record in violation["records"]]) == (1, "lost", ["commit"])


def test_only_so_many_violations_are_printed(saved: Path) -> None:
    """And how many more there are."""
    History([Record(op="commit", event=f"e{n}", at=1.0) for n in range(30)]).save(saved / "many.jsonl")
    said = CliRunner().invoke(app, ["check", str(saved / "many.jsonl"), "--show", "5"])
    assert (said.exit_code, said.stdout.count("never received"), "… and 25 more" in said.stdout) == (1, 5, True)


def test_a_history_comes_through_a_pipe(saved: Path) -> None:
    """``/dev/stdin`` is a file like any other."""
    said = subprocess.run(
        [EDA, "check", "/dev/stdin"], input=(saved / "broken.jsonl").read_bytes(), capture_output=True, check=False
    )  # fmt: skip
    assert (said.returncode, b"e2 was committed" in said.stdout) == (1, True), said


def test_a_last_line_that_no_record_begins_like_is_an_error(saved: Path) -> None:
    """However deep it is: it is not taken for one that a kill has torn, and ends in no traceback."""
    (saved / "deep.jsonl").write_text('{"event": ' + "[" * 100_000)
    said = CliRunner().invoke(app, ["check", str(saved / "deep.jsonl")])
    assert (said.exit_code, "is not a history record" in " ".join(said.stderr.replace("│", " ").split())) == (2, True)


def test_what_is_no_history_is_an_error_that_names_it(saved: Path) -> None:
    """A bad line, an absent file, a directory without a history: exit code 2, no traceback."""
    (saved / "bad.jsonl").write_text('{"op": "fault"}\n{"op": "comit"}\n')
    (saved / "whose.jsonl").write_text('{"op": "fault"}\n{"op": "commit", "key": "k"}\n')
    (saved / "empty").mkdir()
    (saved / "nothing.jsonl").write_text("")
    reasons = {
        "nothing.jsonl": "no record in it", "bad.jsonl": "bad.jsonl:2 is not a history record", "gone.jsonl": "gone.jsonl",
        "empty": "no history", "whose.jsonl": "whose.jsonl:2 is not a history record: event: missing, and commit needs it",
    }  # fmt: skip
    for name, reason in reasons.items():
        said = CliRunner().invoke(app, ["check", str(saved / name)])
        assert (said.exit_code, reason in said.stderr, said.stderr.count("\n")) == (2, True, 1), said.stderr
