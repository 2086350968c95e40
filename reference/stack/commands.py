"""The stack's verbs for the command line: ``up``, ``down``, ``status``, ``logs``, ``doctor``, ``kill``, ``freeze``, ``thaw``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from reference.stack import artifacts, compose, doctor, jupyter, outages, postgres, verbs
from reference.stack.errors import StackError
from reference.stack.home import Home
from reference.stack.report import HEADS

__all__ = ["app"]

app = typer.Typer()

LABS_STAND_ON = {"kafka", "postgres"}
WIDE = 500

Services = Annotated[list[str] | None, typer.Argument(metavar="[SERVICE]...", help="Services; all when none is named.")]
Victim = Annotated[str, typer.Argument(metavar="SERVICE", help="One that this stack runs.")]
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
    """Say what runs, the URL at which a program connects to it, and the web page that a person looks at it with.

    Exits with 0 whatever runs, for that is in the answer. With --json the URLs, the database's DSN among them, are whole.
    """
    states = verbs.status()
    if as_json:
        typer.echo(json.dumps([state.as_json() for state in states], indent=2))
    else:
        _table(HEADS, [state.as_row() for state in states])
        for state in states:
            if state.page is not None:
                typer.echo(f"\nweb page of {state.name}, for people: {state.page.address} as {state.page.user}")
        if any(state.url for state in states):
            typer.echo("\nthe URLs whole, with their passwords, for programs: eda status --json")


@app.command()
def kill(service: Victim) -> None:
    """Kill a service with SIGKILL, on purpose; `eda up` brings it back on its data."""
    outages.kill(service)
    typer.echo(f"{service} is killed; back with: eda up {service}")


@app.command()
def freeze(service: Victim) -> None:
    """Have a service stand still with its connections open, on purpose; `eda thaw`, or `eda up`, ends it."""
    outages.freeze(service)
    typer.echo(f"{service} stands still; on with: eda thaw {service}")


@app.command()
def thaw(service: Victim) -> None:
    """Have a frozen service move again; one that is not frozen is left as it is."""
    typer.echo(f"{service} moves again" if outages.thaw(service) else f"{service} was not frozen")


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
    """Start the stack, open the labs in JupyterLab, and print the address once it answers; ends when JupyterLab does."""
    ready = jupyter.launch(port=port, browser=browser)
    _start_for_labs()
    raise typer.Exit(jupyter.serve(ready, say=typer.echo))


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
    console = Console()
    if not console.is_terminal:  # a program or a file has no width: nothing is folded
        console.width = WIDE
    console.print(table)
