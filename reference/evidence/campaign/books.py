"""What the shop's database holds: what was committed, what waits to be carried, what was applied; asked in mid-experiment.

While the database is away, an answer is one that keeps whoever waits waiting.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg

from reference.evidence.history import Record

__all__ = ["Books"]


class Books:
    """The books of one shop, in the database at ``dsn``. ``settled`` is a mark in its journal: all before it is done with."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self.settled = 0
        self._conn: psycopg.Connection[Any] | None = None

    def behind(self) -> int:
        """How many committed events have not been applied, as the database holds them now; one while it is away."""
        return self._number(
            "SELECT count(*) FROM order_changes AS made WHERE entry > %s AND NOT EXISTS"
            " (SELECT FROM ledger WHERE ledger.event_id = made.event_id)",
            self.settled,
            away=1,
        )

    def unpublished(self) -> int:
        """How many rows the outbox holds; one while the database is away."""
        return self._number("SELECT count(*) FROM outbox", away=1)

    def last(self) -> int:
        """The mark behind the newest entry of the journal."""
        return self._number("SELECT max(entry) FROM order_changes", away=0)

    def progress(self) -> int:
        """A number that grows with everything applied."""
        return self._number("SELECT max(entry) FROM ledger", away=-1)

    def committed(self) -> int:
        """How many events it holds as committed."""
        return self._number("SELECT count(*) FROM order_changes", away=0)

    def unheard(self, records: Iterable[Record]) -> int:
        """How many commits happened though their writer was cut off before it was told so."""
        told_of = {record.event for record in records if record.op == "commit" and record.phase == "ok"}
        return self.committed() - len(told_of)

    def applied(self, events: Sequence[str]) -> bool:
        """Whether all of these have been applied."""
        applied = self._number("SELECT count(DISTINCT event_id) FROM ledger WHERE event_id = ANY(%s)", list(events), away=-1)
        return applied == len(set(events))

    def applied_twice(self) -> int:
        """How many events have been applied more than once so far."""
        return self._number(
            "SELECT count(*) FROM (SELECT FROM ledger GROUP BY consumer, event_id HAVING count(*) > 1) AS twice", away=0
        )

    def events(self) -> set[str]:
        """The ids of all that was committed."""
        return {event for event, _, _ in self.journal()}

    def journal(self) -> list[tuple[str, str, int]]:
        """Event, key and sequence of all that was committed, in the order of the journal."""
        with psycopg.connect(self._dsn) as conn:
            return conn.execute("SELECT event_id, order_id, version FROM order_changes ORDER BY entry").fetchall()

    def ledger(self) -> list[tuple[str, str, str]]:
        """Event, key and consumer of all that was applied, in order."""
        with psycopg.connect(self._dsn) as conn:
            return conn.execute("SELECT event_id, order_id, consumer FROM ledger ORDER BY entry").fetchall()

    def resolve(self, records: Sequence[Record], *, topic: str, groups: Sequence[str]) -> list[Record]:
        """What to put behind the ``records`` of a history, so that it says what the database holds.

        A commit whose outcome its writer did not hear of happened, or did not. What was applied is told by consumer, once for
        each ledger entry; and for each of the ``groups``, which share the consumer's inbox, once an event: what any of them
        acked must be there.
        """
        journal, ledger, end = self.journal(), self.ledger(), time.monotonic()
        known = {record.event for record in records if record.op == "commit" and record.phase == "ok"}
        begun = {record.event: record for record in records if record.op == "commit" and record.phase == "invoke"}
        happened = known | {event for event, _, _ in journal}
        found = [Record(op="commit", event=e, key=k, seq=v, at=end) for e, k, v in journal if e not in known]
        found += [Record(op="commit", phase="fail", event=e, key=r.key, seq=r.seq, at=end)
                  for e, r in begun.items() if e not in happened]  # fmt: skip
        found += [Record(op="apply", event=e, key=k, topic=topic, group=c, at=end) for e, k, c in ledger]
        once = dict.fromkeys((event, key) for event, key, _ in ledger)
        return found + [Record(op="apply", event=e, key=k, topic=topic, group=g, at=end) for g in groups for e, k in once]

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def _number(self, sql: str, *values: Any, away: int) -> int:
        """A number that the database knows, or what to say while it does not answer."""
        try:
            if self._conn is None:
                self._conn = psycopg.connect(self._dsn, autocommit=True, connect_timeout=5, application_name="eda-campaign")
            row = self._conn.execute(sql, values).fetchone()
        except psycopg.OperationalError:
            self.close()
            return away
        return int(row[0] or 0) if row else 0
