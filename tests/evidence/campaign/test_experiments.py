"""Every experiment in its short form, on the real brokers, and the command that runs the long one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from reference.cli import app
from reference.evidence.campaign import EXPERIMENTS, Experiment, named
from reference.evidence.campaign.commands import conduct
from reference.evidence.campaign.experiments.interleaved_commits import Interleaving
from reference.evidence.victim import carry_wrongly
from reference.stack import Endpoints, StackError
from reference.stack.processes import family

EDA = Path(sys.executable).with_name("eda")
SHORT = [(experiment, broker) for experiment in EXPERIMENTS.values() for broker in experiment.short_brokers or experiment.brokers]


@pytest.mark.parametrize(("experiment", "broker"), SHORT, ids=[f"{experiment.name}-{broker}" for experiment, broker in SHORT])
def test_nothing_is_broken_and_the_control_is(stack: Endpoints, experiment: Experiment, broker: str) -> None:
    """A few faults of each kind on each broker: no promise is broken, and the control beside it is seen failing."""
    faults, events = experiment.short
    try:
        row = conduct(experiment, broker, faults=faults, events=events)
    except StackError as error:
        if "mounting one was denied" not in str(error):
            raise
        pytest.skip(str(error))  # a small disk is for root alone
    calm = [name for name, control in row.controls.items() if not control.failed]
    assert (row.broken, calm, row.faults >= faults) == ([], [], True), row.figures()


def test_the_campaign_is_a_command(stack: Endpoints) -> None:
    """A JSON object an experiment and a broker, and an exit code that says whether every promise held."""
    command = [EDA, "campaign", "relays-killed", "--broker", "kafka", "--n", "2", "--events", "100", "--json"]
    said = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=240)
    (figures,) = map(json.loads, said.stdout.splitlines())
    assert (figures["faults"], figures["lost"], said.returncode) == (2, 0, 0 if figures["outcome"] == "held" else 1)


def test_what_was_seen_in_a_run_that_proved_nothing_is_left_for_eda_check(
    stack: Endpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory for the design and one for the control, each a history; of a run that held, nothing is left."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def run(*words: str) -> dict[str, Any]:
        command = [EDA, "campaign", "--json", *words]
        said = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=240)
        return json.loads(said.stdout)  # type: ignore[no-any-return]

    # One kill, and that before anything was published: no event can come twice.
    kept = run("relays-killed", "--broker", "kafka", "--n", "1", "--events", "3")
    checked = [CliRunner().invoke(app, ["check", directory, "--json"]) for directory in kept["histories"]]
    assert (kept["outcome"], len(checked), json.loads(checked[0].stdout)["acknowledged"]) == ("inconclusive", 2, kept["events"])
    for left in tmp_path.iterdir():
        shutil.rmtree(left)
    held = run("malformed-offline", "--n", "20", "--events", "20")
    assert (held["outcome"], "histories" in held, list(tmp_path.iterdir())) == ("held", False, [])


def test_too_few_events_are_refused_before_anything_is_begun() -> None:
    """Also where only the last experiment has too many faults for them."""
    said = CliRunner().invoke(app, ["campaign", "disk-full", "relays-killed", "--events", "150"])
    words = " ".join(said.stderr.replace("│", " ").split())
    assert (said.exit_code, said.stdout, "200 faults need at least as many events" in words) == (2, "", True), words


def test_ctrl_c_while_messages_are_drawn_ends_it_quietly(stack: Endpoints, eventually: Callable[..., Any]) -> None:
    """Exit code 130, no traceback, and the process that draws them is gone."""
    # Whoever starts the tests in the background has them, and what they start, ignore Ctrl-C.
    command = ["env", "--default-signal=INT", EDA, "campaign", "malformed-offline", "--n", "4000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0) as process:
        drawing = eventually(lambda: [child for child in family(process.pid)[1:] if draws(child)], within_s=120)
        assert os.getpgid(drawing[0].pid) != process.pid  # or it would answer as well, now and then before it is ended
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everybody in front of it
        said = process.communicate(timeout=120)[1]
    assert (process.returncode, "Traceback" in said, [p.pid for p in drawing if p.is_running()]) == (130, False, []), said


def draws(child: psutil.Process) -> bool:
    try:
        return "reference.evidence.spoiled" in child.cmdline()
    except psutil.NoSuchProcess:
        return False


def test_an_unknown_experiment_is_named_beside_those_there_are() -> None:
    """And nothing is begun."""
    with pytest.raises(ValueError, match="no experiment is called sabotage: there are relays-killed"):
        named(["sabotage"])
    said = CliRunner().invoke(app, ["campaign", "sabotage"])
    words = " ".join(said.stderr.replace("│", " ").split())
    assert (said.exit_code, "no experiment is called sabotage" in words) == (2, True), words


@pytest.mark.parametrize(
    "name", ["relays-killed", "relays-paused", "interleaved-commits", "consumers-killed", "wild-deliveries"]
)  # fmt: skip
def test_fewer_events_than_faults_are_refused(stack: Endpoints, name: str) -> None:
    """A fault falls into something that happens, or it would hit nothing."""
    with pytest.raises(ValueError, match="need at least as many events"):
        conduct(EXPERIMENTS[name], "kafka", faults=50, events=4)


def test_transactions_go_wrong_by_their_number() -> None:
    """Same seed, same faults: exactly so many, whichever writer comes to them; another seed hits others."""
    first, again, other = (Interleaving(200, 15, seed) for seed in (1, 1, 2))
    assert sorted(first.kinds.values()) == ["held open"] * 5 + ["rolled back"] * 10
    assert (first.kinds == again.kinds, first.kinds == other.kinds) == (True, False)


def test_a_relay_of_no_known_design_is_refused(tmp_path: Path) -> None:
    """With those there are, and before anything is connected to."""
    with pytest.raises(ValueError, match="no relay of the design 'first id': there are last id, transaction id, skip locked"):
        carry_wrongly(dsn="", broker="", route="r", design="first id", history=tmp_path)
