from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from reference.delivery.lanes import BUCKETS, Lanes

Connect = Callable[..., psycopg.Connection[Any]]


def settle(relays: list[Lanes]) -> list[list[int]]:
    """A few turns for each, as rounds would give them."""
    for _ in range(3):
        shares = [relay.tend() for relay in relays]
    return shares


def test_one_relay_holds_every_key(connect: Connect) -> None:
    """Alone, it carries all."""
    assert sorted(Lanes(connect(), 16).tend()) == list(range(BUCKETS))


def test_two_relays_share_all_keys_evenly(connect: Connect) -> None:
    """Nothing twice, nothing left out."""
    one, other = settle([Lanes(connect(), 16, every_s=0) for _ in range(2)])
    assert (sorted(one + other), len(one)) == (list(range(BUCKETS)), BUCKETS // 2)


@pytest.mark.parametrize("counts", [(3, 5), (2, 4), (16, 1), (5, 64, 3)])
def test_relays_of_different_lane_counts_never_overlap_and_leave_nothing(connect: Connect, counts: tuple[int, ...]) -> None:
    """A rolling change of --lanes neither reorders a key nor lets one stand still."""
    shares = settle([Lanes(connect(), count, every_s=0) for count in counts])
    assert sorted(bucket for share in shares for bucket in share) == list(range(BUCKETS))


def test_a_relay_that_vanishes_leaves_its_lanes(connect: Connect, eventually: Callable[..., Any]) -> None:
    """Its locks go with its connection."""
    leaving = connect()
    relays = [Lanes(leaving, 4, every_s=0), Lanes(connect(), 4, every_s=0)]
    settle(relays)
    leaving.close()
    assert eventually(lambda: sorted(relays[1].tend()) == list(range(BUCKETS)))


def test_more_relays_than_lanes_leave_one_waiting(connect: Connect) -> None:
    """It stands by."""
    assert sorted(map(len, settle([Lanes(connect(), 1, every_s=0) for _ in range(2)]))) == [0, BUCKETS]


@pytest.mark.parametrize("count", [0, -1, 65])
def test_lanes_are_between_one_and_all_buckets(connect: Connect, count: int) -> None:
    """More would be empty."""
    with pytest.raises(ValueError, match="between 1 and 64"):
        Lanes(connect(), count)
