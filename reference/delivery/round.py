"""A round of the relay: what one snapshot of the outbox shows of some buckets is published and deleted, page by page.

What enters is a :class:`Table` and the buckets that are ours, what leaves is confirmed messages and the rows' absence. Why
a round keeps the order: a writer draws its row's position while it holds the aggregate's lock, and lets go of the lock only
once its rows are visible. So any one snapshot holds a prefix of each key, and position order inside one snapshot is commit
order per key. Across snapshots it is not: a transaction may draw a position and commit long after a later one was read.
Hence nothing is remembered between rounds but the rows themselves.

Killed at any line: before the broker confirmed, the rows are still there and go again; after it and before they are
deleted, they go again too, as duplicates that the inbox absorbs; no row is deleted that was not confirmed. No database is
known here by name: :mod:`reference.delivery.table` has Postgres.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing
from typing import Any, Final, Literal, NamedTuple, Protocol

import structlog

from reference.brokers import Broker, NotConfirmed
from reference.delivery.held import HeldKeys
from reference.delivery.machine import HERE, Machine
from reference.delivery.rows import Envelope, InvalidRow, Page

__all__ = ["Carried", "Overtaken", "Point", "Round", "Rows", "Table"]

Point = Literal["read", "published", "deleted", "marked"]
Rows = list[tuple[Any, ...]]
Keys = tuple[list[str], list[str]]  # aggregate types and aggregate ids, in pairs

PAGES_A_ROUND: Final = 25
PAGE_BYTES: Final = 4 * 1024 * 1024  # confirmed within the lease even by a broker that takes only 150 kB a second

log = structlog.get_logger(__name__)


class Overtaken(Exception):
    """Somebody else deleted a row that our snapshot shows: our buckets are another relay's by now."""


class Carried(NamedTuple):
    """Which rows of a snapshot have gone: those between two positions, but for ``held`` keys.

    Of these, too, the ones at ``gone_before`` have gone: they stood before the row that could not.
    """

    first: int
    last: int
    buckets: list[int]
    held: Keys
    gone_before: list[int]


class Table(Protocol):
    """What a round needs of an outbox. Whatever a call raises ends the round; the rows are still there."""

    def snapshot(self) -> AbstractContextManager[None]:
        """A transaction that sees one moment of the table. Raises :class:`Overtaken` when its deletes came second."""

    def read(self, buckets: list[int], *, after: int, held: Keys, rows: int, size: int) -> Rows:
        """The snapshot's next page: so many rows behind a position, or fewer when they are large, held keys left out."""

    def export(self) -> str:
        """The snapshot's name, for :meth:`mark`."""

    def delete(self, carried: Carried) -> None:
        """Delete in the snapshot's own transaction."""

    def mark(self, snapshot: str, carried: Carried, *, deleted: Callable[[], None]) -> None:
        """Delete, committed on return, in a session of its own that sees the same snapshot. Raises :class:`Overtaken`.

        ``deleted`` is called before the commit.
        """


class Round:
    """How a relay carries what is its own, one :meth:`carry` after another. ``held`` outlives each; see :class:`HeldKeys`."""

    def __init__(
        self, table: Table, broker: Broker, envelope: Envelope, *, page: int, at: Callable[[Point], None], machine: Machine = HERE
    ) -> None:
        self._table, self._broker, self._envelope = table, broker, envelope
        self._page, self._at = page, at
        self._marking, self._reading = machine.executor("relay-mark"), machine.executor("relay-read")
        self.held = HeldKeys(clock=machine.clock)

    def carry(self, buckets: list[int]) -> int:
        """Publish and delete what one snapshot shows of ``buckets``; return the number of events. Raises as the table does."""
        self.held.expire()
        marks: list[Future[None]] = []
        try:
            with self._table.snapshot():
                done = self._carry(buckets, marks)
            if done and not marks:
                self._at("marked")
            return done
        except Overtaken:
            log.info("relay.round_left", reason="another relay marked these rows: the lanes changed hands")
            return 0
        finally:
            for mark in marks:  # the next round, or whoever closes us, must not meet a page half marked
                mark.exception()

    def _carry(self, buckets: list[int], marks: list[Future[None]]) -> int:
        """Publish and mark page by page. A lone short page, the usual case when idle, is marked in the same transaction."""
        done = 0
        with closing(self._pages(buckets)) as pages:
            for rows, snapshot in pages:
                self._at("read")
                done += self._publish(rows)
                carried = Carried(rows[0][0], rows[-1][0], buckets, self.held.parameters, self.held.gone_before(rows))
                if not snapshot:
                    self._table.delete(carried)
                    self._at("deleted")
                    continue
                _settle(marks[:-1])  # at most two pages wait for their mark
                marks.append(self._marking.submit(self._mark, snapshot, carried))
        _settle(marks)  # the next round's snapshot must not show what this one has published
        return done

    def _pages(self, buckets: list[int]) -> Generator[tuple[Rows, str], None, None]:
        """The snapshot's pages, and its name when there are several; the next page is read while this one is published."""
        rows, snapshot = self._read(buckets, 0, self.held.parameters), ""
        for _ in range(PAGES_A_ROUND):
            if self._is_last(rows):
                if rows:
                    yield rows, snapshot
                return
            snapshot = snapshot or self._table.export()
            ahead = self._reading.submit(self._read, buckets, rows[-1][0], self.held.parameters)
            try:
                yield rows, snapshot
            finally:
                ahead.exception()  # until then the session is not ours to end the transaction on
            rows = ahead.result()

    def _read(self, buckets: list[int], after: int, held: Keys) -> Rows:
        return self._table.read(buckets, after=after, held=held, rows=self._page, size=PAGE_BYTES)

    def _is_last(self, rows: Rows) -> bool:
        """Whether the snapshot shows nothing behind this page. Told wrongly, the round ends early and another begins."""
        return len(rows) < self._page and sum(len(row[5]) for row in rows) < PAGE_BYTES // 2

    def _publish(self, rows: Rows) -> int:
        """Publish a page; hold back the key of every row that cannot go. Returns how many went."""
        going = self._going(rows)
        try:
            self._broker.publish(Page(self._envelope, going))
        except NotConfirmed as error:
            for index, reason in error.failures.items():
                self.held.hold(going[index], reason)
        self._at("published")
        return sum(row not in self.held for row in going) if self.held else len(going)

    def _going(self, rows: Rows) -> Rows:
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

    def _mark(self, snapshot: str, carried: Carried) -> None:
        """Delete a page as the round's snapshot shows it, while the round goes on to the next."""
        self._table.mark(snapshot, carried, deleted=lambda: self._at("deleted"))
        self._at("marked")

    def close(self) -> None:
        """Wait for what is being read or marked, and end both threads."""
        self._marking.shutdown()
        self._reading.shutdown()


def _settle(marks: list[Future[None]]) -> None:
    for mark in marks:
        mark.result()
