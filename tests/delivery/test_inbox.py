"""Each effect once: two consumers at the same instant, pruned memory, sequences that repeat or leap."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from reference.delivery import inbox
from reference.event import Event
from reference.evidence.controls.inboxes import check_then_put, no_inbox

Conn = psycopg.Connection[Any]
Connect = Callable[..., Conn]
EVENT = Event(type="OrderPlaced", source="/orders", subject="order-1", data={}, id="e1")


@pytest.fixture
def effects(conn: Conn) -> Callable[[], int]:
    """How often the effect was applied."""
    conn.execute("CREATE TABLE effects (event_id text)")

    def count() -> int:
        row = conn.execute("SELECT count(*) FROM effects").fetchone()
        assert row
        return int(row[0])

    return count


def apply(conn: Conn, claim: Callable[[Conn], bool]) -> bool:
    with conn.transaction():
        first = claim(conn)
        if first:
            conn.execute("INSERT INTO effects VALUES ('e1')")
    return first


def race(connect: Connect, claim: Callable[[Conn], bool]) -> list[bool]:
    conns = [connect(), connect()]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda conn: apply(conn, claim), conns))


def test_the_first_claim_wins_and_the_second_is_told(conn: Conn) -> None:
    """True once, False ever after."""
    assert [inbox.claim(conn, "e1", consumer="billing") for _ in range(3)] == [True, False, False]


def test_consumers_do_not_share_claims(conn: Conn) -> None:
    """Each applies the event for itself."""
    assert [inbox.claim(conn, "e1", consumer=name) for name in ("billing", "stock")] == [True, True]


def test_a_rolled_back_claim_was_none(conn: Conn) -> None:
    """The handler failed: the redelivery is the first again."""
    with conn.transaction(force_rollback=True):
        inbox.claim(conn, "e1", consumer="billing")
    assert inbox.claim(conn, "e1", consumer="billing")


def test_check_then_put_lets_both_through(connect: Connect, effects: Callable[[], int]) -> None:
    """The control fails: both ask before either remembers."""
    both_asked = threading.Barrier(2, timeout=60)
    claim = check_then_put("billing", between=lambda: both_asked.wait() and None)
    race(connect, lambda conn: claim(conn, EVENT))
    assert effects() == 2


def test_insert_first_lets_one_through(connect: Connect, effects: Callable[[], int]) -> None:
    """The same race: both begin together, and the key decides."""
    both_began = threading.Barrier(2, timeout=60)

    def claim(conn: Conn) -> bool:
        conn.execute("SELECT 1")
        both_began.wait()
        return inbox.claim(conn, "e1", consumer="billing")

    assert (sorted(race(connect, claim)), effects()) == ([False, True], 1)


def test_without_an_inbox_every_delivery_is_the_first(conn: Conn, effects: Callable[[], int]) -> None:
    """The control: at least once, applied as often."""
    for _ in range(3):
        apply(conn, lambda conn: no_inbox(conn, EVENT))
    assert effects() == 3


def test_the_second_waits_for_the_first_to_decide(connect: Connect, effects: Callable[[], int]) -> None:
    """Rolled back there, it is applied here."""
    first, second = connect(autocommit=False), connect()
    inbox.claim(first, "e1", consumer="billing")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(apply, second, lambda conn: inbox.claim(conn, "e1", consumer="billing"))
        first.rollback()
        assert (waiting.result(60), effects()) == (True, 1)


def test_pruned_too_early_a_replay_applies_twice(conn: Conn, effects: Callable[[], int]) -> None:
    """Why the time to live must outlast the longest replay."""
    apply(conn, lambda conn: inbox.claim(conn, "e1", consumer="billing"))
    inbox.prune(conn, older_than=timedelta(0))
    apply(conn, lambda conn: inbox.claim(conn, "e1", consumer="billing"))
    assert effects() == 2


def test_pruning_keeps_what_is_young(conn: Conn) -> None:
    """And says how many it forgot."""
    conn.execute(
        "INSERT INTO inbox (consumer, id, received_at)"
        " SELECT 'b', n::text, now() - n * interval '1 hour' FROM generate_series(0, 9) n"
    )
    assert inbox.prune(conn, older_than=timedelta(hours=4.5)) == 5
    assert not inbox.claim(conn, "4", consumer="b")


@pytest.mark.parametrize(
    ("sequences", "steps"),
    [
        ([1, 2, 3], ["next", "next", "next"]),
        ([1, 1, 2, 1], ["next", "duplicate", "next", "duplicate"]),
        ([1, 3, 2, 4], ["next", "gap", "duplicate", "next"]),
        ([4], ["gap"]),
    ],
)
def test_a_sequence_tells_next_duplicate_and_gap(conn: Conn, sequences: list[int], steps: list[str]) -> None:
    """Only the last one applied is remembered."""
    assert [inbox.advance(conn, "order-1", n, consumer="billing") for n in sequences] == steps


def test_keys_and_consumers_count_for_themselves(conn: Conn) -> None:
    """One row each."""
    steps = [inbox.advance(conn, key, 1, consumer=name) for key in ("a", "b") for name in ("billing", "stock")]
    assert steps == ["next"] * 4


@pytest.mark.parametrize(("second", "step"), [(1, "duplicate"), (2, "next"), (3, "gap")])
def test_a_sequence_waits_for_the_one_before_it(
    connect: Connect, conn: Conn, eventually: Callable[..., Any], second: int, step: str
) -> None:
    """Two consumers of one key at once: the later judges by what the earlier committed, not by what it saw at its start."""
    holding = connect(autocommit=False)
    inbox.advance(holding, "order-1", 1, consumer="billing")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: inbox.advance(connect(), "order-1", second, consumer="billing"))
        eventually(lambda: conn.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone())
        holding.commit()
        assert waiting.result(60) == step
