"""``eda bench checker``: the figures of a large history, in small."""

from __future__ import annotations

import json
import re

from typer.testing import CliRunner

from reference.cli import app


def test_a_large_history_is_read_and_judged_in_a_process_of_its_own() -> None:
    """A clean one is called clean, a broken one is not; what it took is told of each. It needs no stack."""
    said = CliRunner().invoke(app, ["bench", "checker", "--operations", "5000", "--json"])
    figures = json.loads(said.stdout)
    assert (said.exit_code, figures["clean"]["clean"], figures["broken"]["clean"]) == (0, True, False)
    for told in figures.values():
        assert told["records"] > told["operations"] >= 5000
        assert {"read_s", "judged_s", "total_s", "peak_mb"} <= told.keys()
    assert all(f"{kind} 0" not in figures["broken"]["verdict"] for kind in ("lost", "applied twice", "out of order"))


def test_how_the_broken_history_is_broken_is_said_and_so() -> None:
    """A third of its events are lost on purpose: nobody takes that for a fault of the checker."""
    said = CliRunner().invoke(app, ["bench", "checker", "--operations", "20000", "--json"])
    broken = json.loads(said.stdout)["broken"]
    committed, lost = (int(re.findall(rf"{word} (\d+)", broken["verdict"])[0]) for word in ("committed", "lost"))
    assert ("a third of its events lost" in broken["history"], 0.28 < lost / committed < 0.40) == (True, True)


def test_the_same_seed_makes_the_same_history() -> None:
    """A figure can be measured again, and another seed is another history."""
    told = [
        json.loads(CliRunner().invoke(app, ["bench", "checker", "--operations", "500", "--seed", seed, "--json"]).stdout)
        for seed in ("1", "1", "2")
    ]
    verdicts = [of["broken"]["verdict"] for of in told]
    assert (verdicts[0] == verdicts[1], verdicts[0] == verdicts[2]) == (True, False)
