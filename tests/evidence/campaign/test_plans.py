"""What an experiment will do is drawn from its seed, before it begins; and how long events waited is read off a history."""

from __future__ import annotations

from collections import Counter

from reference.evidence.campaign.experiments.proxy_faults import PAIRS, planned
from reference.evidence.campaign.experiments.rebalance_storm import FEWEST, JOINS, KILLED, LEAVES, MOST, changes, waits
from reference.evidence.faults.proxy import KINDS
from reference.evidence.history import Record


def test_the_same_seed_brings_the_same_storm() -> None:
    """Who comes, who goes, and how; another seed, another storm."""
    assert changes(100, seed=1) == changes(100, seed=1) != changes(100, seed=2)


def test_a_storm_has_every_kind_of_change_and_never_too_many_members_or_too_few() -> None:
    """So that there is always somebody to take over, and a partition for everybody."""
    members, seen = FEWEST, Counter[str]()
    for what, which in changes(100, seed=1):
        assert what == JOINS or which < members
        members += 1 if what == JOINS else -1
        assert FEWEST <= members <= MOST
        seen[what] += 1
    assert seen.keys() == {JOINS, LEAVES, KILLED}


def test_every_pair_is_hit_by_every_fault() -> None:
    """As often as by every other; and few faults already hit every pair, each by another one."""
    whole = planned(2 * len(PAIRS) * len(KINDS), seed=1)
    few = planned(len(PAIRS), seed=1)
    assert Counter(whole) == {(pair, kind): 2 for pair in PAIRS for kind in KINDS}
    assert ([pair for pair, _ in few], len({kind for _, kind in few})) == (list(PAIRS), len(PAIRS))


def waited(event: str, committed: float, *acked: float) -> list[Record]:
    return [Record(op="commit", event=event, at=committed), *(Record(op="ack", event=event, at=at) for at in acked)]


def test_the_longest_wait_around_each_moment_is_found() -> None:
    """Of what waited when it came, counted from then; of what was committed before the next one; to the first ack."""
    records = [*waited("before", 1.0, 4.0), *waited("across", 9.0, 14.0, 90.0), *waited("after", 21.0, 22.5)]
    assert waits(records, [10.0, 20.0, 30.0]) == (4.0, 1.5, 0.0)
