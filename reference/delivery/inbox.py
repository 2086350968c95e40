"""The inbox: an event's effect is applied once, however often the event is delivered.

What enters is an event's id and the transaction in which its effect will be written; what leaves is whether to write it.
Killed at any line before the commit, neither the inbox row nor the effect exists and the redelivery applies it; after the
commit both do and the redelivery is skipped. Source: guide, Inbox/Dedup Store; its check-then-put is a race between two
consumers, so here the insert comes first and the primary key decides.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

import psycopg

__all__ = ["Step", "advance", "claim", "prune"]

Step = Literal["next", "duplicate", "gap"]


def claim(conn: psycopg.Connection[Any], event_id: str, *, consumer: str) -> bool:
    """True when ``consumer`` sees this event for the first time: apply it, in this transaction. False: skip and ack.

    A second consumer that claims the same event at the same time waits here until the first commits or rolls back.
    """
    cursor = conn.execute("INSERT INTO inbox (consumer, id) VALUES (%s, %s) ON CONFLICT DO NOTHING", (consumer, event_id))
    return cursor.rowcount == 1


def prune(conn: psycopg.Connection[Any], *, older_than: timedelta) -> int:
    """Forget events received longer ago than ``older_than``; returns how many.

    It must outlast the longest redelivery, replay or redrive: a forgotten event that comes again is applied again.
    """
    return conn.execute("DELETE FROM inbox WHERE received_at < now() - %s", (older_than,)).rowcount


def advance(conn: psycopg.Connection[Any], key: str, sequence: int, *, consumer: str) -> Step:
    """The second way: remember only the last sequence applied of each key. Apply on ``next`` and ``gap``, not on ``duplicate``.

    ``gap`` means that events in between have not been seen: lost, or on their way behind this one, which is then the
    last chance to wait for them. Smaller than one row an event, and it needs writers that number from 1 without holes.
    """
    row = conn.execute(
        "INSERT INTO inbox_sequence AS held (consumer, key, sequence, previous) VALUES (%s, %s, %s, 0)"
        # The row remembers what it replaced: a subquery would see it as of the statement's start, before a wait for the lock.
        " ON CONFLICT (consumer, key) DO UPDATE SET sequence = excluded.sequence, previous = held.sequence"
        " WHERE held.sequence < excluded.sequence RETURNING sequence - previous",
        (consumer, key, sequence),
    ).fetchone()
    if row is None:
        return "duplicate"
    return "next" if row[0] == 1 else "gap"
