"""The logical replication slot and the publication through which a change relay reads the outbox.

What enters is the database's log, what leaves is outbox rows in commit order and a position that moves forward. Killed at
any line: a look changes nothing, only :meth:`Slot.advance` does. **As long as a slot exists Postgres keeps all log that it
has not passed, read or not**, until the disk is full. Source: PostgreSQL, Logical Decoding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from reference.delivery import pgoutput

__all__ = ["Look", "Row", "Slot"]

_PEEK: Final = (
    "SELECT data FROM pg_logical_slot_peek_binary_changes(%s::name, NULL, %s::int,"
    " 'proto_version', '1', 'publication_names', quote_ident(%s))"
)
_STANDS: Final = (
    "SELECT plugin = 'pgoutput' AND database = current_database(), (confirmed_flush_lsn - '0/0')::bigint"
    " FROM pg_replication_slots WHERE slot_name = %s"
)
_PUBLISHES: Final = (
    "SELECT 1 FROM pg_publication_tables JOIN pg_publication USING (pubname)"
    " WHERE pubname = %s AND pubinsert AND to_regclass(format('%%I.%%I', schemaname, tablename)) = to_regclass('outbox')"
)
_NAMES: Final = ("position", "id", "aggregatetype", "aggregateid", "type", "payload", "headers", "created_at")

Row = tuple[Any, ...]


@dataclass(slots=True)
class Look:
    """One look into the log: how many messages it has shown, and where the last whole transaction ended (0: none)."""

    rows: Iterator[Row]
    flushed: int
    limit: int
    messages: int = 0
    end: int = 0

    @property
    def reached(self) -> int:
        """To where the slot may go once all rows are taken care of.

        A look that came to the log's end may let it pass what was flushed before the look, too: transactions of other tables,
        whose log an idle outbox would otherwise keep. Whatever of ours committed before that, the look has shown.
        """
        return self.end if self.messages >= self.limit else max(self.end, self.flushed)


class Slot:
    """A slot by its name, and what it publishes by another. Both are made by :meth:`create`; slots' names are the cluster's."""

    def __init__(self, name: str, publication: str) -> None:
        self.name, self._publication = name, publication

    def create(self, conn: psycopg.Connection[Any]) -> None:
        """Make publication and slot if they are not there. It waits for every transaction open at this moment to end."""
        publication = sql.SQL("CREATE PUBLICATION {} FOR TABLE outbox WITH (publish = 'insert')")
        with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            conn.execute(publication.format(sql.Identifier(self._publication)))
        # In this order: decoding looks the publication up as it was when the row was written.
        with suppress(psycopg.errors.DuplicateObject):
            conn.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (self.name,))
        self.position(conn)

    def drop(self, conn: psycopg.Connection[Any]) -> None:
        """Remove both; from now on nothing is kept for this slot."""
        conn.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            " WHERE slot_name = %s AND database = current_database()",
            (self.name,),
        )
        conn.execute(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(self._publication)))

    def claim(self, conn: psycopg.Connection[Any]) -> None:
        """Be the only reader while ``conn`` lives. Postgres itself refuses a second one only for the length of a call."""
        row = conn.execute("SELECT pg_try_advisory_lock(hashtextextended('outbox slot ' || %s, 0))", (self.name,)).fetchone()
        if not (row and row[0]):
            raise psycopg.errors.ObjectInUse(f"another process reads slot {self.name!r} of database {conn.info.dbname}")

    def position(self, conn: psycopg.Connection[Any]) -> int:
        """Where the slot stands, after a look at whether slot and publication are what an outbox needs."""
        database = conn.info.dbname
        slot = conn.execute(_STANDS, (self.name,)).fetchone()
        if slot is None:
            raise psycopg.errors.UndefinedObject(f"database {database} has no slot {self.name!r}: create() makes it")
        if not slot[0]:
            raise psycopg.errors.WrongObjectType(f"slot {self.name!r} is not a pgoutput slot of {database}: take another name")
        if conn.execute(_PUBLISHES, (self._publication,)).fetchone() is None:
            raise psycopg.errors.UndefinedObject(
                f"publication {self._publication!r} of {database} does not publish what is inserted into the outbox"
            )
        return int(slot[1])

    @contextmanager
    def look(self, conn: psycopg.Connection[Any], *, limit: int, page: int) -> Iterator[Look]:
        """What has committed behind the slot's position: whole transactions, until they make up ``limit`` messages.

        The server keeps what it decoded and hands it out ``page`` messages at a time, however large a transaction is. To be
        called inside a transaction, and the rows to be taken before it ends.
        """
        row = conn.execute("SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint").fetchone()
        with conn.cursor("changes", binary=True) as cursor:
            cursor.itersize = page
            cursor.execute(_PEEK, (self.name, limit, self._publication))
            look = Look(iter(()), flushed=int(row[0]) if row else 0, limit=limit)
            look.rows = _rows(cursor, look)
            yield look

    def advance(self, conn: psycopg.Connection[Any], position: int) -> None:
        """Pass everything that ended before ``position``. Postgres writes it down at its next checkpoint."""
        conn.execute("SELECT pg_replication_slot_advance(%s, %s::pg_lsn)", (self.name, pgoutput.lsn(position)))


def _rows(messages: Iterable[tuple[bytes]], look: Look) -> Iterator[Row]:
    """The outbox rows among the log's messages, as :data:`reference.delivery.rows.COLUMNS` has them."""
    places: dict[int, tuple[int, ...]] = {}  # by table: where our columns stand in its rows
    for (data,) in messages:
        look.messages += 1
        match pgoutput.parse(data):
            case pgoutput.Insert(oid, values) if oid in places:
                position, *texts = (values[place] for place in places[oid])
                yield (int(position or 0), *texts)
            case pgoutput.Commit(end):
                look.end = end
            case pgoutput.Relation(oid, _, "outbox", columns):
                places[oid] = tuple(map(columns.index, _NAMES))
