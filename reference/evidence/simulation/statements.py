"""Every statement that relays, writers and consumers send, and what the made-up Postgres does on hearing it.

They stand here once more, word for word, so that no statement of theirs can change without somebody asking what this change
means: what is not known is refused, by name. ``tests/evidence/test_statements.py`` holds them against a real Postgres.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from reference.delivery.held import NOT_HELD
from reference.delivery.rows import COLUMNS
from reference.evidence.simulation import deeds
from reference.evidence.simulation.database import Database, Transaction
from reference.evidence.simulation.deeds import Result

__all__ = ["CHANGE", "KNOWN", "Statement", "understand"]

CHANGE: Final = "UPDATE aggregates SET version = version + 1 WHERE id = %s RETURNING version"
TABLE: Final = 16_384


class Statement(NamedTuple):
    """Its name in a trace, and its deed."""

    title: str
    act: Callable[[Database, Transaction, str, Sequence[Any]], Result]


def understand(statement: str) -> Statement:
    """What to do on hearing it. Raises :class:`LookupError` that says what to teach where."""
    known = KNOWN.get(statement) or KNOWN.get(" ".join(statement.split()))
    if known is None:
        start = statement.strip()
        known = next((deed for words, deed in BEGINNINGS.items() if start.startswith(words)), None)
    if known is None:
        raise LookupError(f"the simulation does not know this statement; teach it to {__name__}: {statement}")
    return known


KNOWN: Final[dict[str, Statement]] = {
    CHANGE: Statement("locks and changes aggregate", deeds.change_aggregate),
    "SELECT pg_current_xact_id()": Statement("draws its transaction id", deeds.draw_id),
    "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, headers, created_at)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s)": Statement("appends", deeds.append_event),
    f"SELECT {COLUMNS} FROM (SELECT *, sum(pg_column_size(payload)) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING)"
    f" - pg_column_size(payload) AS before FROM outbox WHERE lane = ANY(%s) AND position > %s AND {NOT_HELD}"
    " ORDER BY position LIMIT %s) AS page WHERE before < %s ORDER BY position": Statement("reads a page", deeds.read_page),
    "DELETE FROM outbox WHERE position BETWEEN %s AND %s AND lane = ANY(%s)"
    f" AND ({NOT_HELD} OR position = ANY(%s::bigint[]))": Statement("deletes", deeds.delete_carried),
    "SELECT pg_export_snapshot()": Statement("exports its snapshot", deeds.export_snapshot),
    "SELECT to_regclass('outbox')": Statement("looks for the outbox", deeds.constant(TABLE)),
    "SELECT 'outbox'::regclass::oid::int": Statement("looks for the outbox", deeds.constant(TABLE)),
    "SELECT pg_advisory_lock_shared(%s, %s)": Statement("joins the relays", deeds.join_relays),
    "SELECT count(DISTINCT pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ShareLock'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND classid = %s::oid AND objid = %s::oid": Statement("counts the relays", deeds.count_relays),
    "SELECT bucket, pg_try_advisory_lock(%s, bucket) FROM unnest(%s::int[]) AS bucket": Statement(
        "claims a lane", deeds.claim_lane
    ),
    "SELECT bucket, pg_advisory_unlock(%s, bucket) FROM unnest(%s::int[]) AS bucket": Statement(
        "lets a lane go", deeds.release_lane
    ),
    "INSERT INTO inbox (consumer, id) VALUES (%s, %s) ON CONFLICT DO NOTHING": Statement("claims", deeds.claim_event),
    "SELECT FROM inbox WHERE consumer = %s AND id = %s": Statement("asks whether it was seen", deeds.ask_seen),
    "INSERT INTO ledger (consumer, event_id, order_id, account, amount) VALUES (%s, %s, %s, %s, %s)": Statement(
        "books", deeds.book_effect
    ),
    f"SELECT {COLUMNS} FROM outbox WHERE position > %s ORDER BY position": Statement("reads behind its last", deeds.read_behind),
    f"SELECT {COLUMNS}, xmin::text::bigint FROM outbox"
    " WHERE xmin::text::bigint < pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
    " AND (xmin::text::bigint, position) > (%s, %s) ORDER BY xmin::text::bigint, position": Statement(
        "reads older ones", deeds.read_older
    ),
    f"SELECT {COLUMNS} FROM outbox ORDER BY position LIMIT %s": Statement("reads the first", deeds.read_first),
    f"SELECT {COLUMNS} FROM outbox ORDER BY position LIMIT %s FOR UPDATE SKIP LOCKED": Statement(
        "reads what nobody locked", deeds.read_unlocked
    ),
    "DELETE FROM outbox WHERE position = ANY(%s)": Statement("deletes", deeds.delete_listed),
}  # fmt: skip

BEGINNINGS: Final[dict[str, Statement]] = {
    "SET TRANSACTION SNAPSHOT": Statement("sees the other's snapshot", deeds.see_snapshot),
    "SET ": Statement("sets its session up", deeds.set_up),
}
