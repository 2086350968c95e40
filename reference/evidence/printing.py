"""How figures are printed: as lines for people, or one JSON object a line for programs."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from json import dumps
from typing import Annotated, Any

import typer

__all__ = ["AsJson", "Known", "print_figures"]

AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, an object a line.")]


class Known(StrEnum):
    """The brokers of the stack, as typed after ``--broker``."""

    kafka = "kafka"
    rabbitmq = "rabbitmq"
    pubsub = "pubsub"


def print_figures(figures: dict[str, Any], *, as_json: bool) -> None:
    typer.echo(dumps(figures, ensure_ascii=False) if as_json else "\n".join(_lines(figures)))


def _lines(figures: dict[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield f"{indent}{name}"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent + name:32} {value}"
