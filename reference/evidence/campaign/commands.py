"""``eda campaign``: the experiments one after the other, a row each as soon as it is known."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer

from reference.brokers import BrokerUnavailable
from reference.evidence.campaign.addresses import Addresses
from reference.evidence.campaign.bursts import check_size
from reference.evidence.campaign.catalog import EXPERIMENTS, Experiment, named
from reference.evidence.campaign.row import Row
from reference.evidence.printing import AsJson, Known, print_figures
from reference.evidence.progress import progress
from reference.evidence.scratch import scratch_database
from reference.programs import log_to_stderr
from reference.stack import endpoints, private_stack

__all__ = ["app", "conduct"]

app = typer.Typer()
# A broker that is away, no right to mount, nothing that runs, a disk that is full or left half a record: said in a line.
EXPECTED = (BrokerUnavailable, RuntimeError, OSError, ValueError, psycopg.OperationalError)
MEMORY = "memory"  # no broker, for what is tried without one
NAMES = "One or more of: " + ", ".join(EXPERIMENTS) + ". All of them when none is named."


@app.command()
def campaign(
    names: Annotated[list[str] | None, typer.Argument(help=NAMES)] = None,
    broker: Annotated[list[Known] | None, typer.Option(help="May be given several times; else all that it concerns.")] = None,
    n: Annotated[int | None, typer.Option("--n", min=1, help="Faults, instead of the long form's; events in proportion.")] = None,
    events: Annotated[int | None, typer.Option(min=1, help="Events, instead of the long form's.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same plan: who is hit, where and how.")] = 1,
    json: AsJson = False,
) -> None:
    """Break things while events flow, beside controls that must fail, on one broker after the other.

    Exits with 1 unless every outcome is held. With --json, one object a line, an experiment and a broker. Experiments that
    break whole services do so in a stack of their own; the others use the one that runs.
    """
    try:
        chosen = named(names or [])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="NAMES") from None
    try:
        for experiment in chosen:
            _size(experiment, n, events)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--events") from None
    log_to_stderr()
    for number in (signal.SIGTERM, signal.SIGHUP):  # what was started is ended then, too
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    held = []
    for experiment in chosen:
        for name in [known for known in experiment.brokers if not broker or known in broker]:
            figures = _figures(experiment, name, faults=n, events=events, seed=seed)
            print_figures(figures, as_json=json)
            held.append(figures["outcome"] == "held")
    if not held:
        raise typer.BadParameter("none of these experiments concerns that broker", param_hint="--broker")
    raise typer.Exit(0 if all(held) else 1)


def _figures(experiment: Experiment, broker: str, *, faults: int | None, events: int | None, seed: int) -> dict[str, Any]:
    """A row's figures; or why there is none, for the experiments behind it are still to be run."""
    asked = {"name": experiment.name, "seed": seed}
    kept: list[Path] = []
    try:
        with _histories(f"{experiment.name}-{broker}", kept) as histories:
            row = conduct(experiment, broker, faults=faults, events=events, seed=seed, histories=histories)
            if row.held:
                shutil.rmtree(histories, ignore_errors=True)
        figures = row.figures()
    except EXPECTED as error:
        figures = {"experiment": experiment.words, "broker": broker, "outcome": "failed", "because": str(error)}
    return asked | figures | ({"histories": list(map(str, kept))} if kept else {})


@contextmanager
def _histories(name: str, kept: list[Path]) -> Iterator[Path]:
    """A directory for what is seen; ``kept`` is, at the end, what was left in it. Who interrupts a run is left nothing."""
    directory = Path(tempfile.mkdtemp(prefix=f"eda-campaign-{name}-"))
    try:
        yield directory
    except (KeyboardInterrupt, SystemExit):
        shutil.rmtree(directory, ignore_errors=True)
        raise
    finally:
        kept += sorted(directory.iterdir()) if directory.exists() else []
        if not kept:
            shutil.rmtree(directory, ignore_errors=True)


def conduct(
    experiment: Experiment,
    broker: str,
    *,
    faults: int | None = None,
    events: int | None = None,
    seed: int = 1,
    histories: Path | None = None,
) -> Row:
    """Run one experiment on one broker, in a database of its own; in its long form where no size is given.

    What was seen is left in ``histories``, a directory for each design that was run, as ``eda check`` reads it.
    Raises :class:`ValueError` when there are fewer events than faults.
    """
    faults, events = _size(experiment, faults, events)
    with (
        _ground(experiment, broker, histories) as at,
        progress(faults, label=f"{experiment.name} {broker}") as advance,
    ):
        row = experiment.run(at, faults=faults, events=events, seed=seed, tell=lambda _: advance(1))
    return replace(row, planned=faults)


def _size(experiment: Experiment, faults: int | None, events: int | None) -> tuple[int, int]:
    """Faults and events, those of the long form where none are asked for; raises where there are too few events."""
    faults = faults or experiment.faults
    events = events or max(faults, experiment.events * faults // experiment.faults)
    check_size(events=events, faults=faults)
    return faults, events


@contextmanager
def _ground(experiment: Experiment, broker: str, histories: Path | None) -> Iterator[Addresses]:
    if not experiment.own_stack:
        running = endpoints("postgres", *({broker} - {MEMORY}))
        with scratch_database(running.postgres) as dsn:
            where = f"{MEMORY}://" if broker == MEMORY else getattr(running, broker)
            yield Addresses(dsn=dsn, broker=where, histories=histories)
        return
    with private_stack("postgres", broker, **experiment.stack_settings) as private:
        where = getattr(private.endpoints, broker)
        yield Addresses(dsn=private.endpoints.postgres, broker=where, home=private.home, histories=histories)
