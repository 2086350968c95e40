"""``eda bench`` and ``eda campaign``: figures measured on the running stack, in a database that is dropped afterwards."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from json import dumps
from typing import Annotated, Any

import psycopg
import typer
from psycopg import sql
from psycopg.conninfo import make_conninfo

from reference.evidence.benchmarks import brokers as broker_bench
from reference.evidence.benchmarks import latency as latency_bench
from reference.evidence.benchmarks import relay as relay_bench
from reference.evidence.campaign import Row, relays_killed
from reference.programs import log_to_stderr
from reference.stack import endpoints

__all__ = ["app"]

app = typer.Typer()
bench = typer.Typer(
    no_args_is_help=True, help="Measure on the running stack. Ratios travel between machines, milliseconds do not."
)
app.add_typer(bench, name="bench")


class Known(StrEnum):
    """The brokers of the stack, as typed after ``--broker``."""

    kafka = "kafka"
    rabbitmq = "rabbitmq"
    pubsub = "pubsub"


class Measured(StrEnum):
    """Those whose bare client is measured beside the adapter; Kafka's is measured beside the relay."""

    rabbitmq = "rabbitmq"
    pubsub = "pubsub"


EVERY = list(Known)
BARE = list(Measured)
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


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
        _print(broker_bench.compare(getattr(running, name), messages=messages, runs=runs), as_json=json)


@app.command()
def campaign(
    broker: Annotated[list[Known], typer.Option(help="May be given several times.")] = EVERY,
    events: int = 20_000,
    kills: int = 200,
    seed: int = 1,
    json: AsJson = False,
) -> None:
    """Kill relays while writers commit, beside a control that must fail, on one broker after the other.

    Exits with 1 unless every outcome is held. With --json, one object a line and a broker.
    """
    if events < kills:
        raise typer.BadParameter(f"{kills} kills need at least as many events, not {events}", param_hint="--events")
    log_to_stderr()
    running = endpoints("postgres", *broker)
    held = []
    for name in broker:  # each is printed as soon as it is known
        row = _killed(getattr(running, name), running.postgres, events=events, kills=kills, seed=seed)
        figures = {"experiment": row.experiment, "broker": row.broker, "kills": row.faults, "seconds": row.seconds,
                   "relay": str(row.verdict), "control (skip locked)": str(row.control), "outcome": row.outcome}  # fmt: skip
        if row.outcome == "inconclusive":
            figures["because"] = row.unproved
        _print(figures, as_json=json)
        held.append(row.held)
    raise typer.Exit(0 if all(held) else 1)


def _killed(broker: str, dsn: str, *, events: int, kills: int, seed: int) -> Row:
    with scratch_database(dsn) as scratch, typer.progressbar(length=kills, label="kills", file=sys.stderr) as bar:
        return relays_killed(scratch, broker, events=events, kills=kills, seed=seed, tell=lambda _: bar.update(1))


def _report(measure: Callable[[str, str], dict[str, Any]], *, as_json: bool) -> None:
    log_to_stderr()
    running = endpoints("postgres", "kafka")
    with scratch_database(running.postgres) as dsn:
        figures = measure(dsn, running.kafka)
    _print(figures, as_json=as_json)


def _print(figures: dict[str, Any], *, as_json: bool) -> None:
    typer.echo(dumps(figures, ensure_ascii=False) if as_json else "\n".join(_lines(figures)))


def _lines(figures: dict[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield f"{indent}{name}"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent + name:32} {value}"


@contextmanager
def scratch_database(dsn: str) -> Iterator[str]:
    """The address of a new, empty database on the same server; dropped at the end, whoever is still connected."""
    fresh = f"scratch_{uuid.uuid4().hex[:12]}"
    name = sql.Identifier(fresh)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(name))
        try:
            yield make_conninfo(dsn, dbname=fresh)
        finally:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
