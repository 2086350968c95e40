"""Processes made to be killed: a relay and a consumer, run as services run them, with faults at named points.

``python -m reference.evidence.victim carry --dsn … --broker … --kill published:2`` is the relay of
:mod:`reference.delivery.relay` with a SIGKILL to itself at the named point's second pass; ``consume`` is a consumer with an
inbox, whose deliveries and acks are written to a history. Without ``--kill`` they run until something else ends them.
``carry_wrongly`` and ``write_twice`` are the designs that must fail.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Protocol

import psycopg
import structlog
import typer

from reference.brokers import Broker, Message, Subscription, UnknownTopic, connect
from reference.brokers.through import BrokerThrough
from reference.delivery.consumer import Claim, Consumer
from reference.delivery.relay import Relay
from reference.delivery.session import LEASE_S
from reference.event import Event
from reference.evidence import faults
from reference.evidence.controls.inboxes import check_then_put, no_inbox
from reference.evidence.controls.publishers import AcksNotAwaited
from reference.evidence.controls.relays import LastIdRelay, SkipLockedRelay, TransactionIdRelay
from reference.evidence.history import History
from reference.evidence.owner import OWNER, end_with
from reference.evidence.recorder import RecordingBroker, RecordingSubscription
from reference.orders import handlers, shop
from reference.orders.writing import commit_then_publish
from reference.programs import log_to_stderr, stop_on_signal

__all__ = ["CLAIMS", "DESIGNS", "SENT", "app", "carry", "carry_wrongly", "consume", "write_twice"]


class Carrier(Protocol):
    """A relay of :mod:`reference.evidence.controls.relays`."""

    def run_once(self) -> int: ...


UNAWAITED_S: Final = 1.0
SENT: Final = "sent"  # a point inside publishing: half of a page is with the broker, and nobody knows
CLAIMS: Final[dict[str, Callable[[str], Claim | None]]] = {
    "inbox": lambda _: None,
    "no inbox": lambda _: no_inbox,
    "check then put": lambda name: check_then_put(name, between=_late()),
}
DESIGNS: Final[dict[str, Callable[[psycopg.Connection[Any], Broker, str], Carrier]]] = {
    "last id": lambda conn, broker, route: LastIdRelay(conn, broker, route=route),
    "transaction id": lambda conn, broker, route: TransactionIdRelay(conn, broker, route=route),
    "skip locked": lambda conn, broker, route: SkipLockedRelay(conn, broker, page=5, route=route, at=_late()),
}
LATE_S: Final = 0.005
LATE_SHARE: Final = 0.1

app = typer.Typer()


@app.command()
def carry(
    *,
    dsn: Annotated[str, typer.Option(envvar="EDA_POSTGRES_DSN")],
    broker: Annotated[str, typer.Option(envvar="EDA_KAFKA_URL")],
    route: str = "outbox.event.{aggregatetype}",
    lanes: int = 4,
    page: int = 500,
    lease_s: float = LEASE_S,
    kill: Annotated[str, typer.Option(help="POINT:NTH, POINT one of read, sent, published, deleted, marked")] = "",
    acks: Annotated[str, typer.Option(help="awaited; or, to see what that is for, not awaited")] = "awaited",
) -> None:
    """Run one relay until it is killed. Raises :class:`ValueError` for a point that a relay does not have."""
    _log_little()
    if kill and not kill.startswith(f"{SENT}:"):
        faults.check_point("relay", kill.partition(":")[0])
    point, at = _doom(kill)
    with connect(broker, **({} if acks == "awaited" else {"timeout_s": UNAWAITED_S})) as inner:
        target = inner if acks == "awaited" else AcksNotAwaited(inner)
        between = _HalfSent(target, at) if point == SENT else target
        with Relay(dsn, between, route=route, lanes=lanes, page=page, lease_s=lease_s, at=at) as relay:
            relay.run(stop_on_signal())


@app.command()
def carry_wrongly(
    *,
    dsn: Annotated[str, typer.Option(envvar="EDA_POSTGRES_DSN")],
    broker: Annotated[str, typer.Option(envvar="EDA_KAFKA_URL")],
    route: Annotated[str, typer.Option()],
    design: Annotated[str, typer.Option(help="One of: last id, transaction id, skip locked")],
    history: Annotated[Path, typer.Option(help="A directory that this process adds a history to.")],
) -> None:
    """The controls: run a relay of another design until it is killed; what it publishes is written to a history.

    Raises :class:`ValueError` for a design that there is not.
    """
    if design not in DESIGNS:
        raise ValueError(f"no relay of the design {design!r}: there are {', '.join(DESIGNS)}")
    _log_little()
    stop = stop_on_signal()
    with (
        psycopg.connect(dsn, autocommit=True) as conn,
        connect(broker) as inner,
        RecordingBroker(inner, History(path=history)) as target,
    ):
        relay = DESIGNS[design](conn, target, route)
        while not stop.is_set():
            relay.run_once() or stop.wait(LATE_S)


@app.command()
def consume(
    *,
    dsn: Annotated[str, typer.Option(envvar="EDA_POSTGRES_DSN")],
    broker: Annotated[str, typer.Option(envvar="EDA_KAFKA_URL")],
    topic: Annotated[str, typer.Option()],
    group: Annotated[str, typer.Option()],
    history: Annotated[Path, typer.Option(help="A directory that this process adds a history to.")],
    name: str = "warehouse",
    claim: str = "inbox",
    batch: int = 100,
    kill: Annotated[str, typer.Option(help="POINT:NTH, POINT one of received, applied, committed, acked")] = "",
    twice_every: Annotated[int, typer.Option(help="Every so many deliveries, one comes twice; 0 for never")] = 0,
    shuffle: Annotated[int, typer.Option(help="So many deliveries at a time come in another order; 0 for none")] = 0,
    delay_s: Annotated[float, typer.Option(help="One delivery in ten comes up to so many seconds late; 0 for none")] = 0.0,
    seed: int = 0,
    shows: Annotated[bool, typer.Option(help="Show each order's newest event in order_status, too.")] = False,
) -> None:
    """Run one member of a consumer group, which books every amended order in the ledger, until it is killed.

    With ``shows`` it keeps the read model as well. Raises :class:`ValueError` for a point that a consumer does not have.
    """
    _log_little()
    if kill:
        faults.check_point("consumer", kill.partition(":")[0])
    _, at = _doom(kill)
    told = History(path=history)
    with connect(broker) as inner:
        if twice_every or shuffle or delay_s:
            wild = _wild(inner.subscribe([topic], group=group), told, twice_every=twice_every, shuffle=shuffle,
                         delay_s=delay_s, seed=seed)  # fmt: skip
            # Behind what reorders, a member's way through the log is not the broker's, so no offsets are told.
            subscription: Subscription = RecordingSubscription(wild, told)
        else:
            subscription = RecordingBroker(inner, told).subscribe([topic], group=group)
        booking = {"OrderAmended": partial(book, name, shows=shows)}
        with Consumer(subscription, dsn, booking, name=name, claim=CLAIMS[claim](name), at=at) as consumer:
            try:
                consumer.run(stop_on_signal(), limit=batch)
            except UnknownTopic as error:  # a broker that forgets has been started again: whoever started us knows
                raise SystemExit(str(error)) from None


@app.command()
def write_twice(
    *,
    dsn: Annotated[str, typer.Option(envvar="EDA_POSTGRES_DSN")],
    broker: Annotated[str, typer.Option(envvar="EDA_KAFKA_URL")],
    topic: str,
    history: Path,
    kill: Annotated[str, typer.Option(help="committed:NTH: after that commit, before its event is published")] = "",
    seed: int = 0,
) -> None:
    """The control: amend orders and publish each event straight after its commit, without an outbox, until killed."""
    _log_little()
    draw, stop, told = random.Random(seed), stop_on_signal(), History(path=history)
    _, at = _doom(kill)
    with psycopg.connect(dsn, autocommit=True) as conn, connect(broker) as inner, RecordingBroker(inner, told) as target:

        def change(conn: psycopg.Connection[Any]) -> Event:
            return shop.amend(conn, f"order-{draw.randrange(10)}", quantity=1)

        def publish(event: Event) -> None:
            target.publish([Message(topic, event.key, event.to_value(), event.to_headers())])

        while not stop.is_set():
            commit_then_publish(conn, change, publish, partial(at, "committed"))


def book(name: str, conn: psycopg.Connection[Any], event: Event, *, shows: bool = False) -> None:
    """One ledger entry for one event; a second one would be there, too. With ``shows``, the order's newest as well."""
    handlers.book(conn, event, consumer=name, account="amended", amount=1)
    if shows:
        handlers.show_status(conn, event)


def _wild(
    inner: Subscription, told: History, *, twice_every: int, shuffle: int, delay_s: float, seed: int
) -> Subscription:  # fmt: skip
    """Deliveries as a bad day has them: some twice, out of order within a window, and some of them late."""
    if twice_every:
        inner = faults.DeliverTwice(inner, every=twice_every, seed=seed, history=told)
    if shuffle:
        inner = faults.Shuffle(inner, window=shuffle, seed=seed, history=told)
    return faults.Delay(inner, up_to_s=delay_s, share=LATE_SHARE, seed=seed, history=told) if delay_s else inner


class _HalfSent(BrokerThrough):
    """Passes the point ``sent`` when half of what is to be published is with the broker."""

    def __init__(self, inner: Broker, at: Callable[..., None]) -> None:
        super().__init__(inner)
        self._at = at

    def publish(self, messages: Sequence[Message], *, delay_s: float = 0.0) -> None:
        half = max(1, len(messages) // 2)
        self._inner.publish(messages[:half], delay_s=delay_s)
        self._at(SENT)
        self._inner.publish(messages[half:], delay_s=delay_s)


def _doom(kill: str) -> tuple[str, Callable[..., None]]:
    point, _, nth = kill.partition(":")
    return point, faults.kill(point, nth=int(nth or 1))


def _late(seed: int = 0) -> Callable[..., None]:
    """Now and then somebody is late, as any process may be."""
    draw = random.Random(seed)
    return lambda *_: time.sleep(draw.uniform(0, LATE_S))


def _log_little() -> None:
    """What goes wrong on purpose is no news: a victim says only what nobody expected."""
    log_to_stderr()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


if __name__ == "__main__":
    if owner := os.environ.get(OWNER):
        end_with(int(owner))
    app()
