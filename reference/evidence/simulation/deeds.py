"""What the made-up Postgres does on hearing each statement that :mod:`.statements` knows: one deed each, in the order of a
row's life.

Every deed is given the database, the transaction in which it happens, the statement and its parameters. It waits where
Postgres would wait, and raises what Postgres would raise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple
from zlib import crc32

import psycopg

from reference.evidence.simulation.database import Aggregate, Database, Transaction, Version

__all__ = [
    "Result",
    "append_event",
    "ask_seen",
    "book_effect",
    "change_aggregate",
    "claim_event",
    "claim_lane",
    "constant",
    "count_relays",
    "delete_carried",
    "delete_listed",
    "draw_id",
    "export_snapshot",
    "join_relays",
    "lane",
    "read_behind",
    "read_first",
    "read_older",
    "read_page",
    "read_unlocked",
    "release_lane",
    "see_snapshot",
    "set_up",
]


SHORT: Final = 3  # columns


class Result(NamedTuple):
    """Rows, and how many were touched."""

    rows: Sequence[tuple[Any, ...]] = ()
    touched: int = -1

    def __str__(self) -> str:
        """For traces: a short answer as it is, of a long one how long it is."""
        if len(self.rows) == 1 and len(self.rows[0]) <= SHORT:
            return str(self.rows[0])
        count = len(self.rows) or max(0, self.touched)
        return f"{count} row{'s' * (count != 1)}"


def lane(key: str) -> int:
    """Which of the 64 buckets a key falls into; Postgres has another hash."""
    return crc32(key.encode()) & 63


# -- writers -------------------------------------------------------------------------------------------------------------


def change_aggregate(database: Database, transaction: Transaction, _: str, parameters: Sequence[Any]) -> Result:
    (key,) = parameters
    aggregate = database.aggregates.setdefault(key, Aggregate())
    while (other := aggregate.changed_by) is not None and other is not transaction and other.open:
        database.wait_for(transaction, other)
    database.number(transaction)
    aggregate.changed_by = transaction
    version = transaction.changed[key] = transaction.changed.get(key, aggregate.version) + 1
    return Result([(version,)], 1)


def draw_id(database: Database, transaction: Transaction, _: str, __: Sequence[Any]) -> Result:
    return Result([(database.number(transaction),)], 1)


def append_event(database: Database, transaction: Transaction, _: str, parameters: Sequence[Any]) -> Result:
    event_id, aggregate, key, kind, payload, headers, at = parameters
    database.position += 1
    database.number(transaction)
    row = (database.position, event_id, aggregate, key, kind, payload, headers, at.isoformat(" ")[:-3])
    version = Version(row, lane(key), transaction)
    database.outbox.append(version)
    transaction.inserted.append(version)
    return Result(touched=1)


# -- the relay -----------------------------------------------------------------------------------------------------------


def read_page(database: Database, transaction: Transaction, _: str, parameters: Sequence[Any]) -> Result:
    buckets, after, types, ids, limit, size = parameters
    held = set(zip(types, ids, strict=True))
    rows = [
        version.row
        for version in database.visible(transaction)
        if version.lane in buckets and version.row[0] > after and (version.row[2], version.row[3]) not in held
    ][:limit]
    before, page = 0, []
    for row in rows:
        if before < size:
            page.append(row)
        before += len(row[5])
    return Result(page, len(page))


def delete_carried(database: Database, transaction: Transaction, _: str, parameters: Sequence[Any]) -> Result:
    first, last, buckets, types, ids, gone_before = parameters
    held = set(zip(types, ids, strict=True))
    return _delete(database, transaction, lambda version: (
        first <= version.row[0] <= last
        and version.lane in buckets
        and ((version.row[2], version.row[3]) not in held or version.row[0] in gone_before)
    ))  # fmt: skip


def delete_listed(database: Database, transaction: Transaction, _: str, parameters: Sequence[Any]) -> Result:
    (positions,) = parameters
    return _delete(database, transaction, lambda version: version.row[0] in positions)


def _delete(database: Database, transaction: Transaction, wanted: Callable[[Version], bool]) -> Result:
    count = 0
    for version in [version for version in database.visible(transaction) if wanted(version)]:
        while other := _in_the_way(version, transaction):
            database.wait_for(transaction, other)
        if version.deleted_by is not None:  # by one that committed after our snapshot
            if transaction.isolated:
                raise psycopg.errors.SerializationFailure("could not serialize access due to concurrent delete")
            continue
        database.number(transaction)
        version.deleted_by = transaction
        transaction.deleted.append(version)
        count += 1
    return Result(touched=count)


def _in_the_way(version: Version, transaction: Transaction) -> Transaction | None:
    for other in (version.deleted_by, version.locked_by):
        if other is not None and other is not transaction and other.open:
            return other
    return None


def set_up(_: Database, transaction: Transaction, statement: str, __: Sequence[Any]) -> Result:
    session = transaction.session
    for one in filter(None, (part.strip() for part in statement.split(";"))):
        if one == "LISTEN outbox":
            session.listening = True
        elif found := re.fullmatch(r"SET idle(_in_transaction)?_session_timeout = (\d+)", one):
            if found[1]:
                session.idle_in_transaction_s = int(found[2]) / 1000
            else:
                session.idle_s = int(found[2]) / 1000
        elif not re.fullmatch(r"SET (timezone|datestyle|synchronous_commit|tcp_\w+) = \S+", one):
            raise LookupError(f"the simulation does not know this setting; teach it to {__name__}: {one}")
    return Result()


def export_snapshot(database: Database, transaction: Transaction, _: str, __: Sequence[Any]) -> Result:
    name = f"snapshot-{database.see(transaction)}-of-{transaction.session.name}"
    database.exported[name] = transaction
    return Result([(name,)], 1)


def see_snapshot(database: Database, transaction: Transaction, statement: str, _: Sequence[Any]) -> Result:
    if not transaction.isolated:
        raise psycopg.errors.FeatureNotSupported("a snapshot-importing transaction must have isolation level REPEATABLE READ")
    exporter = database.exported.get(statement.split("'")[1])
    if exporter is None or not exporter.open:
        raise psycopg.errors.UndefinedObject("snapshot does not exist")
    assert transaction.snapshot is None, "a snapshot is imported before anything is read"
    transaction.snapshot = exporter.snapshot
    return Result()


def constant(value: object) -> Callable[..., Result]:
    return lambda *_: Result([(value,)], 1)


# -- lanes ---------------------------------------------------------------------------------------------------------------


def join_relays(database: Database, transaction: Transaction, _: str, parameters: Sequence[Any]) -> Result:
    database.members.setdefault(parameters[1], []).append(transaction.session)
    return Result([("",)], 1)


def count_relays(database: Database, _: Transaction, __: str, parameters: Sequence[Any]) -> Result:
    return Result([(len(database.members.get(parameters[1], ())),)], 1)


def claim_lane(database: Database, transaction: Transaction, _: str, parameters: Sequence[Any]) -> Result:
    session = transaction.session
    return Result([(bucket, database.locks.setdefault(bucket, session) is session) for bucket in parameters[1]])


def release_lane(database: Database, transaction: Transaction, _: str, parameters: Sequence[Any]) -> Result:
    ours = [bucket for bucket in parameters[1] if database.locks.get(bucket) is transaction.session]
    for bucket in ours:
        del database.locks[bucket]
    return Result([(bucket, bucket in ours) for bucket in parameters[1]])


# -- consumers -----------------------------------------------------------------------------------------------------------


def claim_event(database: Database, transaction: Transaction, _: str, parameters: Sequence[Any]) -> Result:
    key = parameters[0], parameters[1]
    while (other := database.inbox.get(key)) is not None and other is not transaction and other.open:
        database.wait_for(transaction, other)
    if other is not None and (other is transaction or other.committed):
        return Result(touched=0)
    database.number(transaction)
    database.inbox[key] = transaction
    return Result(touched=1)


def ask_seen(database: Database, transaction: Transaction, _: str, parameters: Sequence[Any]) -> Result:
    by = database.inbox.get((parameters[0], parameters[1]))
    return Result([()] if by is not None and (by is transaction or by.committed) else [])


def book_effect(database: Database, transaction: Transaction, _: str, parameters: Sequence[Any]) -> Result:
    database.number(transaction)
    transaction.effects.append(tuple(parameters))
    return Result(touched=1)


# -- controls ------------------------------------------------------------------------------------------------------------


def read_behind(database: Database, transaction: Transaction, _: str, parameters: Sequence[Any]) -> Result:
    return Result([version.row for version in database.visible(transaction) if version.row[0] > parameters[0]])


def read_older(database: Database, transaction: Transaction, _: str, parameters: Sequence[Any]) -> Result:
    oldest = database.oldest()
    known = [(version.made_by.xid, version.row[0], version.row) for version in database.visible(transaction)]
    return Result([(*row, xid) for xid, position, row in sorted(known) if xid < oldest and (xid, position) > tuple(parameters)])


def read_first(database: Database, transaction: Transaction, _: str, parameters: Sequence[Any]) -> Result:
    return Result([version.row for version in database.visible(transaction)[: parameters[0]]])


def read_unlocked(database: Database, transaction: Transaction, _: str, parameters: Sequence[Any]) -> Result:
    taken: list[tuple[Any, ...]] = []
    for version in database.visible(transaction):
        if len(taken) < parameters[0] and version.deleted_by is None and not _in_the_way(version, transaction):
            database.number(transaction)
            version.locked_by = transaction
            taken.append(version.row)
    return Result(taken)
