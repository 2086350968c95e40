"""The outbox carried by change data capture: read from Postgres's log instead of polled from the table.

What enters is what transactions inserted into the outbox, as a logical replication slot shows it; what leaves is confirmed
messages, in commit order over all keys. The order is the log's own, so it holds whatever positions were drawn when and
whether writers lock their aggregates or not.

Killed at any line: the slot advances only past transactions all of whose rows the broker has confirmed (or that were put
aside, see below), so whatever was not advanced past comes again, as duplicates that the inbox absorbs, and nothing is lost.
Postgres writes a slot's position down at checkpoints: after a crash of the server it may stand earlier than it did, which
is duplicates again.

A row that cannot go (no event, or refused by the broker) is put aside with what its key writes behind it, in the table
``outbox_held``, and tried again every few seconds; all other keys go on. Mend it there, or create the topic it names.

What a slot costs: **as long as it exists Postgres keeps all log that it has not passed, read or not**, until the disk is
full. :meth:`ChangeRelay.drop` it when nobody is to read it again; bound it with ``max_slot_wal_keep_size``, and know that
a slot cut off by that bound has lost what it had not shown. A transaction left open anywhere in the cluster holds the
log too, and makes each step read it again from there.

The table is not this relay's to clean, for it may not have committed what it deletes. Write with :func:`append` and the
table stays empty. Source: guide, CDC + Outbox Integration; PostgreSQL, Logical Decoding.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import islice
from types import TracebackType
from typing import Any, Final, Literal, Self

import psycopg
import structlog

from reference.brokers import Broker, BrokerUnavailable, NotConfirmed
from reference.delivery import outbox, session
from reference.delivery.aside import Aside
from reference.delivery.rows import Envelope, InvalidRow, Page
from reference.delivery.slot import Row, Slot
from reference.event import Event

__all__ = ["ChangeRelay", "Point", "append"]

Point = Literal["read", "published", "advanced"]
POLL_S: Final = 1.0

log = structlog.get_logger(__name__)


def append(conn: psycopg.Connection[Any], event: Event) -> None:
    """Write ``event`` into the outbox and delete it again, in the caller's transaction: the log has it, the table does not.

    For an outbox that change data capture alone carries: a polling relay would never see the row, and without a slot
    nobody would. As with :func:`reference.delivery.outbox.append`, nothing exists unless the caller commits.
    """
    outbox.append(conn, event)
    conn.execute("DELETE FROM outbox WHERE position = currval('outbox_position')")


class ChangeRelay:
    """The one reader of a slot. A second waits in :meth:`run`, and :meth:`run_once` tells it so, until the first is gone.

    ``dsn`` must lead to Postgres itself and to a role with ``REPLICATION``. ``changes`` is how many messages of the log one
    step looks at, in whole transactions; ``page`` is how many rows it holds in memory and publishes at once, however large
    the transaction. A reader frozen for longer than ``lease_s`` is cut off by Postgres, and another goes on from where the
    slot stands; what the first still publishes when it wakes is duplicates.

    ``at`` is called with the name of each point as a step passes it.
    """

    def __init__(
        self,
        dsn: str,
        broker: Broker,
        *,
        slot: str = "outbox",
        publication: str = "outbox",
        route: str = "outbox.event.{aggregatetype}",
        changes: int = 10_000,
        page: int = 2_000,
        retry_s: float = 5.0,
        lease_s: float = session.LEASE_S,
        at: Callable[[Point], None] = lambda point: None,
    ) -> None:
        if changes < 1 or page < 1:
            raise ValueError(f"a step must look at 1 change and a page hold 1 row at least, got {changes} and {page}")
        if lease_s <= POLL_S:
            raise ValueError(f"a lease must outlast the {POLL_S:g} s between two looks, got {lease_s:g} s")
        self._dsn, self._broker, self._at = dsn, broker, at
        self._slot, self._envelope = Slot(slot, publication), Envelope(route)
        self._changes, self._page, self._retry_s, self._lease_s = changes, page, retry_s, lease_s
        self._conn: psycopg.Connection[Any] | None = None
        self._reached = 0
        self._retry_at = 0.0
        self._standing: set[tuple[str, str]] = set()
        self._told: set[tuple[int, str]] = set()

    def create(self) -> None:
        """Make the publication and the slot if they are not there; a no-op when they are.

        Events committed before this returns may not be seen: call it before the first writer starts, or let a polling relay
        drain the table afterwards. It waits for every transaction that is open at that moment to end. Raises
        :class:`psycopg.errors.ObjectNotInPrerequisiteState` when ``wal_level`` is not ``logical``.
        """
        with self._open() as conn:
            self._slot.create(conn)

    def drop(self) -> None:
        """Remove slot and publication; what the slot had not passed is no longer kept for it. What was put aside stays.

        Raises :class:`psycopg.errors.ObjectInUse` while another process reads the slot.
        """
        self.close()
        with self._open() as conn:
            self._slot.claim(conn)
            self._slot.drop(conn)

    def run(self, stop: threading.Event) -> None:
        """Carry events until ``stop`` is set, waking at each commit and at least once a second.

        A database or broker that is away, or a slot that another reads, is named in the log and tried again. A slot that
        does not exist ends it: what was committed since it vanished is in no log, and a person must know.
        """
        pause_s = 0.1
        while not stop.is_set():
            try:
                if not self.run_once():
                    list(self.connect().notifies(timeout=POLL_S, stop_after=1))
                pause_s = 0.1
            except (BrokerUnavailable, *session.CUT_OFF) as error:
                log.error("relay.waiting", reason=str(error).strip(), database=session.address(self._dsn), retry_in_s=pause_s)
                self.close()
                stop.wait(pause_s)
                pause_s = min(2 * pause_s, 5.0)

    def run_once(self) -> int:
        """One step: publish what the log shows, in whole transactions, then advance; returns the number of events that went.

        Raises :class:`BrokerUnavailable` or :class:`psycopg.OperationalError`, naming the address, when either is away;
        :class:`psycopg.errors.ObjectInUse`, which is one of the latter, while another process reads the slot; and
        :class:`psycopg.errors.UndefinedObject` when there is no slot.
        """
        conn = self.connect()
        aside = Aside(conn, page=self._page)
        done = self._retry(conn, aside)
        with conn.transaction(), self._slot.look(conn, limit=self._changes, page=self._page) as look:
            self._standing = aside.keys()
            while rows := list(islice(look.rows, self._page)):
                self._at("read")
                stays = self._publish(rows)
                aside.put(stays)
                done += len(rows) - len(stays)
                self._at("published")
        if look.reached > self._reached:
            self._slot.advance(conn, look.reached)
            self._reached = look.reached
        if look.end:
            self._at("advanced")
        return done

    def _publish(self, rows: list[Row]) -> list[tuple[Row, str]]:
        """Publish what can go; return, in order, what cannot, with the reason. Nothing passes such a row of its key."""
        stays: dict[int, str] = {}
        for index, row in enumerate(rows):
            try:
                if row[2:4] not in self._standing:
                    self._envelope.check(row)
                    continue
                stays[index] = "behind a row of its key that cannot go"
            except InvalidRow as error:
                stays[index] = self._stand(row, str(error))
        going = [index for index in range(len(rows)) if index not in stays]
        try:
            self._broker.publish(Page(self._envelope, [rows[index] for index in going]))
        except NotConfirmed as error:
            refused = {going[index]: reason for index, reason in error.failures.items()}
            stays |= self._refused(rows, going, refused)
        return [(rows[index], stays[index]) for index in sorted(stays)]

    def _refused(self, rows: list[Row], going: list[int], refused: dict[int, str]) -> dict[int, str]:
        """What the broker refused, and what stands behind it in the same key, sent or not: it is sent after it, again."""
        stays: dict[int, str] = {}
        standing: set[tuple[str, str]] = set()
        for index in going:
            if rows[index][2:4] in standing:
                stays[index] = "behind a row of its key that cannot go"
            elif index in refused:
                standing.add(rows[index][2:4])
                stays[index] = self._stand(rows[index], refused[index])
        return stays

    def _stand(self, row: Row, reason: str) -> str:
        """Let the row's key stand, and say so once."""
        position, event_id, aggregatetype, aggregateid = row[:4]
        self._standing.add((aggregatetype, aggregateid))
        if (position, reason) not in self._told:
            self._told.add((position, reason))
            log.error("relay.row_held", position=position, id=event_id, aggregatetype=aggregatetype[:80],
                      aggregateid=aggregateid[:80], reason=reason)  # fmt: skip
        return reason

    def _retry(self, conn: psycopg.Connection[Any], aside: Aside) -> int:
        """When it is time, try what was put aside again, in commit order; returns how many went."""
        if time.monotonic() < self._retry_at:
            return 0
        self._retry_at, self._standing, done = time.monotonic() + self._retry_s, set(), 0
        with conn.transaction():
            for rows in aside.pages(self._standing):
                stays = {row[0] for row, _ in self._publish(rows)}
                gone = [row for row in rows if row[0] not in stays]
                aside.remove(gone)
                done += len(gone)
        return done

    def connect(self) -> psycopg.Connection[Any]:
        """The session that owns the slot, opened on first use. Raises as :meth:`run_once` does."""
        if self._conn is None or self._conn.closed:
            conn = self._open()
            try:
                self._slot.claim(conn)
                self._reached = self._slot.position(conn)
            except BaseException:
                conn.close()
                raise
            self._conn, self._retry_at = conn, 0.0
        return self._conn

    def _open(self) -> psycopg.Connection[Any]:
        conn = session.reader(self._dsn, lease_s=self._lease_s)
        conn.execute("SET client_encoding = 'UTF8'")
        return conn

    def close(self) -> None:
        """Let go of the slot for another reader; it stays, and keeps the log. See :meth:`drop`."""
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
