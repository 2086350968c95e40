"""A relay process that kills itself: ``python -m reference.evidence.victim --dsn … --broker … --kill published:2``.

It is the relay of :mod:`reference.delivery.relay`, run as ``eda relay`` runs it, with a SIGKILL to itself at the named
point's nth pass. Without ``--kill`` it runs until something else kills it.
"""

from __future__ import annotations

from typing import Annotated

import typer

from reference.brokers import connect
from reference.delivery.relay import Relay
from reference.delivery.session import LEASE_S
from reference.evidence import faults
from reference.programs import log_to_stderr, stop_on_signal

__all__ = ["carry", "main"]


def main(
    dsn: Annotated[str, typer.Option(envvar="EDA_POSTGRES_DSN")],
    broker: Annotated[str, typer.Option(envvar="EDA_KAFKA_URL")],
    route: str = "outbox.event.{aggregatetype}",
    lanes: int = 4,
    page: int = 500,
    lease_s: float = LEASE_S,
    kill: Annotated[str, typer.Option(help="POINT:NTH, POINT one of read, published, marked")] = "",
) -> None:
    """Run one relay until it is killed."""
    carry(dsn=dsn, broker=broker, route=route, lanes=lanes, page=page, lease_s=lease_s, kill=kill)


def carry(*, dsn: str, broker: str, route: str, lanes: int, page: int, lease_s: float = LEASE_S, kill: str = "") -> None:
    """What the process does, for those who start it without a command line."""
    log_to_stderr()
    point, _, nth = kill.partition(":")
    at = faults.kill(point, nth=int(nth or 1))
    with connect(broker) as target, Relay(dsn, target, route=route, lanes=lanes, page=page, lease_s=lease_s, at=at) as relay:
        relay.run(stop_on_signal())


if __name__ == "__main__":
    typer.run(main)
