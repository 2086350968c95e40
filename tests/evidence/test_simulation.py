"""Relay and consumer under thousands of interleavings; whatever is wrong on purpose is found, or the rest proves nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reference.evidence.simulation import DESIGNS, search, simulate
from reference.evidence.simulation.faults import FAULTS
from reference.evidence.simulation.mutants import MUTANTS, Mutant, broken
from reference.evidence.simulation.outcome import Outcome

EDA = Path(sys.executable).with_name("eda")
WRONG = [name for name, design in DESIGNS.items() if design.wrong]


def eda(*words: str, hash_seed: int = 0) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    return subprocess.run([EDA, *words], capture_output=True, text=True, check=False, timeout=120, env=environment)


def first(wrong: str, *, design: str = "relay", seeds: int) -> Outcome | None:
    """The first outcome in which this went wrong."""
    outcomes = (simulate(seed, design=DESIGNS[design]) for seed in range(seeds))
    return next((outcome for outcome in outcomes if wrong in outcome.wrong), None)


def test_relay_and_consumer_hold_in_every_interleaving() -> None:
    """A thousand seeds: nothing lost, nothing invented, order kept, everything applied once, everything comes to rest."""
    found = search(range(1_000))
    assert found.failure is None, f"eda simulate --seed {found.failure.seed}: {found.failure.why}"
    assert (found.seeds, found.faults > 500, found.duplicates > 500, found.events > 5_000) == (1_000, True, True, True)


@pytest.mark.parametrize("seed", [31292])
def test_a_seed_that_once_failed_holds(seed: int) -> None:
    """31292: a relay that lost its connection at every attempt for 16 s was judged while it still paused, as if it had lost."""
    outcome = simulate(seed)
    assert outcome.held, outcome.why


def test_every_kind_of_fault_happens() -> None:
    """What is named is not only named."""
    said = {moment.what for seed in range(400) for moment in simulate(seed).moments if "FAULT" in moment.what}
    assert [kind for kind in FAULTS if not any(f"FAULT: {kind}," in line for line in said)] == []


@pytest.mark.parametrize("name", WRONG)
def test_a_design_that_is_wrong_is_found(name: str) -> None:
    """The controls, as they stand beside the campaign, do here what they do there."""
    outcome = first(DESIGNS[name].wrong, design=name, seeds=600)
    assert outcome is not None
    assert not outcome.held


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=lambda mutant: mutant.name)
def test_one_broken_line_is_found(mutant: Mutant) -> None:
    """What the lines of relay, consumer and inbox are there for is seen as soon as one is not."""
    with broken(mutant):
        assert first(mutant.wrong, seeds=1_000) is not None


def test_a_mutant_heals() -> None:
    """Afterwards the code is as it was."""
    with broken(MUTANTS["takes every delivery for the first"]):
        pass
    assert search(range(100)).failure is None


def test_a_mutant_whose_line_is_gone_is_an_error() -> None:
    """It cannot quietly become the healthy thing."""
    mutant = Mutant("old", simulate, "no such line", "pass", "loses")
    with pytest.raises(LookupError, match="mutant 'old': simulate does not hold this passage once: no such line"), broken(mutant):
        pass


def test_a_seed_is_the_same_everywhere() -> None:
    """Byte for byte, in another process and with other hashes: a failing seed can be handed to somebody."""
    one, other = eda("simulate", "--seed", "17", hash_seed=1), eda("simulate", "--seed", "17", hash_seed=2)
    assert one.stdout == other.stdout
    assert simulate(17).trace in one.stdout
    assert "FAULT" in one.stdout


def test_a_trace_says_of_every_step_what_came_of_it() -> None:
    """On the step's own line, behind what it waited for: a commit that was not heard of does not read like one that was."""
    told = ("connects", "COMMIT", "publishes", "polls")
    moments = [moment for seed in range(400) for moment in simulate(seed).moments if moment.what in told]
    assert [moment for moment in moments if moment.outcome is None] == []
    ends = {str(moment.outcome) for moment in moments if moment.what == "COMMIT"}
    lost = "the connection is lost"
    assert {"carried out", f"carried out: {lost}", f"not carried out: {lost}"} <= ends
    line = next(str(moment) for moment in moments if str(moment.outcome) == f"not carried out: {lost}")
    assert line.endswith(f" → not carried out: {lost}")


def test_a_statement_is_told_behind_what_it_waits_for() -> None:
    """A lock that another holds is not there before he lets go of it."""
    waited = 0
    for seed in range(200):
        moments = simulate(seed).moments
        for n, moment in enumerate(moments):
            if moment.what.startswith("waits for writer-"):
                behind = next((one for one in moments[n + 1 :] if one.who == moment.who), moment)
                waited += 1
                assert behind.outcome is not None or behind.what.startswith(("FAULT", "waits for")), (seed, behind)
    assert waited > 0


def test_one_seed_and_many_are_not_asked_for_at_once() -> None:
    """Exit code 2 and both names, instead of one of them forgotten in silence."""
    said = eda("simulate", "--seed", "17", "--seeds", "50")
    assert (said.returncode, "--seeds: --seed walks one" in " ".join(said.stderr.split())) == (2, True)


def test_the_simulation_is_a_command() -> None:
    """It says how many it walked and how fast, and exits with 0 when nothing broke."""
    said = eda("simulate", "--seeds", "50", "--json")
    figures = json.loads(said.stdout)
    assert (said.returncode, figures["interleavings"], figures["outcome"], figures["a minute"] > 0) == (0, 50, "held", True)


def test_a_failing_seed_is_told_with_the_command_that_shows_it() -> None:
    """Exit code 1, the first seed that broke, and its replay, which breaks again and shows every step."""
    figures = json.loads(eda("simulate", "--design", "skip-locked", "--seeds", "600", "--json").stdout)
    assert "reorders event-" in figures["outcome"]
    _, *replay = figures["replay"].split()
    said = eda(*replay)
    assert (said.returncode, "reads what nobody locked" in said.stdout, said.stdout.count("broken: reorders")) == (1, True, 1)
