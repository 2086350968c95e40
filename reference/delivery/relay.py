"""The relay: carries committed outbox rows to the broker, in rounds, each inside one snapshot of the table.

What enters is the outbox, what leaves is confirmed messages and the rows' absence. Why a round keeps the order: a
writer draws its row's position while it holds the aggregate's lock, and lets go of the lock only once its rows are
visible. So any one snapshot holds a prefix of each key, and position order inside one snapshot is commit order per key.
Across snapshots it is not: a transaction may draw a position and commit long after a later one was read. Hence nothing
is remembered between rounds but the rows themselves.

Killed at any line: before the broker confirmed, the rows are still there and go again; after it and before they are
deleted, they go again too, as duplicates that the inbox absorbs; no row is deleted that was not confirmed. Source:
guide, Outbox Relay Implementations, which calls marking atomic: across a database and a broker it cannot be.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from types import TracebackType
from typing import Any, Final, Literal, Self

import psycopg
import structlog

from reference.brokers import Broker, BrokerUnavailable, NotConfirmed
from reference.delivery import session
from reference.delivery.held import NOT_HELD, HeldKeys
from reference.delivery.lanes import Lanes
from reference.delivery.rows import COLUMNS, Envelope, InvalidRow, Page

__all__ = ["Point", "Relay"]

Point = Literal["read", "published", "marked"]
POLL_S: Final = 1.0
PAGES_A_ROUND: Final = 25
PAGE_BYTES: Final = 4 * 1024 * 1024  # confirmed within the lease even by a broker that takes only 150 kB a second

log = structlog.get_logger(__name__)
_Rows = list[tuple[Any, ...]]


class Relay:
    """One relay process's work. Any number of them, killed at any point, may run against one table.

    ``dsn`` must lead to Postgres itself, not to a pooler that shares sessions: the relay's claim on its lanes lives and
    dies with its connection. A relay frozen for longer than ``lease_s`` is cut off by Postgres and its lanes go to
    another; when it wakes it may publish a page again behind newer events, which the inbox absorbs.

    ``at`` is called with the name of each point as a round passes it; it does nothing unless a test or a lab says so.
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
    ) -> None:
        if page < 1:
            raise ValueError(f"a page must hold at least 1 row, got {page}")
        if lease_s <= POLL_S:
            raise ValueError(f"a lease must outlast the {POLL_S:g} s between two looks, got {lease_s:g} s")
        self._dsn, self._broker, self._at = dsn, broker, at
        self._envelope = Envelope(route)
        self._lane_count, self._page, self._lease_s = lanes, page, lease_s
        self._reader: tuple[psycopg.Connection[Any], Lanes] | None = None
        self._marker: psycopg.Connection[Any] | None = None
        self._marking = ThreadPoolExecutor(1, thread_name_prefix="relay-mark")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="relay-read")
        self.held = HeldKeys()

    def run(self, stop: threading.Event) -> None:
        """Carry events until ``stop`` is set, waking at each commit and at least once a second.

        A database or broker that goes away is named in the log and tried again; nothing is lost meanwhile.
        """
        pause_s = 0.1
        while not stop.is_set():
            try:
                if not self.run_once():
                    self._wait()
                pause_s = 0.1
            except (BrokerUnavailable, *session.CUT_OFF) as error:
                log.error("relay.waiting", reason=str(error).strip(), database=session.address(self._dsn), retry_in_s=pause_s)
                self._disconnect()
                stop.wait(pause_s)
                pause_s = min(2 * pause_s, 5.0)

    def run_once(self) -> int:
        """One round: publish and delete what one snapshot shows of this relay's lanes; return the number of events.

        Raises :class:`BrokerUnavailable` or :class:`psycopg.OperationalError`, naming the address, when either is away.
        """
        reader, lanes = self.connect()
        buckets = lanes.tend()
        if not buckets:
            return 0
        self.held.expire()
        marks: list[Future[None]] = []
        try:
            with reader.transaction():
                done = self._round(reader, buckets, marks)
            if done and not marks:
                self._at("marked")
            return done
        except psycopg.errors.SerializationFailure:
            log.info("relay.round_left", reason="another relay marked these rows: the lanes changed hands")
            return 0
        finally:
            wait(marks)  # the next round, or whoever closes us, must not meet a page half marked

    def _round(self, reader: psycopg.Connection[Any], buckets: list[int], marks: list[Future[None]]) -> int:
        """Publish and mark page by page. A lone short page, the usual case when idle, is marked in the same transaction."""
        done = 0
        with closing(self._pages(reader, buckets)) as pages:
            for rows, snapshot in pages:
                self._at("read")
                done += self._publish(rows)
                what = (rows[0][0], rows[-1][0], buckets, *self.held.parameters, self.held.gone_before(rows))
                if not snapshot:
                    self._delete(reader, what)
                    continue
                _settle(marks[:-1])  # at most two pages wait for their mark
                marks.append(self._marking.submit(self._mark, snapshot, what))
        _settle(marks)  # the next round's snapshot must not show what this one has published
        return done

    def _pages(self, reader: psycopg.Connection[Any], buckets: list[int]) -> Generator[tuple[_Rows, str], None, None]:
        """The snapshot's pages, and its name when there are several; the next page is read while this one is published."""
        rows, snapshot = self._read(reader, buckets, 0, self.held.parameters), ""
        for _ in range(PAGES_A_ROUND):
            if self._is_last(rows):
                if rows:
                    yield rows, snapshot
                return
            snapshot = snapshot or session.export_snapshot(reader)
            ahead = self._reading.submit(self._read, reader, buckets, rows[-1][0], self.held.parameters)
            try:
                yield rows, snapshot
            finally:
                wait([ahead])  # until then the session is not ours to end the transaction on
            rows = ahead.result()

    def _read(self, reader: psycopg.Connection[Any], buckets: list[int], last: int, held: tuple[list[str], list[str]]) -> _Rows:
        """The next page: so many rows, or fewer when they are large, for a page must fit memory and be confirmed in time."""
        return reader.execute(
            f"SELECT {COLUMNS} FROM (SELECT *, sum(pg_column_size(payload)) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING)"
            f" - pg_column_size(payload) AS before FROM outbox WHERE lane = ANY(%s) AND position > %s AND {NOT_HELD}"
            " ORDER BY position LIMIT %s) AS page WHERE before < %s ORDER BY position",
            (buckets, last, *held, self._page, PAGE_BYTES),
        ).fetchall()

    def _is_last(self, rows: _Rows) -> bool:
        """Whether the snapshot shows nothing behind this page. Told wrongly, the round ends early and another begins."""
        return len(rows) < self._page and sum(len(row[5]) for row in rows) < PAGE_BYTES // 2

    def _publish(self, rows: _Rows) -> int:
        """Publish a page; hold back the key of every row that cannot go. Returns how many went."""
        going = self._going(rows)
        try:
            self._broker.publish(Page(self._envelope, going))
        except NotConfirmed as error:
            for index, reason in error.failures.items():
                self.held.hold(going[index], reason)
        self._at("published")
        return sum(row not in self.held for row in going) if self.held else len(going)

    def _going(self, rows: _Rows) -> _Rows:
        """The rows that may go; nothing passes a held row of its key."""
        check, held, going = self._envelope.check, self.held, []
        for row in rows:
            if held and row in held:
                continue
            try:
                check(row)
            except InvalidRow as error:
                held.hold(row, str(error))
            else:
                going.append(row)
        return going

    def _mark(self, snapshot: str, what: tuple[Any, ...]) -> None:
        """Delete a page as the reader's snapshot shows it, while the reader goes on to the next."""
        if self._marker is None or self._marker.closed:
            self._marker = session.marker(self._dsn, lease_s=self._lease_s)
        with self._marker.transaction():
            session.import_snapshot(self._marker, snapshot)
            self._delete(self._marker, what)
        self._at("marked")

    def _delete(self, conn: psycopg.Connection[Any], what: tuple[Any, ...]) -> None:
        """Delete exactly what was read between two positions and went; a key held meanwhile keeps the rest of its rows."""
        conn.execute(
            "DELETE FROM outbox WHERE position BETWEEN %s AND %s AND lane = ANY(%s)"
            f" AND ({NOT_HELD} OR position = ANY(%s::bigint[]))",
            what,
        )

    def _wait(self) -> None:
        """Sleep until a transaction that wrote to the outbox commits, at most a second."""
        reader, _ = self.connect()
        for _ in reader.notifies(timeout=POLL_S, stop_after=1):
            return

    def connect(self) -> tuple[psycopg.Connection[Any], Lanes]:
        """The session and its lanes, opened on first use. Raises :class:`psycopg.OperationalError`, naming the address."""
        if self._reader is not None and self._reader[0].closed:  # cut off: the lanes are gone with it
            self._disconnect()
        if self._reader is None:
            reader = session.reader(self._dsn, lease_s=self._lease_s)
            self._reader = reader, Lanes(reader, self._lane_count)
        return self._reader

    def _disconnect(self) -> None:
        """Let go of the lanes and of whatever the connections still had open."""
        for conn in (self._reader[0] if self._reader else None, self._marker):
            if conn is not None:
                conn.close()
        self._reader = self._marker = None

    def close(self) -> None:
        self._marking.shutdown()
        self._reading.shutdown()
        self._disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _settle(marks: list[Future[None]]) -> None:
    for mark in marks:
        mark.result()
