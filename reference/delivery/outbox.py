"""The outbox: an event written in the same transaction as the change it tells of.

What enters is an :class:`~reference.event.Event` and the caller's open transaction; what leaves is one row. Killed at any
line before the caller commits, neither the change nor the event exists; after it, both do, and a relay carries the row.
"""

from __future__ import annotations

import json
import uuid
from importlib.resources import files
from typing import Any, Final, NamedTuple

import psycopg

from reference.delivery.rows import COLUMNS, Envelope, InvalidRow
from reference.event import Event, InvalidEvent

__all__ = ["Pending", "append", "pending", "schema"]

# The relay sets its session's time zone; here the session is the caller's.
_COLUMNS: Final = COLUMNS.replace("created_at::text", "to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US+00')")


def schema() -> str:
    """The SQL that makes the outbox and the inbox; applying it twice changes nothing."""
    return files("reference.delivery").joinpath("schema.sql").read_text()


def append(conn: psycopg.Connection[Any], event: Event) -> None:
    """Write ``event`` into the outbox, in the transaction that ``conn`` has open.

    To keep the order of an aggregate's events, hold its row lock before calling this: ``UPDATE`` the aggregate first, or
    ``SELECT … FOR UPDATE``. The last segment of ``event.source`` is the aggregate type, and so chooses the topic.

    Raises :class:`~reference.event.InvalidEvent` for an event that no relay could carry: better here, where the change
    can still be rolled back, than later, where it would hold its key.

    Source: guide, Transactional Outbox; Debezium's outbox event router for the columns.
    """
    row = (event.id, _aggregate_type(event), event.key, event.type, json.dumps(event.data), _extra(event), event.time)
    _refuse_what_no_relay_can_carry(event, row)
    conn.execute(
        "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, headers, created_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)",
        row,
    )


def _refuse_what_no_relay_can_carry(event: Event, row: tuple[Any, ...]) -> None:
    try:
        known = str(uuid.UUID(event.id)) == event.id
    except ValueError:
        known = False
    if not known:  # the column is a uuid, and would give it back in another form
        raise InvalidEvent(f"event {event.id!r}: in the outbox an id must be a UUID in lower case, as uuid.uuid4() gives it")
    if not row[1]:
        raise InvalidEvent(f"event {event.id}: source must end in the aggregate type, such as /orders; it is {event.source!r}")
    try:
        Envelope().check((0, *row))
    except InvalidRow as error:
        raise InvalidEvent(f"event {event.id}: {error}") from error


class Pending(NamedTuple):
    """A committed event that nobody has carried yet. Delete its row, by ``position``, once it was published."""

    position: int
    event: Event


def pending(conn: psycopg.Connection[Any], limit: int = 100) -> list[Pending]:
    """What waits in the outbox as one snapshot shows it, in the order to publish it.

    Raises :class:`~reference.delivery.rows.InvalidRow` for a row that is no event; the relay holds such a row's key back.
    """
    rows = conn.execute(f"SELECT {_COLUMNS} FROM outbox ORDER BY position LIMIT %s", (limit,)).fetchall()
    envelope = Envelope()
    return [Pending(row[0], _event(envelope, row)) for row in rows]


def _event(envelope: Envelope, row: tuple[Any, ...]) -> Event:
    envelope.check(row)
    message = envelope.message(row)
    headers = [(name, text if isinstance(text, bytes) else text.encode()) for name, text in message.headers]
    return Event.from_wire(headers, str(message.value).encode())


def _aggregate_type(event: Event) -> str:
    return event.source.rstrip("/").rpartition("/")[2]


def _extra(event: Event) -> str | None:
    """What the relay could not know from the other columns, as JSON; ``None`` when there is nothing."""
    known = {"/" + _aggregate_type(event): "ce_source", event.key: "ce_subject"}
    attributes = {"ce_source": event.source, "ce_subject": event.subject, "ce_dataschema": event.dataschema,
                  "ce_partitionkey": event.partitionkey, "ce_sequence": event.sequence}  # fmt: skip
    extra = {name: str(value) for name, value in attributes.items() if value is not None and known.get(str(value)) != name}
    return json.dumps(extra | dict(event.headers)) if extra or event.headers else None
