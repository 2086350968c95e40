"""Programs of :mod:`reference.delivery` as ``eda`` commands: what a service in any language can run beside itself."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from typing import Annotated

import stamina
import structlog
import typer

from reference.brokers import connect
from reference.delivery import outbox
from reference.delivery.lanes import BUCKETS
from reference.delivery.relay import Relay

__all__ = ["app"]

app = typer.Typer()


@app.command()
def schema() -> None:
    """Print the SQL that makes the outbox and the inbox; applying it twice changes nothing."""
    typer.echo(outbox.schema(), nl=False)


@app.command()
def relay(
    dsn: Annotated[str, typer.Option(envvar="EDA_POSTGRES_DSN", help="Postgres that holds the outbox; no session pooler.")],
    broker: Annotated[
        str,
        typer.Option(
            envvar=["EDA_BROKER_URL", "EDA_KAFKA_URL"],
            help="kafka://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…], amqp://[USER:PASSWORD@]HOST:PORT/VHOST, or pubsub://PROJECT",
        ),
    ],
    route: Annotated[str, typer.Option(help="The topic; {aggregatetype} is replaced.")] = "outbox.event.{aggregatetype}",
    lanes: Annotated[
        int, typer.Option(min=1, max=BUCKETS, help="Into how many shares relays divide the keys: at least as many as relays.")
    ] = 16,
    page: Annotated[int, typer.Option(min=1, help="Rows published and deleted at a time.")] = 5_000,
    once: Annotated[bool, typer.Option("--once", help="Carry what is there, then end: 1 if a row had to be held back.")] = False,
) -> None:
    """Carry committed outbox rows to the broker, as Debezium's outbox event router would. Run as many as you like."""
    log_to_stderr()
    try:
        target = connect(broker)
        carrier = Relay(dsn, target, route=route, lanes=lanes, page=page)
    except ValueError as error:  # an option that cannot be right, and the message says why
        raise typer.BadParameter(str(error)) from None
    with target, carrier:
        carrier.connect()  # an address that is wrong from the start is an error, not something to wait for
        if once:
            raise typer.Exit(_drain(carrier))
        carrier.run(stop_on_signal())


def _drain(carrier: Relay) -> int:
    published = 0
    while count := carrier.run_once():
        published += count
    typer.echo(f"published {published} · held back {len(carrier.held)} keys")
    return 1 if carrier.held else 0


def stop_on_signal() -> threading.Event:
    """An event that SIGTERM and SIGINT set, so that the round in hand is finished first."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def log_to_stderr() -> None:
    """Log lines for people on a terminal, JSON lines for machines; standard output stays the program's own."""
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    stamina.instrumentation.set_on_retry_hooks([])  # the relay says itself what it waits for
