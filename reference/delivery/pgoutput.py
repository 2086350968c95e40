"""The messages of Postgres's ``pgoutput`` plugin, as far as an outbox needs them.

What enters is the bytes of one message, what leaves is a value or ``None``; nothing is remembered and nothing opened, so a
kill cannot hurt it. Source: PostgreSQL documentation, Logical Replication Message Formats, protocol version 1.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

__all__ = ["Begin", "Commit", "Insert", "Message", "Relation", "UnreadableMessage", "lsn", "parse"]


class UnreadableMessage(ValueError):
    """Bytes that are not what the documentation says they are; names the message and the place."""


class Begin(NamedTuple):
    """A committed transaction starts; all up to its :class:`Commit` is its own, transactions never mix."""

    xid: int


class Commit(NamedTuple):
    """The transaction is whole. ``end`` is the first byte of the log behind it: to there a slot may advance."""

    end: int


class Relation(NamedTuple):
    """A table, told before the first row of it that a session decodes, and again whenever it has changed."""

    oid: int
    namespace: str
    name: str
    columns: tuple[str, ...]


class Insert(NamedTuple):
    """A row, its values in the table's column order, as text; ``None`` is SQL's null."""

    oid: int
    values: tuple[str | None, ...]


Message = Begin | Commit | Relation | Insert

_BEGIN: Final = struct.Struct("!x8x8xi")  # final position, time, xid
_COMMIT: Final = struct.Struct("!xx8xq8x")  # flags, position of the commit, end, time
_COUNT: Final = struct.Struct("!h")
_LENGTH: Final = struct.Struct("!i")
_OID: Final = struct.Struct("!I")
_TYPE: Final = struct.Struct("!Ii")  # of a column: type and modifier


def parse(data: bytes) -> Message | None:
    """The message in ``data``; ``None`` for a kind that is not ours: updates, deletes, truncates, types, origins, and new ones.

    Raises :class:`UnreadableMessage` when it is of our kinds and cannot be read.
    """
    try:
        match data[:1]:
            case b"I":
                return _insert(data)
            case b"B":
                return Begin(*_BEGIN.unpack_from(data))
            case b"C":
                return Commit(*_COMMIT.unpack_from(data))
            case b"R":
                return _relation(data)
            case b"":
                raise UnreadableMessage("a message without a byte")
    except (struct.error, IndexError, ValueError) as error:  # a UnicodeDecodeError is a ValueError
        if isinstance(error, UnreadableMessage):
            raise
        raise UnreadableMessage(f"message {data[:1]!r} of {len(data)} bytes: {error}") from error
    return None


def lsn(position: int) -> str:
    """A place in the log as Postgres writes it."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def _relation(data: bytes) -> Relation:
    (oid,) = _OID.unpack_from(data, 1)
    namespace, at = _text(data, 5)
    name, at = _text(data, at)
    (count,) = _COUNT.unpack_from(data, at + 1)  # behind the replica identity
    at += 3
    columns = []
    for _ in range(count):
        column, at = _text(data, at + 1)  # behind the flags
        columns.append(column)
        at += _TYPE.size
        if at > len(data):
            raise UnreadableMessage(f"relation {oid} is cut off at column {column!r}")
    return Relation(oid, namespace, name, tuple(columns))


def _insert(data: bytes) -> Insert:
    (oid,), (count,) = _OID.unpack_from(data, 1), _COUNT.unpack_from(data, 6)  # behind the letter N
    at, values = 8, list[str | None]()
    for _ in range(count):
        kind, at = data[at : at + 1], at + 1
        if kind == b"n":
            values.append(None)
            continue
        if kind != b"t":  # binary was not asked for, and "u", a large value that did not change, is for updates only
            raise UnreadableMessage(f"column {len(values)} of a row of relation {oid} is of kind {kind!r}, not text")
        (length,) = _LENGTH.unpack_from(data, at)
        at += 4 + length
        if length < 0 or at > len(data):
            raise UnreadableMessage(f"column {len(values)} of a row of relation {oid} is cut off")
        values.append(data[at - length : at].decode())
    return Insert(oid, tuple(values))


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at)
    return data[at:end].decode(), end + 1
