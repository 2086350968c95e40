"""What the shop knows to have been committed, told to the history."""

from __future__ import annotations

import psycopg

from reference.evidence.checker import check
from reference.evidence.history import History, Record
from reference.lab.journal import CommitJournal
from reference.orders import shop

INSERT = "INSERT INTO order_changes (event_id, order_id, version) VALUES (%s, 'order-01', %s)"


def test_each_commit_is_told_once_however_late_and_what_was_rolled_back_never(postgres: str) -> None:
    """A transaction that began early and commits last, one that rolls back, and many looks in between."""
    connect = psycopg.connect
    with connect(postgres, autocommit=True) as conn, connect(postgres) as late, connect(postgres) as never:
        conn.execute(shop.schema())
        history = History()
        journal = CommitJournal(lambda: conn, history)
        told = list[list[str]]()

        def look() -> None:
            before = len(history)
            journal.read()
            told.append([record.event for record in history.since(before)])

        look()
        conn.execute(INSERT, ("one", 1))
        late.execute(INSERT, ("late", 2))
        never.execute(INSERT, ("never", 9))
        conn.execute(INSERT, ("two", 3))
        look()
        look()
        never.rollback()
        conn.execute(INSERT, ("three", 4))
        look()
        late.commit()
        look()
        look()
    assert told == [[], ["one", "two"], [], ["three"], ["late"], []]


def test_a_commit_that_is_told_twice_counts_once() -> None:
    """As after an interrupt in the very moment between telling and noting it."""
    commit = [Record(op="commit", event="e", key="k", seq=1, process="shop", at=at) for at in (1.0, 1.0)]
    verdict = check([*commit, Record(op="deliver", event="e", key="k", seq=1, group="g", at=2.0)])
    assert (verdict.acknowledged, verdict.violations) == (1, ())
