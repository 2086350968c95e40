"""``eda simulate``: thousands of interleavings, or one of them step by step. Needs no broker and no database."""

from __future__ import annotations

from enum import StrEnum
from json import dumps
from typing import Annotated

import typer

from reference.evidence.progress import progress
from reference.evidence.simulation.designs import DESIGNS
from reference.evidence.simulation.outcome import Outcome
from reference.evidence.simulation.search import search
from reference.evidence.simulation.world import simulate as one

__all__ = ["app"]

app = typer.Typer()

Name = StrEnum("Name", {name: name for name in DESIGNS})  # type: ignore[misc]
REAL = Name("relay")
MANY = 10_000


@app.command()
def simulate(
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How many interleavings to walk, from seed 0 on.", show_default=f"{MANY}")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Walk this one alone, and show every step.")] = None,
    design: Annotated[Name, typer.Option(help="Relay and consumer as they are, or a control that must fail.")] = REAL,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Run relay and consumer, as they are, on a made-up clock, broker and database; a seed decides who goes on and who dies.

    Exits with 1 when a promise was broken, and prints the command that shows how.
    """
    if seed is None:
        raise typer.Exit(_walk(seeds or MANY, str(design), as_json=json))
    if seeds is not None:
        raise typer.BadParameter("--seed walks one interleaving alone: give one of the two", param_hint="--seeds")
    outcome = one(seed, design=DESIGNS[str(design)])
    typer.echo(dumps(outcome.figures, ensure_ascii=False) if json else f"{outcome.trace}\n\n{outcome.verdict}\n{_said(outcome)}")
    raise typer.Exit(0 if outcome.held else 1)


def _walk(seeds: int, design: str, *, as_json: bool) -> int:
    with progress(seeds, label="interleavings") as advance:
        found = search(range(seeds), design=DESIGNS[design], tell=advance)
    failure = found.failure
    figures = {"design": design, "interleavings": found.seeds, "a minute": found.per_minute, "steps": found.steps,
               "events": found.events, "faults": found.faults, "duplicates": found.duplicates,
               "outcome": _said(failure) if failure else "held"}  # fmt: skip
    if failure:
        figures |= {"seed": failure.seed, "replay": f"eda simulate --design {design} --seed {failure.seed}"}
    typer.echo(dumps(figures, ensure_ascii=False) if as_json else "\n".join(f"{name:16} {it}" for name, it in figures.items()))
    return 1 if failure else 0


def _said(outcome: Outcome) -> str:
    return f"broken: {outcome.why}" if outcome.why else "held"
