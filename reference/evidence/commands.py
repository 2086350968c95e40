"""``eda bench``, ``eda check``, ``eda campaign`` and ``eda simulate``: figures measured, and histories judged."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from reference.evidence.benchmarks import board as board_bench
from reference.evidence.benchmarks import brokers as broker_bench
from reference.evidence.benchmarks import checker as checker_bench
from reference.evidence.benchmarks import latency as latency_bench
from reference.evidence.benchmarks import relay as relay_bench
from reference.evidence.campaign.commands import app as campaign
from reference.evidence.checker import Verdict
from reference.evidence.checker import check as judge
from reference.evidence.checker.verdict import as_json as verdict_as_json
from reference.evidence.history import read
from reference.evidence.printing import AsJson, print_figures
from reference.evidence.scratch import scratch_database
from reference.evidence.simulation.commands import app as simulation
from reference.programs import log_to_stderr
from reference.stack import endpoints

__all__ = ["app"]

app = typer.Typer()
bench = typer.Typer(
    no_args_is_help=True, help="Measure on the running stack. Ratios travel between machines, milliseconds do not."
)
app.add_typer(bench, name="bench")
app.add_typer(campaign)
app.add_typer(simulation)


class Measured(StrEnum):
    """Those whose bare client is measured beside the adapter; Kafka's is measured beside the relay."""

    rabbitmq = "rabbitmq"
    pubsub = "pubsub"


BARE = list(Measured)

@bench.command()
def relay(events: int = 40_000, runs: int = 5, json: AsJson = False) -> None:
    """The relay against raw producers and a batch relay, draining the same rows."""
    _report(lambda dsn, broker: relay_bench.compare(dsn, broker, events=events, runs=runs), as_json=json)


@bench.command()
def latency(rate: int = 200, seconds: float = 15.0, json: AsJson = False) -> None:
    """From commit to consumed at a fixed rate, and the CPU of an idle relay."""
    _report(lambda dsn, broker: latency_bench.measure(dsn, broker, rate=rate, seconds=seconds), as_json=json)


@bench.command()
def brokers(
    broker: Annotated[list[Measured], typer.Option(help="May be given several times.")] = BARE,
    messages: int = 10_000,
    runs: int = 5,
    json: AsJson = False,
) -> None:
    """Publishing and consuming through the adapters, against their bare clients in the same run."""
    log_to_stderr()
    running = endpoints(*broker)
    for name in broker:
        print_figures(broker_bench.compare(getattr(running, name), messages=messages, runs=runs), as_json=json)


@bench.command()
def board(seconds: Annotated[float, typer.Option(min=1)] = 10.0, json: AsJson = False) -> None:
    """The live board in a real JupyterLab and a real browser: frames seen, how late, and what they cost. Needs Chromium."""
    print_figures(board_bench.measure(endpoints("postgres", "kafka"), seconds=seconds), as_json=json)


@bench.command()
def checker(operations: Annotated[int, typer.Option(min=1)] = 1_000_000, seed: int = 1, json: AsJson = False) -> None:
    """Reading and judging a large history: seconds, and MB at most. Needs no stack.

    Once clean, and once broken on purpose: a third of its events are lost, a tenth swapped, and everything comes twice.
    """
    print_figures(checker_bench.measure(operations=operations, seed=seed), as_json=json)


@app.command()
def check(
    history: Annotated[list[Path], typer.Argument(help="JSON-lines files, or directories of them: docs/history.md.")],
    json: AsJson = False,
    show: Annotated[int, typer.Option(min=0, help="How many violations to print in words.")] = 20,
) -> None:
    """Judge a recorded history: what was lost, invented, repeated, applied twice or put out of order.

    Exits with 1 when something is wrong, and with 2 when it is no history.
    """
    try:
        records = read(*history)
        if not records:
            raise ValueError(f"{', '.join(map(str, history))}: no record in it, so nothing to judge")
        verdict = judge(records)
    except (ValueError, OSError) as error:
        typer.echo(f"eda check: {error}", err=True)  # one line: a box would break it anywhere
        raise typer.Exit(2) from None
    if json:
        typer.echo(dumps(verdict_as_json(verdict, show=show), ensure_ascii=False))
    else:
        typer.echo(f"{_sentence(verdict)}\n{verdict}")
        for violation in verdict.violations[:show]:
            typer.echo(f"- {violation}")
        if len(verdict.violations) > show:
            typer.echo(f"… and {len(verdict.violations) - show} more")
    raise typer.Exit(0 if verdict.clean else 1)


def _sentence(verdict: Verdict) -> str:
    """What to think of it, before the counts."""
    if not verdict.clean:
        return "not clean: " + ", ".join(f"{count} {anomaly}" for anomaly, count in verdict.found.items())
    if not (verdict.attempted or verdict.delivered or verdict.applied):
        return "clean, but nothing was judged: no event was committed, published, delivered or applied in it"
    again = f"; {verdict.duplicates} duplicates, which are allowed" if verdict.duplicates > 1 else ""
    again = "; one duplicate, which is allowed" if verdict.duplicates == 1 else again
    return f"clean: nothing lost, unexpected, applied twice or out of order{again}"


def _report(measure: Callable[[str, str], dict[str, Any]], *, as_json: bool) -> None:
    log_to_stderr()
    running = endpoints("postgres", "kafka")
    with scratch_database(running.postgres) as dsn:
        figures = measure(dsn, running.kafka)
    print_figures(figures, as_json=as_json)
