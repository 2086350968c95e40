"""The stack's verbs for the command line: ``eda up``, ``down``, ``status``, ``logs`` and ``doctor``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from reference.stack import artifacts, compose, doctor, jupyter, postgres, verbs
from reference.stack.errors import StackError
from reference.stack.home import Home

__all__ = ["app"]

app = typer.Typer()

LABS_STAND_ON = {"kafka", "postgres"}

Services = Annotated[list[str] | None, typer.Argument(metavar="[SERVICE]...", help="Services; all when none is named.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: includes the passwords.")]


@app.command()
def up(services: Services = None) -> None:
    """Start the stack; return when every service has answered a real request."""
    verbs.up(services, say=typer.echo)


@app.command()
def down(
    services: Services = None,
    erase: Annotated[bool, typer.Option("--erase", help="Also throw away all data, credentials and logs.")] = False,
) -> None:
    """Stop the stack; no process of it is left."""
    if erase and services:
        raise StackError("--erase throws everything away: it takes no service")
    count = verbs.down(services)
    if erase:
        verbs.erase()
    typer.echo(f"stopped {count} service{'s' * (count != 1)}" if count else "nothing was running")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Say what runs, and where."""
    states = verbs.status()
    if as_json:
        typer.echo(json.dumps([state.as_json() for state in states], indent=2))
    else:
        _table(["service", "state", "backend", "pid", "address", "ready for", "memory"], [state.as_row() for state in states])


@app.command()
def logs(
    service: Annotated[str, typer.Argument(help="Whose log.")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Keep printing what is added.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many lines from the end.")] = 100,
) -> None:
    """Print the end of a service's log."""
    home = Home.open()
    if verbs.backend(home) == "compose":
        command = [*compose.command(home), "logs", f"--tail={lines}", *(["--follow"] if follow else []), service]
    else:
        command = ["tail", f"--lines={lines}", *(["--follow=name"] if follow else []), str(verbs.log_of(service))]
    try:
        raise typer.Exit(subprocess.run(command, check=False).returncode)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


@app.command(name="doctor")
def examine(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Check what the stack needs from this machine; exit with 1 when something required is missing."""
    checks = doctor.examine()
    if as_json:
        typer.echo(json.dumps([check.as_json() for check in checks], indent=2))
    else:
        _table(["", "check", "found", "what to do"], [check.as_row() for check in checks])
    if not all(check.ok or not check.required for check in checks):
        raise typer.Exit(1)


@app.command()
def lab(
    port: Annotated[int, typer.Option(help="Where JupyterLab answers, on 127.0.0.1.")] = 8888,
    browser: Annotated[bool, typer.Option(help="Open it in a browser.")] = True,
) -> None:
    """Start the stack and open the labs in JupyterLab, which replaces this process."""
    ready = jupyter.launch(port=port, browser=browser)
    _start_for_labs()
    typer.echo(f"\n  {ready.url}\n\nCtrl-C ends JupyterLab; the stack keeps running until: make down")
    sys.stdout.flush()
    os.execve(ready.argv[0], ready.argv, ready.environment)  # noqa: S606  # there is no shell to go through


def _start_for_labs() -> None:
    """Start what can be started. Without the ground of all labs there is nothing to open; the rest is said, and may wait."""
    try:
        verbs.up(say=typer.echo)
    except StackError as error:
        if not all(state.is_ready for state in verbs.status() if state.name in LABS_STAND_ON):
            raise
        typer.echo(f"\nnot everything is there: {error}\nThe labs open without it; what needs it will say so.", err=True)


@app.command()
def fetch() -> None:
    """Download what the native stack needs, once; `eda up` does it too."""
    artifacts.fetch()
    postgres.binaries()


def _table(heads: Iterable[str], rows: Iterable[list[str]]) -> None:
    table = Table(box=None, pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
