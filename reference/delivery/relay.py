"""The relay: carries committed outbox rows to the broker, in rounds, each inside one snapshot of the table.

What enters is the outbox, what leaves is confirmed messages and the rows' absence. :mod:`reference.delivery.round` says why
that keeps each key's order; here is what goes on from round to round: waiting, and coming back from whatever went away.

Killed at any line: no committed row is lost, and none is deleted that was not confirmed; some go twice, as duplicates that
the inbox absorbs. Source: guide, Outbox Relay Implementations, which calls marking atomic: across a database and a broker
it cannot be.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import psycopg
import structlog

from reference.brokers import Broker, BrokerUnavailable
from reference.delivery import session
from reference.delivery.held import HeldKeys
from reference.delivery.lanes import Lanes
from reference.delivery.machine import HERE, Machine
from reference.delivery.round import Point, Round
from reference.delivery.rows import Envelope
from reference.delivery.table import Table

__all__ = ["Point", "Relay"]

POLL_S: Final = 1.0

log = structlog.get_logger(__name__)


class Relay:
    """One relay process's work. Any number of them, killed at any point, may run against one table.

    ``dsn`` must lead to Postgres itself, not to a pooler that shares sessions: the relay's claim on its lanes lives and
    dies with its connection. A relay frozen for longer than ``lease_s`` is cut off by Postgres and its lanes go to
    another; when it wakes it may publish a page again behind newer events, which the inbox absorbs.

    ``at`` is called with the name of each point as a round passes it; it does nothing unless a test or a lab says so.
    ``machine`` is where it runs: a simulation's, or this one.
    """

    def __init__(
        self,
        dsn: str,
        broker: Broker,
        *,
        route: str = "outbox.event.{aggregatetype}",
        lanes: int = 16,
        page: int = 5_000,
        lease_s: float = session.LEASE_S,
        at: Callable[[Point], None] = lambda point: None,
        machine: Machine = HERE,
    ) -> None:
        if page < 1:
            raise ValueError(f"a page must hold at least 1 row, got {page}")
        if lease_s <= POLL_S:
            raise ValueError(f"a lease must outlast the {POLL_S:g} s between two looks, got {lease_s:g} s")
        self._dsn = dsn
        self._table = Table(dsn, lanes=lanes, lease_s=lease_s, machine=machine)
        self._round = Round(self._table, broker, Envelope(route), page=page, at=at, machine=machine)

    @property
    def held(self) -> HeldKeys:
        """The keys that stand still because one of their rows cannot go."""
        return self._round.held

    @held.setter
    def held(self, keys: HeldKeys) -> None:
        self._round.held = keys

    def run(self, stop: threading.Event) -> None:
        """Carry events until ``stop`` is set, waking at each commit and at least once a second.

        A database or broker that goes away is named in the log and tried again; nothing is lost meanwhile.
        """
        pause_s = 0.1
        while not stop.is_set():
            try:
                if not self.run_once():
                    self._table.wait(POLL_S)
                pause_s = 0.1
            except (BrokerUnavailable, *session.CUT_OFF) as error:
                log.error("relay.waiting", reason=str(error).strip(), database=session.address(self._dsn), retry_in_s=pause_s)
                self._table.close()
                stop.wait(pause_s)
                pause_s = min(2 * pause_s, 5.0)

    def run_once(self) -> int:
        """One round: publish and delete what one snapshot shows of this relay's lanes; return the number of events.

        Raises :class:`BrokerUnavailable` or :class:`psycopg.OperationalError`, naming the address, when either is away.
        """
        buckets = self._table.buckets()
        return self._round.carry(buckets) if buckets else 0

    def connect(self) -> tuple[psycopg.Connection[Any], Lanes]:
        """The session and its lanes, opened on first use. Raises :class:`psycopg.OperationalError`, naming the address."""
        return self._table.connect()

    def close(self) -> None:
        self._round.close()
        self._table.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
