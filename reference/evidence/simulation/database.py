"""A made-up Postgres, as far as relays, writers and consumers can tell: transactions, snapshots, locks and sessions.

Statements are acted out in :mod:`.statements` on what stands here. What is true to Postgres and matters: a commit makes all
rows of a transaction visible at once, and its locks are free only then; a sequence's number is drawn at once, whatever
becomes of the transaction; a transaction that is ``isolated`` (REPEATABLE READ) sees one moment for ever, and may not delete
what others deleted since; a second insert of a unique key waits for the first; locks end with their session, and a session
ends when its lease is over or somebody says so. What is left out: everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import psycopg

from reference.evidence.simulation.scheduler import Process, Scheduler

__all__ = ["Aggregate", "Database", "Session", "Transaction", "Version"]

Ending = Literal["cut", "shutdown", "idle", "idle in transaction"]

ENDINGS: Final[dict[Ending, Callable[[], psycopg.Error]]] = {
    "cut": lambda: psycopg.OperationalError("the connection is lost"),
    "shutdown": lambda: psycopg.errors.AdminShutdown("terminating connection due to administrator command"),
    "idle": lambda: psycopg.errors.IdleSessionTimeout("terminating connection due to idle-session timeout"),
    "idle in transaction": lambda: psycopg.errors.IdleInTransactionSessionTimeout(
        "terminating connection due to idle-in-transaction timeout"
    ),
}


@dataclass(eq=False, slots=True)
class Version:
    """One version of an outbox row: by whom it was made, deleted and locked."""

    row: tuple[Any, ...]
    lane: int
    made_by: Transaction
    deleted_by: Transaction | None = None
    locked_by: Transaction | None = None


@dataclass(eq=False, slots=True)
class Aggregate:
    """A row that writers lock: its committed version, and the last transaction that changed it."""

    version: int = 0
    changed_by: Transaction | None = None


@dataclass(eq=False, slots=True)
class Transaction:
    """``number`` counts commits: 0 until it has one. ``xid`` is drawn at the first write. ``snapshot`` is a number of commits."""

    session: Session
    isolated: bool
    snapshot: int | None = None
    number: int = 0
    xid: int = 0
    open: bool = True
    failed: bool = False
    deleted: list[Version] = field(default_factory=list)
    inserted: list[Version] = field(default_factory=list)
    changed: dict[str, int] = field(default_factory=dict)
    effects: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def committed(self) -> bool:
        return self.number > 0


@dataclass(eq=False, slots=True)
class Session:
    """A backend: what the server knows of one connection."""

    process: Process
    name: str
    active_at: float
    transaction: Transaction | None = None
    ending: Ending | None = None
    listening: bool = False
    notified: bool = False
    busy: bool = False
    idle_s: float = 0.0
    idle_in_transaction_s: float = 0.0
    waits_for: Transaction | None = None

    @property
    def error(self) -> psycopg.Error:
        return ENDINGS[self.ending or "cut"]()


class Database:
    """``ended`` is told of every transaction that ends, in the instant in which it does."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.ended: Callable[[Transaction], None] = lambda transaction: None
        self.commits, self.position, self.xid = 0, 0, 100
        self.sessions: list[Session] = []
        self.outbox: list[Version] = []
        self.aggregates: dict[str, Aggregate] = {}
        self.inbox: dict[tuple[str, str], Transaction] = {}
        self.locks: dict[int, Session] = {}
        self.members: dict[int, list[Session]] = {}
        self.exported: dict[str, Transaction] = {}
        self.down_until = 0.0
        self._names = 0

    # -- sessions --------------------------------------------------------------------------------------------------------

    def open(self, process: Process) -> Session:
        if self.down_until > self.scheduler.now:
            raise psycopg.OperationalError("connection refused")
        self._names += 1
        session = Session(process, f"{process.name}#{self._names}", self.scheduler.now)
        self.sessions.append(session)
        return session

    def end(self, session: Session, ending: Ending) -> None:
        """Roll back, free every lock, be gone. The client is told when it next asks."""
        if session.ending is None:
            session.ending, session.waits_for = ending, None
            self.sessions.remove(session)
            self.locks = {bucket: holder for bucket, holder in self.locks.items() if holder is not session}
            for member in self.members.values():
                if session in member:
                    member.remove(session)
            if session.transaction is not None and session.transaction.open:
                self.abort(session.transaction)

    def reap(self) -> None:
        """End the sessions whose lease is over; a statement that is being worked on is not idle, unless nobody is there."""
        now = self.scheduler.now
        for session in list(self.sessions):
            if session.busy and not session.process.frozen:
                continue
            inside = session.transaction is not None
            limit = session.idle_in_transaction_s if inside else session.idle_s
            if limit and now - session.active_at > limit:
                self.scheduler.note(session.name, "is cut off: idle for longer than its lease")
                self.end(session, "idle in transaction" if inside else "idle")

    # -- transactions ----------------------------------------------------------------------------------------------------

    def begin(self, session: Session, *, isolated: bool) -> Transaction:
        session.transaction = Transaction(session, isolated)
        return session.transaction

    def commit(self, transaction: Transaction) -> None:
        if transaction.failed:
            return
        self.commits += 1
        transaction.number, transaction.open = self.commits, False
        for key, version in transaction.changed.items():
            self.aggregates[key].version = version
        if transaction.inserted:
            for session in self.sessions:
                session.notified |= session.listening
        self.ended(transaction)

    def abort(self, transaction: Transaction) -> None:
        transaction.open = False
        for version in transaction.deleted:
            version.deleted_by = None
        self.ended(transaction)

    def see(self, transaction: Transaction) -> int:
        """The moment that a statement of it sees."""
        if not transaction.isolated:
            return self.commits
        if transaction.snapshot is None:
            transaction.snapshot = self.commits
        return transaction.snapshot

    def visible(self, transaction: Transaction) -> list[Version]:
        """The outbox as a statement of it sees it, by position."""
        moment = self.see(transaction)

        def happened(by: Transaction) -> bool:
            return by is transaction or 0 < by.number <= moment

        shown = [v for v in self.outbox if happened(v.made_by) and not (v.deleted_by is not None and happened(v.deleted_by))]
        return sorted(shown, key=lambda version: version.row[0])

    def number(self, transaction: Transaction) -> int:
        """Its id, drawn when it first needs one."""
        if not transaction.xid:
            self.xid += 1
            transaction.xid = self.xid
        return transaction.xid

    def oldest(self) -> int:
        """The lowest id that is still at work, else the next."""
        at_work = [s.transaction.xid for s in self.sessions if s.transaction is not None and s.transaction.open]
        return min([xid for xid in at_work if xid], default=self.xid + 1)

    def wait_for(self, transaction: Transaction, other: Transaction | None) -> None:
        """Wait until ``other``, which holds what is wanted, has ended. Raises psycopg's ``DeadlockDetected``."""
        if other is None or other is transaction or not other.open:
            return
        session = transaction.session
        session.waits_for = other
        behind: Transaction | None = other
        while behind is not None and behind.open:
            if behind is transaction:
                session.waits_for = None
                raise psycopg.errors.DeadlockDetected("deadlock detected")
            behind = behind.session.waits_for
        self.scheduler.wait(f"waits for {other.session.name}", ready=lambda: not other.open or session.ending is not None)
        session.waits_for = None
        if session.ending is not None:
            raise session.error

    def waiting(self) -> list[Version]:
        """Committed rows that are still in the outbox."""
        return [v for v in self.outbox if v.made_by.committed and not (v.deleted_by is not None and v.deleted_by.committed)]
