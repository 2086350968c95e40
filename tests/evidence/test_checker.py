"""The oracle is itself proved: by hand-made histories with exactly one anomaly, and by mutations of clean ones."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.evidence.checker import Verdict, check
from reference.evidence.history import Record


def committed(event: str, key: str = "k", seq: int | None = None, phase: str = "ok") -> list[Record]:
    return [Record(op="commit", phase=p, event=event, key=key, seq=seq) for p in ("invoke", phase)]  # type: ignore[arg-type]


def delivered(event: str, key: str = "k", group: str = "g", seq: int | None = None) -> Record:
    return Record(op="deliver", event=event, key=key, group=group, seq=seq)


def applied(event: str, group: str = "g") -> Record:
    return Record(op="apply", event=event, group=group)


def figures(verdict: Verdict) -> dict[str, int]:
    names = ("lost", "unexpected", "duplicates", "applied_twice", "out_of_order", "recovered")
    return {name: getattr(verdict, name) for name in names if getattr(verdict, name)}


ALL_IS_WELL = [*committed("e1", seq=1), delivered("e1"), applied("e1"), *committed("e2", seq=2), delivered("e2"), applied("e2")]


@pytest.mark.parametrize(
    ("history", "found"),
    [
        ([], {}),
        (ALL_IS_WELL, {}),
        (committed("e1"), {"lost": 1}),
        ([*committed("e1"), applied("e1")], {"lost": 1}),
        (committed("e1", phase="fail"), {}),
        (committed("e1", phase="info"), {}),
        ([delivered("e1")], {"unexpected": 1}),
        ([*committed("e1", phase="fail"), delivered("e1")], {"unexpected": 1}),
        ([*committed("e1", phase="info"), delivered("e1")], {"recovered": 1}),
        ([committed("e1")[0], delivered("e1")], {"recovered": 1}),
        ([*committed("e1"), delivered("e1"), delivered("e1"), delivered("e1")], {"duplicates": 2}),
        ([*committed("e1"), delivered("e1"), delivered("e1", group="other")], {}),
        ([*committed("e1"), delivered("e1"), applied("e1"), applied("e1"), applied("e1")], {"applied_twice": 1}),
        ([*committed("e1"), delivered("e1"), applied("e1"), applied("e1", group="other")], {}),
        ([*committed("e1", seq=1), *committed("e2", seq=2), delivered("e2"), delivered("e1")], {"out_of_order": 1}),
        ([*committed("e1", "a", 1), *committed("e2", "b", 2), delivered("e2", "b"), delivered("e1", "a")], {}),
        ([*ALL_IS_WELL, delivered("e1")], {"duplicates": 1}),
        ([*committed("e1"), *committed("e2"), delivered("e2", seq=2), delivered("e1", seq=1)], {"out_of_order": 1}),
        ([*ALL_IS_WELL, Record(op="deliver", phase="fail", event="e9"), Record(op="apply", phase="fail", event="e1")], {}),
    ],
)
def test_each_anomaly_is_counted_as_what_it_is(history: list[Record], found: dict[str, int]) -> None:
    """And nothing else is."""
    assert figures(check(history)) == found


def test_duplicates_alone_are_clean() -> None:
    """At least once is the promise; the inbox does the rest."""
    assert check([*ALL_IS_WELL, delivered("e1")]).clean


def test_the_sums_are_told() -> None:
    """What was begun, known, delivered, applied, and how deep the queue was."""
    history = [*ALL_IS_WELL, *committed("e3", phase="fail"), Record(op="lag", value=7), Record(op="lag", value=3)]
    verdict = check(history)
    assert (verdict.attempted, verdict.acknowledged, verdict.delivered, verdict.applied, verdict.max_lag) == (3, 2, 2, 2, 7)


def test_culprits_are_named() -> None:
    """A count is where the search begins."""
    verdict = check([*committed("e1"), delivered("e2"), *committed("e3"), delivered("e3"), applied("e3"), applied("e3")])
    assert (verdict.lost_ids, verdict.unexpected_ids, verdict.applied_twice_ids) == (("e1",), ("e2",), ("e3",))


def test_a_verdict_reads_as_one_line() -> None:
    """The same words wherever it is shown."""
    verdict = check(ALL_IS_WELL)
    assert (repr(verdict), "lost 0" in str(verdict), "out of order 0" in str(verdict)) == (str(verdict), True, True)


# -- mutations -----------------------------------------------------------------------------------------------------------


@st.composite
def clean(draw: st.DrawFn) -> tuple[list[Record], Random]:
    """Every event committed, delivered and applied; keys interleaved as a seed has it, order kept within each."""
    random = draw(st.randoms(use_true_random=False))
    keys = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    queues = [[(f"e{key}-{n}", f"k{key}", n) for n in range(1, count + 1)] for key, count in enumerate(keys)]
    history: list[Record] = []
    for queue in queues:
        for event, key, seq in queue:
            history += committed(event, key, seq)
    while any(queues):
        queue = random.choice([queue for queue in queues if queue])
        event, key, _ = queue.pop(0)
        history += [delivered(event, key), applied(event)]
    return history, random


def deliveries(history: list[Record]) -> list[Record]:
    return [record for record in history if record.op == "deliver"]


@given(clean())
def test_a_clean_history_is_found_clean(made: tuple[list[Record], Random]) -> None:
    """No false alarms."""
    assert figures(check(made[0])) == {}


@given(clean())
def test_a_dropped_delivery_is_a_lost_event(made: tuple[list[Record], Random]) -> None:
    """Exactly that one."""
    history, random = made
    gone = random.choice(deliveries(history))
    verdict = check([record for record in history if record is not gone])
    assert (verdict.lost_ids, figures(verdict)) == ((gone.event,), {"lost": 1})


@given(clean())
def test_a_repeated_delivery_is_a_duplicate(made: tuple[list[Record], Random]) -> None:
    """Anywhere behind the first."""
    history, random = made
    again = random.choice(deliveries(history))
    history.insert(random.randint(history.index(again) + 1, len(history)), delivered(again.event, again.key))
    assert figures(check(history)) == {"duplicates": 1}


@given(clean())
def test_a_repeated_effect_is_applied_twice(made: tuple[list[Record], Random]) -> None:
    """Exactly that one."""
    history, random = made
    again = random.choice(deliveries(history)).event
    verdict = check([*history, applied(again)])
    assert (verdict.applied_twice_ids, figures(verdict)) == ((again,), {"applied_twice": 1})


@given(clean())
def test_a_delivery_nobody_committed_is_unexpected(made: tuple[list[Record], Random]) -> None:
    """Whether it failed or was never begun."""
    history, random = made
    ghost = random.choice(deliveries(history)).event
    verdict = check([record for record in history if (record.op, record.event) != ("commit", ghost)])
    assert (verdict.unexpected_ids, verdict.lost) == ((ghost,), 0)


@given(clean())
def test_two_swapped_events_of_a_key_are_out_of_order(made: tuple[list[Record], Random]) -> None:
    """The one that came late is named."""
    history, random = made
    by_key: dict[str, list[int]] = {}
    for place, record in enumerate(history):
        if record.op == "deliver":
            by_key.setdefault(record.key, []).append(place)
    pairs = [pair for places in by_key.values() for pair in pairwise(places)]
    if not pairs:
        return
    first, second = random.choice(pairs)
    late = history[first].event
    history[first], history[second] = history[second], history[first]
    assert check(history).out_of_order_ids == (late,)
