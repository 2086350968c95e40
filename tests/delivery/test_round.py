"""A round on a table that is no database: what it asks of one, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from reference.brokers.memory import MemoryBroker
from reference.delivery.round import Carried, Keys, Overtaken, Point, Round, Rows
from reference.delivery.rows import Envelope


class Listed:
    """An outbox in a list. ``overtaken``: somebody else has deleted what a mark would delete."""

    def __init__(self, keys: str, *, overtaken: bool = False) -> None:
        at = "2026-01-01 00:00:00+00"
        self.rows: Rows = [(n, f"e{n}", "orders", key, "Amended", '{"n": 1}', None, at) for n, key in enumerate(keys, start=1)]
        self._overtaken = overtaken

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        yield

    def read(self, buckets: list[int], *, after: int, held: Keys, rows: int, size: int) -> Rows:
        assert (buckets, size > 0) == ([1], True)
        keys = set(zip(*held, strict=True))
        return [row for row in self.rows if row[0] > after and (row[2], row[3]) not in keys][:rows]

    def export(self) -> str:
        return "snapshot"

    def delete(self, carried: Carried) -> None:
        keys = set(zip(*carried.held, strict=True))
        self.rows = [
            row
            for row in self.rows
            if not carried.first <= row[0] <= carried.last or ((row[2], row[3]) in keys and row[0] not in carried.gone_before)
        ]

    def mark(self, snapshot: str, carried: Carried, *, deleted: Callable[[], None]) -> None:
        assert snapshot == "snapshot"
        if self._overtaken:
            raise Overtaken
        self.delete(carried)
        deleted()


@pytest.fixture
def broker() -> MemoryBroker:
    made = MemoryBroker()
    made.create_topic("orders")
    return made


def carried(table: Listed, broker: Any, *, page: int) -> tuple[int, list[Point]]:
    """How many one round carried, and the points it passed."""
    points: list[Point] = []
    round_ = Round(table, broker, Envelope("orders"), page=page, at=points.append)
    done = round_.carry([1])
    round_.close()
    return done, points


def test_a_short_page_goes_in_one_transaction(broker: MemoryBroker) -> None:
    """Read, published, and deleted where it was read."""
    table = Listed("abc")
    assert (carried(table, broker, page=10), table.rows) == ((3, ["read", "published", "deleted", "marked"]), [])


def test_several_pages_are_all_marked_before_the_round_ends(broker: MemoryBroker) -> None:
    """In another thread, each after it was published."""
    table = Listed("abcde")
    done, points = carried(table, broker, page=2)
    assert (done, table.rows, points.count("published"), points.count("marked")) == (5, [], 3, 3)


def test_a_round_that_was_overtaken_is_left(broker: MemoryBroker) -> None:
    """Another relay has the lanes now: nothing is deleted, and nobody is told of an error."""
    table = Listed("abcde", overtaken=True)
    assert (carried(table, broker, page=2)[0], len(table.rows)) == (0, 5)


def test_a_row_that_cannot_go_stays_and_so_does_its_key(broker: MemoryBroker) -> None:
    """What stood before it has gone."""
    table = Listed("aabab")
    table.rows[1] = (*table.rows[1][:5], "[]", *table.rows[1][6:])
    done, _ = carried(table, broker, page=10)
    assert (done, [(row[0], row[3]) for row in table.rows]) == (3, [(2, "a"), (4, "a")])
