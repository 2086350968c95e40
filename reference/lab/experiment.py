"""One experiment of a lab: what is made anew each time, and judged alone.

A broker enters, and a way to the lab's database; a topic of its own is made there, and everything done with it is written down.
Killed at any line: the topic stays on the broker, and nothing reads it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg
from psycopg import sql

from reference.brokers import Broker, Message, Subscription
from reference.event import Event
from reference.evidence.checker import Verdict, check
from reference.evidence.history import History
from reference.evidence.recorder import LagProbe, RecordingBroker, told
from reference.lab.journal import CommitJournal
from reference.lab.progress import Progress, progress
from reference.lab.waiting import wait_until

__all__ = ["Experiment"]

LAG_HZ: Final = 4.0  # as often as the board draws a line


class Experiment:
    """``topic`` is made on ``inner``; ``broker`` is the same broker, and records into ``history``. ``group`` is its consumers'.

    ``conn`` is asked for each time, as :class:`CommitJournal` has it; ``journal`` reads what was committed. ``history`` is a new
    one unless given, which is then empty, and watched by somebody already.
    """

    def __init__(
        self,
        topic: str,
        inner: Broker,
        conn: Callable[[], psycopg.Connection[Any]],
        *,
        partitions: int = 3,
        history: History | None = None,
    ) -> None:
        self.topic = self.group = topic
        self._inner, self._conn = inner, conn
        inner.create_topic(topic, partitions=partitions)
        self.history = History() if history is None else history
        self.broker: Broker = RecordingBroker(inner, self.history)
        self.journal = CommitJournal(conn, self.history)
        if not self.numbered:  # it keeps events from a group's first subscription on
            self.subscribe().close()

    @property
    def numbered(self) -> bool:
        """Whether offsets are places in a log, which can be read again from any of them."""
        return self._inner.capabilities.replay_by_offset

    def publish(self, event: Event) -> None:
        """One event straight to the broker, past the outbox."""
        self.broker.publish([Message(self.topic, event.key, event.to_value(), event.to_headers())])

    def subscribe(self, group: str = "") -> Subscription:
        """A member of this group, the experiment's own unless given. What it receives is not recorded here."""
        return self._inner.subscribe([self.topic], group=group or self.group)

    def probe(self) -> LagProbe:
        """Samples the own group's lag into the history while its block runs."""
        return LagProbe(self._inner, [self.topic], self.history, group=self.group, hz=LAG_HZ)

    def count(self, table: str) -> int:
        """The rows of one of the lab's tables, as the database holds them now."""
        row = self._conn().execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
        return int(row[0]) if row else 0

    def settle(self, groups: Sequence[str] = ()) -> None:
        """Wait until the outbox is empty, and these groups, or the own one, have acked all the topic holds.

        Raises :class:`TimeoutError`.
        """

        def done() -> bool:
            return self._outbox_is_empty(bar) and bar.left(self._unacked(groups), "acked") == 0

        with progress("published") as bar:
            _wait_with_postgres(done, "the outbox to be empty and the topic to be read")

    def wait_for_outbox(self) -> None:
        """Wait until all that was committed has been published. Raises :class:`TimeoutError`."""
        with progress("published") as bar:
            _wait_with_postgres(lambda: self._outbox_is_empty(bar), "the outbox to be empty")

    def wait_for_lag(self, probe: LagProbe, events: int) -> None:
        """Wait until that many published events, or more, are waiting for the group. Raises :class:`TimeoutError`."""
        with progress("waiting for the consumer", total=events) as bar:
            wait_until(lambda: bar.to(probe.sample()) >= events, f"a lag of {events}")

    def judge(self) -> Verdict:
        """What was committed, what the topic holds, and what became of it.

        Raises :class:`AssertionError` when the ledger and what was seen being booked differ.
        """
        with progress("reading all that happened, and judging it"):
            self.journal.read()
            self._read_topic()
            verdict = check(self.history)
        booked, recorded = self.count("ledger"), len(self.history.done("apply"))
        if booked != recorded:
            raise AssertionError(f"the ledger holds {booked} entries, but {recorded} were seen being made")
        return verdict

    def _outbox_is_empty(self, bar: Progress) -> bool:
        return bar.left(self.count("outbox"), "published") == 0

    def _unacked(self, groups: Sequence[str]) -> int:
        """What is left to these groups; where the broker does not tell a group's lag, what was committed and nobody has acked."""
        if self._inner.capabilities.lag:
            lags = (self._inner.lag([self.topic], group=group) for group in groups or (self.group,))
            return sum(sum(lag.values()) for lag in lags)
        self.journal.read()
        acked = {record.event for record in self.history.done("ack")}
        return len({record.event for record in self.history.done("commit")} - acked)

    def _read_topic(self) -> None:
        """Where no consumer ran, what the topic holds counts as delivered."""
        if not any(record.op == "deliver" for record in self.history):
            for delivery in self._inner.replay(self.topic):
                self.history.add(told(delivery, numbered=True))


def _wait_with_postgres(condition: Callable[[], bool], what: str) -> None:
    """:func:`wait_until`; a Postgres that is away may be coming back just now. Raises :class:`TimeoutError`."""

    def holds() -> bool:
        try:
            return condition()
        except psycopg.OperationalError:
            return False

    wait_until(holds, what)
