"""``eda``: the command line. It assembles what the rooms offer and turns expected failures into one line."""

from __future__ import annotations

from typing import Any

import psycopg
import typer
from typer.core import TyperGroup

from reference.brokers import BrokerUnavailable, UnknownTopic
from reference.evidence.commands import app as evidence
from reference.programs import app as delivery
from reference.stack import StackError
from reference.stack.commands import app as stack

__all__ = ["app"]

# What may well happen on a good day: a person needs the sentence, not the traceback.
EXPECTED = (StackError, BrokerUnavailable, UnknownTopic, psycopg.OperationalError)


class OneLine(TyperGroup):
    """Print an expected failure as ``error: …`` and exit with 1; anything else is a bug and keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EXPECTED as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from None


app = typer.Typer(cls=OneLine, no_args_is_help=True, pretty_exceptions_enable=False, help="Event-driven architecture, hands on.")
app.add_typer(stack)
app.add_typer(delivery)
app.add_typer(evidence)

if __name__ == "__main__":
    app()
