"""The oracle is itself proved: by hand-made histories with exactly one anomaly, and by mutations of clean ones."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.evidence.checker import Anomaly, Verdict, check
from reference.evidence.history import Record


def committed(event: str, key: str = "k", seq: int | None = None, phase: str = "ok") -> list[Record]:
    return [Record(op="commit", phase=p, event=event, key=key, seq=seq) for p in ("invoke", phase)]  # type: ignore[arg-type]


def delivered(event: str, key: str = "k", group: str = "g", seq: int | None = None) -> Record:
    return Record(op="deliver", event=event, key=key, group=group, seq=seq)


def applied(event: str, group: str = "g") -> Record:
    return Record(op="apply", event=event, group=group)


def figures(verdict: Verdict) -> dict[str, int]:
    counts = {anomaly.replace(" ", "_"): count for anomaly, count in verdict.found.items()}
    return counts | {name: getattr(verdict, name) for name in ("duplicates", "recovered") if getattr(verdict, name)}


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
        ([*committed("e1", phase="fail"), delivered("e1")], {"aborted_read": 1}),
        ([*committed("e1", phase="info"), delivered("e1")], {"recovered": 1}),
        ([committed("e1")[0], delivered("e1")], {"recovered": 1}),
        ([*committed("e1"), delivered("e1"), delivered("e1"), delivered("e1")], {"duplicates": 2}),
        ([*committed("e1"), delivered("e1"), delivered("e1", group="other")], {}),
        ([*committed("e1"), delivered("e1"), *committed("e2"), delivered("e2"), delivered("e2", group="other")], {"lost": 1}),
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


def test_a_group_that_takes_some_messages_only_is_owed_none() -> None:
    """What a filter lets through nobody can tell; what another group is owed stays owed."""
    filtered = Record(op="join", group="few", topic="t", note="filtered")
    written = [replace(record, topic="t") for record in [*committed("e1"), *committed("e2")]]
    seen = [delivered("e1", group="few"), delivered("e1"), delivered("e2")]
    assert figures(check([filtered, *written, *(replace(record, topic="t") for record in seen)])) == {}
    assert figures(check([filtered, *written, *(replace(record, topic="t") for record in seen[:2])])) == {"lost": 1}


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
    found = {violation.anomaly: violation.event for violation in verdict.violations}
    assert found == {Anomaly.LOST: "e1", Anomaly.UNEXPECTED: "e2", Anomaly.APPLIED_TWICE: "e3"}


def test_an_event_that_goes_wrong_against_itself_has_sentences_of_its_own() -> None:
    """It was published twice, and a reader went from one place to the other: no other event is spoken of."""
    back = check([*committed("e1"), handed("e1", 7), handed("e1", 7)])
    assert [str(found) for found in back.violations] == [
        "group g was handed e1 at t[0]@7 after it had been handed it there, or behind there, and nothing had sent the reader back"
    ]
    written = [*committed("e1", seq=1), *committed("e2", seq=2)]
    past = check([*written, handed("e1", 8, op="read"), handed("e2", 7), handed("e1", 9)])
    assert "group g was handed e1 and was never handed what stands before it at t[0]@8: e1 once more" in map(str, past.violations)


def test_a_verdict_reads_as_one_line() -> None:
    """The same words wherever it is shown."""
    verdict = check(ALL_IS_WELL)
    assert (repr(verdict), "lost 0" in str(verdict), "out of order 0" in str(verdict)) == (str(verdict), True, True)


# -- what once was judged wrongly ------------------------------------------------------------------------------------------


def joined(topic: str, note: str = "latest", group: str = "g") -> Record:
    return Record(op="join", topic=topic, group=group, note=note)


def handed(event: str, offset: int, *, attempt: int | None = None, process: str = "c", op: str = "deliver") -> Record:
    return Record(op=op, event=event, key="k", topic="t", partition=0, offset=offset, group="g", process=process,
                  attempt=attempt)  # type: ignore[arg-type]  # fmt: skip


def in_topic(topic: str, records: list[Record]) -> list[Record]:
    return [replace(record, topic=topic) for record in records]


def test_a_group_that_joins_topics_one_after_another_is_owed_each_from_its_own_join() -> None:
    """What came into the second topic between the two joins was written before the group was there."""
    between = in_topic("b", committed("e1"))
    assert figures(check([joined("a"), *between, joined("b"), *in_topic("b", committed("e2"))])) == {"lost": 1}


def test_a_repetition_that_the_broker_counts_is_a_step_on() -> None:
    """A member that was sent back and is handed the event again has not skipped it."""
    written = [record for n in (1, 2, 3) for record in committed(f"e{n}", seq=n)]
    back = handed("e2", 2, op="nack")
    history = [*written, handed("e1", 1), handed("e2", 2), back, handed("e2", 2, attempt=2), handed("e3", 3)]
    assert figures(check(history)) == {"duplicates": 1}


def test_an_effect_that_a_killed_process_began_may_have_happened() -> None:
    """Another one that skips the event, as applied before, does not end what the first began."""
    begun = Record(op="apply", phase="invoke", event="e1", group="g", process="killed")
    later = [Record(op=op, event="e1", group="g", process="other") for op in ("skip", "ack")]  # type: ignore[arg-type]
    other = [*committed("e2"), delivered("e2"), applied("e2")]
    assert figures(check([*committed("e1"), delivered("e1"), begun, *later, *other])) == {}


def test_a_process_that_skips_what_nobody_applied_leaves_it_unapplied() -> None:
    """It had begun it itself, and then said wrongly that the effect was there."""
    steps = [("apply", "invoke"), ("skip", "ok"), ("ack", "ok")]
    wrong = [Record(op=op, phase=phase, event="e1", group="g", process="p") for op, phase in steps]  # type: ignore[arg-type]
    other = [*committed("e2"), delivered("e2"), applied("e2")]
    assert figures(check([*committed("e1"), delivered("e1"), *wrong, *other])) == {"unapplied": 1}


def timed(op: str, event: str, *times: float) -> list[Record]:
    return [Record(op=op, phase=p, event=event, key="k", at=at) for p, at in zip(("invoke", "ok"), times, strict=True)]  # type: ignore[arg-type]


def test_the_clock_of_a_publish_tells_nothing_of_the_order_of_commits() -> None:
    """An event that nobody committed is unexpected; that it was published late puts none behind it out of order."""
    late = [*timed("commit", "e2", 1, 2), *timed("publish", "e1", 3, 4), delivered("e1"), delivered("e2")]
    assert figures(check(late)) == {"unexpected": 1}
    early = [*timed("publish", "e1", 3, 4), delivered("e1"), *timed("commit", "e2", 1, 2), delivered("e2")]
    assert figures(check(early)) == {"unexpected": 1}


def test_events_without_a_key_have_no_order() -> None:
    """None was promised."""
    history = [*timed("commit", "e1", 1, 2), *timed("commit", "e2", 3, 4), delivered("e2"), delivered("e1")]
    assert figures(check(history)) == {"out_of_order": 1}
    assert figures(check([replace(record, key="") for record in history])) == {}


def test_a_key_that_only_the_write_tells_is_known_to_the_delivery() -> None:
    """Nobody has to repeat it."""
    written = [*committed("e1", seq=1), *committed("e2", seq=2)]
    assert figures(check([*written, delivered("e2", ""), delivered("e1", "")])) == {"out_of_order": 1}


def test_offsets_may_begin_anywhere() -> None:
    """Below zero as well: what a group never read there is unread."""
    written = [*committed("e1", seq=1), *committed("e2", seq=2)]
    history = [*written, joined("t", "earliest"), handed("e1", -7), handed("e2", -6, op="read")]
    assert figures(check(history)) == {"lost": 1, "unseen_tail": 1}


def test_thousands_of_groups_are_told_apart() -> None:
    """Each of a topic of its own, and all of one that they share; the one that misses an event is named."""
    groups = [f"g{n}" for n in range(2000)]
    history = [joined(topic, "earliest", group) for group in groups for topic in ("shared", group)]
    for group in groups:
        history += [*in_topic(group, committed(group)), replace(delivered(group, group=group), topic=group)]
    history += in_topic("shared", committed("e"))
    history += [replace(delivered("e", group=group), topic="shared") for group in groups[1:]]
    [violation] = check(history).violations
    assert (violation.anomaly, violation.event, violation.group) == (Anomaly.LOST, "e", "g0")


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
    assert (verdict.events(Anomaly.LOST), figures(verdict)) == ((gone.event,), {"lost": 1})


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
    assert (verdict.events(Anomaly.APPLIED_TWICE), figures(verdict)) == ((again,), {"applied_twice": 1})


@given(clean())
def test_a_delivery_nobody_committed_is_unexpected(made: tuple[list[Record], Random]) -> None:
    """Whether it failed or was never begun."""
    history, random = made
    ghost = random.choice(deliveries(history)).event
    verdict = check([record for record in history if (record.op, record.event) != ("commit", ghost)])
    assert (verdict.events(Anomaly.UNEXPECTED), verdict.lost) == ((ghost,), 0)


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
    assert check(history).events(Anomaly.OUT_OF_ORDER) == (late,)
