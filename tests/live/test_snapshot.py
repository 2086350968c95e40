"""The snapshot tells what the checker tells, however it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.evidence.checker import check
from reference.evidence.checker.checker import STORY
from reference.evidence.history import History, Phase, Record
from reference.live import charts
from reference.live.bins import GRAIN_S, Bins, largest, step, total
from reference.live.composer import Composer, Layout
from reference.live.following import Following, News
from reference.live.lanes import GAP, SLOTS
from reference.live.palette import PARTITIONS
from reference.live.picture import svg
from reference.live.scene import PANELS
from reference.live.shapes import Line
from reference.live.snapshot import Sampler, Snapshot, State, snapshot

Make = Callable[..., list[Record]]

RECORDS = st.lists(
    st.builds(
        Record,
        op=st.sampled_from(["commit", "publish", "deliver", "apply", "ack", "lag", "fault"]),
        phase=st.sampled_from(["ok", "ok", "ok", "invoke", "fail", "info"]),
        event=st.sampled_from(["a", "b", "c", "d"]),
        key=st.sampled_from(["k", "k", "l", ""]),
        seq=st.one_of(st.none(), st.integers(0, 4)),
        partition=st.one_of(st.none(), st.integers(0, 2)),
        group=st.sampled_from(["", "g"]),
        value=st.one_of(st.none(), st.floats(0, 1e6)),
        note=st.sampled_from(["", "crash", "dead letter"]),
        at=st.floats(0, 500),
    ),
    max_size=40,
)


def states(shown: Snapshot) -> list[State]:
    return [mark.state for lane in shown.lanes for mark in lane.marks]


@settings(max_examples=300)
@given(RECORDS)
def test_any_history_gets_the_checkers_verdict(records: list[Record]) -> None:
    """The verdict shown is the one that check() gives, id by id."""
    assert snapshot(records).verdict == check(records)


@pytest.mark.parametrize("seed", range(60))
def test_wild_histories_get_the_checkers_verdict(seed: int, make_wild: Make) -> None:
    """Long histories with late commits, changing keys and several groups are judged as check() judges them."""
    records = make_wild(seed, 300)
    assert snapshot(records).verdict == check(records)


@settings(max_examples=200)
@given(RECORDS, st.lists(st.integers(0, 40), max_size=6))
def test_bit_by_bit_equals_all_at_once(records: list[Record], cuts: list[int]) -> None:
    """Looking at a growing history many times ends in the same snapshot as looking once."""
    sampler, taken = Sampler(), 0
    for cut in sorted(cuts):
        sampler.fold(records[taken : max(taken, cut)])
        taken = max(taken, cut)
        sampler.snapshot(settled=False, keep=["l"])
    sampler.fold(records[taken:])
    assert sampler.snapshot() == snapshot(records)


def test_pure(make_wild: Make) -> None:
    """The same records give the same snapshot."""
    assert snapshot(make_wild(7)) == snapshot(make_wild(7))


def test_following_a_history_takes_each_record_once(make_orders: Make) -> None:
    """Following a history as it grows tells each record once, in order, and says when there is nothing new."""
    history = History()
    following = Following(history)
    told = []
    for record in make_orders(20):
        history.add(record)
        assert following.behind
        told += following.news().records
    assert (told, following.behind, following.news()) == (list(history), False, News([]))


def test_a_merged_history_is_folded_again(make_orders: Make) -> None:
    """Where records were merged in before those already told, all are told anew; a composer then knows what one does that
    was told them at once."""
    records = make_orders(20)
    history, composer = History(records[50:]), Composer(Layout(PANELS, 60.0, 12, SLOTS, 452.0, 12))
    following = Following(history)
    composer.frame(following.news(), charts=True)
    history.extend(records[:50])
    composer.look(news := following.news(), settled=True)
    assert (news, composer.snapshot()) == (News(list(history), anew=True), snapshot(history))


def test_each_state_of_an_event_is_told() -> None:
    """Committed, delivered, applied, set aside or wrong in one of four ways: each has its own state."""
    commits = [Record(op="commit", event=f"e{i}", key=f"k{i}", seq=1, at=1.0) for i in range(7)]
    late = [Record(op="commit", event=f"l{i}", key="k7", seq=i, at=1.0) for i in (1, 2)]
    arrivals = [Record(op="deliver", event=e, key=k, at=2.0) for e, k in (("l2", "k7"), ("l1", "k7"), ("ghost", "k8"))]
    deliveries = [Record(op="deliver", event=f"e{i}", key=f"k{i}", at=2.0) for i in (1, 2, 3, 5, 6)]
    effects = [Record(op="apply", event=f"e{i}", key=f"k{i}", at=3.0) for i in (2, 3, 3)]
    notes = [(5, "parked"), (6, "dead letter")]
    aside = [Record(op="apply", phase="fail", event=f"e{i}", key=f"k{i}", note=note, at=3.0) for i, note in notes]
    records = [*commits, *late, *arrivals, *deliveries, *effects, *aside]
    assert set(states(snapshot(records))) | set(states(snapshot(records, settled=False))) == set(State)


def test_nothing_is_lost_before_it_is_settled() -> None:
    """An event still on its way is committed; only a settled history says that it is lost."""
    records = [Record(op="commit", event="e", key="k", seq=1, at=1.0)]
    assert (states(snapshot(records, settled=False)), states(snapshot(records))) == ([State.COMMITTED], [State.LOST])


def test_a_redelivery_is_not_out_of_order(make_orders: Make) -> None:
    """An old event delivered again is a duplicate; its mark counts the deliveries and stays applied."""
    records = make_orders(9)
    again = next(r for r in records if r.op == "deliver")
    shown = snapshot([*records, replace(again, at=200.0)])
    marks = [mark for lane in shown.lanes for mark in lane.marks if mark.deliveries > 1]
    assert [(mark.event, mark.deliveries, mark.state) for mark in marks] == [("e0", 2, State.APPLIED)]


def test_keys_in_trouble_come_first(make_orders: Make) -> None:
    """However few events it has, a key in trouble is shown first, and all keys are counted."""
    shown = snapshot([*make_orders(400, keys=20), Record(op="commit", event="x", key="zz", seq=1, at=300.0)])
    assert (shown.lanes[0].key, len(shown.lanes), shown.keys) == ("zz", 12, 21)


def test_short_keys_share_the_room(make_orders: Make) -> None:
    """Keys with one or two events take less room, so four times as many are shown."""
    assert len(snapshot(make_orders(200, keys=100)).lanes) == 48


def test_kept_keys_stay_in_place(make_orders: Make) -> None:
    """A live board that passes what it showed last sees untroubled lanes in the same order."""
    sampler = Sampler(keys=3)
    sampler.fold(make_orders(300, keys=10))
    shown = sampler.snapshot(settled=False, keep=["order-9", "order-2", "order-5"])
    assert [lane.key for lane in shown.lanes] == ["order-9", "order-2", "order-5"]


@pytest.mark.parametrize("seed", range(20))
def test_a_lane_never_outgrows_its_room(seed: int, make_wild: Make) -> None:
    """However many events a key has, its marks and gaps fit, and what is left out is counted."""
    renamed = [replace(r, event=f"{r.event}-{i // 5}", key="k") for i, r in enumerate(make_wild(seed, 600))]
    (lane,) = snapshot(renamed).lanes
    gaps = sum(1 for skipped in lane.skipped if skipped)
    assert (len(lane.marks) + GAP * gaps <= SLOTS, len(lane.marks) + sum(lane.skipped)) == (True, lane.events)


def test_events_in_trouble_are_not_left_out() -> None:
    """In a long key the one lost event is among the marks."""
    commits = [Record(op="commit", event=f"e{i}", key="k", seq=i, at=1.0 + i) for i in range(1, 101)]
    deliveries = [Record(op="deliver", event=r.event, key="k", seq=r.seq, at=r.at + 0.5) for r in commits if r.seq != 30]
    (lane,) = snapshot([*commits, *deliveries]).lanes
    assert [mark.seq for mark in lane.marks if mark.state is State.LOST] == [30]


def test_a_story_says_what_happened_and_after_which_fault() -> None:
    """An event's story has its steps in order, what overtook it, and the fault that a redelivery followed."""
    records = [
        Record(op="commit", event="a", key="k", seq=1, at=10.0),
        Record(op="commit", event="b", key="k", seq=2, at=10.1),
        Record(op="deliver", event="b", key="k", group="g", partition=0, offset=7, at=10.2),
        Record(op="deliver", event="a", key="k", group="g", partition=0, offset=8, at=10.3),
        Record(op="fault", note="relay killed", at=10.4),
        Record(op="deliver", event="a", key="k", group="g", partition=0, offset=9, at=10.5),
    ]
    assert snapshot(records).lanes[0].marks[0].story == (
        (0.0, "committed"),
        (0.3, "delivered to g · partition 0 offset 8 · behind #2"),
        (0.5, "delivered again to g · partition 0 offset 9 · after ‘relay killed’"),
    )


def test_memory_is_bounded() -> None:
    """A day of samples and a thousand redeliveries of one event leave a bounded story and a bounded number of bins."""
    sampler = Sampler(window_s=10)
    sampler.fold(Record(op="lag", partition=0, value=1.0, at=float(i)) for i in range(86_400))
    sampler.fold(Record(op="deliver", event="e", key="k", at=86_400 + i * 0.01) for i in range(1_000))
    shown, timeline = sampler.snapshot(), sampler._timeline
    bins = len(timeline._counts["delivered"]) + len(timeline._depths["", 0])
    assert (len(shown.lanes[0].marks[0].story) <= STORY + 1, bins < 2_000) == (True, True)


def test_an_hour_fits_into_memory(make_orders: Make) -> None:
    """Of a long run the last events are remembered, and of all others their counts."""
    sampler = Sampler(most=100)
    for hour in range(20):
        later = make_orders(50, keys=5, start=100.0 * hour)
        sampler.fold(replace(r, event=f"{r.event}-{hour}", seq=10 * hour + (r.seq or 0)) for r in later)
    shown, ledger = sampler.snapshot(), sampler._ledger
    assert (shown.verdict.acknowledged, shown.verdict.applied, shown.verdict.clean) == (1_000, 1_000, True)
    assert len(ledger._entries) <= 200
    assert sum(len(row.entries) for row in ledger.rows.values()) == len(ledger._entries)
    assert {row.shown for row in ledger.rows.values()} == {len(row.entries) for row in ledger.rows.values()}


def test_what_comes_again_after_an_hour_is_a_repetition(make_orders: Make) -> None:
    """A delivery of an event that was forgotten is counted, and is no event that nobody committed."""
    sampler, first = Sampler(most=10), make_orders(1)
    sampler.fold(first)
    sampler.fold(replace(r, event=f"later-{r.event}") for r in make_orders(50, start=200.0))
    sampler.fold(replace(r, at=300.0) for r in first if r.op == "deliver")
    verdict = sampler.snapshot().verdict
    assert (verdict.duplicates, verdict.unexpected, verdict.acknowledged) == (1, 0, 51)


def test_what_is_wrong_stays_wrong_when_it_is_forgotten(make_orders: Make) -> None:
    """The events that were lost, or applied twice, an hour ago are still counted."""
    sampler = Sampler(most=10)
    first = [*make_orders(2), Record(op="commit", event="lost", key="k", seq=1, at=101.0)]
    sampler.fold([*first, *(replace(r, at=102.0) for r in first if r.op == "apply" and r.event == "e1")])
    sampler.fold(replace(r, event=f"later-{r.event}") for r in make_orders(50, start=200.0))
    verdict = sampler.snapshot().verdict
    assert (verdict.lost, verdict.applied_twice, verdict.out_of_order) == (1, 1, 0)


@pytest.mark.parametrize("seed", range(20))
def test_repetitions_are_counted_as_the_verdict_counts_them(seed: int, make_wild: Make) -> None:
    """The stairs of the chart end at the verdict's duplicates."""
    shown = snapshot(make_wild(seed, 400))
    again, twice = shown.repeats
    assert again.points[-1][1] == shown.verdict.duplicates
    assert (twice.points[-1][1] > 0) == (shown.verdict.applied_twice > 0)


def test_the_window_moves() -> None:
    """A long history shows its last seconds only."""
    records = [Record(op="lag", partition=0, value=float(i), at=float(i)) for i in range(1, 200)]
    shown = snapshot(records, window_s=30)
    assert (shown.span, min(at for at, _ in shown.lag[0].points) >= shown.span[0] - GRAIN_S) == ((168.0, 198.0), True)


def test_rates_add_up(make_orders: Make) -> None:
    """Events a second, times the seconds of a bin, are the events there were."""
    published = snapshot(make_orders(100)).rates[0].points
    step = published[1][0] - published[0][0]
    assert sum(value for _, value in published) * step == pytest.approx(100)


def test_lag_agrees_with_the_verdict(make_orders: Make) -> None:
    """The highest point of the lines is the worst lag of the verdict."""
    shown = snapshot(make_orders(50))
    assert max(value for one in shown.lag for _, value in one.points) == shown.verdict.max_lag == 4


def test_a_frame_of_a_long_history_is_cheap(make_orders: Make) -> None:
    """After twenty thousand records, a few more and the next snapshot take far less than the first fold did."""
    records, sampler = make_orders(4_100, keys=200), Sampler()
    begun = perf_counter()
    sampler.fold(records[:20_000])
    folded = perf_counter() - begun
    sampler.snapshot(settled=False)
    begun = perf_counter()
    for i in range(10):
        sampler.fold(records[20_000 + i * 20 : 20_020 + i * 20])
        sampler.snapshot(settled=False)
    assert (perf_counter() - begun) / 10 < folded / 3


def test_a_lag_that_nobody_could_sample_is_not_the_last_one(make_orders: Make) -> None:
    """Where a sample failed, how far that group is behind is unknown, and said to be, until one succeeds."""
    deep = Record(op="lag", partition=0, value=89.0, at=201.0)
    away = Record(op="lag", phase="fail", at=202.0)
    back = Record(op="lag", partition=0, value=2.0, at=203.0)
    shots = [snapshot([*make_orders(6), *more]) for more in ([deep], [deep, away], [deep, away, back])]
    assert [shot.lag_now for shot in shots] == [89, None, 2]
    assert ["deepest now unknown · worst 89" in svg(shot, ["lag"]) for shot in shots] == [False, True, False]


def test_nothing_is_drawn_through_a_gap() -> None:
    """While a broker was away nobody knew the lag: each group's lines stop at its own failed sample, and begin again."""
    queues = [("away", 0), ("away", 1), ("there", 0)]
    records = [Record(op="lag", group=group, partition=p, value=4.0, at=100.0 + at) for at in (0, 1, 5, 6) for group, p in queues]
    failed = [Record(op="lag", phase="fail", group="away", at=100.0 + at) for at in (2, 4)]
    shot = snapshot(sorted([*records, *failed], key=lambda record: record.at))
    assert [len(line.gaps) for line in shot.lag] == [2, 2, 0]
    frame = charts.Frame(0, 0, 600, 100, shot.span)
    drawn = [shape for shape in charts.lag(shot, frame, title_y=0) if isinstance(shape, Line) and shape.stroke in PARTITIONS]
    spans = [(shape.points[0], shape.points[-2]) for shape in drawn]
    before, after = (frame.at(0), frame.at(1)), (frame.at(5), frame.at(6))
    assert [(left, right) for left, right in spans] == [pytest.approx(one, abs=5) for one in
                                                        (before, after, before, after, (frame.at(0), frame.at(6)))]  # fmt: skip


def test_what_is_known_between_gaps_is_seen() -> None:
    """A sample alone is a dot, and one that failed right beside others that did not is no gap."""
    alone = [(0, 0.0), (10, None), (20, 900.0), (30, None), (40, 0.0)]
    beside = [(0, 1.0), (10.1, 1.0), (10.2, None), (20, 1.0)]

    def drawn(samples: Sequence[tuple[float, float | None]]) -> list[tuple[float, ...]]:
        phases: dict[bool, Phase] = {True: "fail", False: "ok"}
        told = [(phases[v is None], v, 100.0 + at) for at, v in samples]
        records = [Record(op="lag", phase=phase, partition=0, value=v, at=at) for phase, v, at in told]
        shot = snapshot(records)
        shapes = charts.lag(shot, charts.Frame(0, 0, 600, 100, shot.span), title_y=0)
        return [shape.points for shape in shapes if isinstance(shape, Line) and shape.stroke in PARTITIONS]

    assert [(round(end - start, 1), up == down) for start, up, end, down in drawn(alone)] == 3 * [(3.0, True)]
    assert [len(points) for points in drawn(beside)] == [6]


def test_what_may_still_be_explained_is_no_alarm(make_orders: Make) -> None:
    """A delivery may be recorded before the commit behind it: while events are on their way, its mark is as any other's."""
    ghost = Record(op="deliver", event="ghost", key="k", group="billing", at=201.0)
    found = {settled: snapshot([*make_orders(2), ghost], settled=settled) for settled in (True, False)}
    marks = {settled: [mark for lane in shot.lanes for mark in lane.marks] for settled, shot in found.items()}
    states = {settled: next(mark.state for mark in shown if mark.event == "ghost") for settled, shown in marks.items()}
    assert states == {True: State.UNEXPECTED, False: State.DELIVERED}
    assert found[True].lanes[0].key == "k"  # in trouble, and so shown first


def test_an_event_that_was_applied_late_is_marked() -> None:
    """Also when it was delivered in order; and so is one that was acked and never applied."""
    records = [Record(op="commit", event=e, key="k", seq=n, at=1.0) for n, e in ((1, "one"), (2, "two"), (3, "three"))]
    records += [Record(op="deliver", event=e, key="k", group="g", process="p", at=2.0) for e in ("one", "two", "three")]
    records += [Record(op="apply", event=e, key="k", group="g", process=e, at=3.0) for e in ("two", "one")]
    records += [Record(op="ack", event=e, key="k", group="g", process="p", at=4.0) for e in ("one", "two", "three")]
    (lane,) = snapshot(records).lanes
    assert [mark.state for mark in lane.marks] == [State.OUT_OF_ORDER, State.APPLIED, State.DELIVERED]
    assert (3.0, "applied by g · behind #2") in [(at + 1.0, words) for at, words in lane.marks[0].story]
    sampler = Sampler()
    sampler.fold(records)
    sampler.snapshot()
    assert sampler._ledger.rows["k"].troubled == 2


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 9)), max_size=80), st.sampled_from([largest, total]))
def test_bins_are_what_one_would_count_by_hand(added: list[tuple[int, int]], gather: Callable[[float, float], float]) -> None:
    """However values come, and whatever was asked in between."""
    bins, span = Bins(gather, kept=10_000), (0.0, 20.0)
    by_hand: dict[int, float] = {}
    wide = step(span, bins=40)
    for grain, value in added:
        bins.add(grain, value)
        place = grain // wide
        by_hand[place] = gather(by_hand[place], value) if place in by_hand else value
        bins.points(span, bins=40)
    assert [value for _, value in bins.points(span, bins=40)] == [by_hand[place] for place in sorted(by_hand)]
    told = bins.per_second(span, bins=40, filling=True)
    assert [value for _, value in told] == [by_hand.get(place, 0.0) / (wide * GRAIN_S) for place in range(len(told))]


def test_a_clock_that_jumps_keeps_no_more() -> None:
    """One value far ahead, and all that come after it belong to a time that is over."""
    bins = Bins(largest, kept=100)
    bins.add(10**9, 1.0)
    for grain in range(5_000):
        bins.add(grain, 1.0)
    assert len(bins) <= 201


def test_a_line_of_lag_ends_where_the_queue_is_now() -> None:
    """However deep it was a moment before, in the same bin."""
    deep, now = (Record(op="lag", partition=0, value=value, at=at) for value, at in ((77.0, 100.0), (0.0, 100.01)))
    (line,) = snapshot([deep, now]).lag
    assert [value for _, value in line.points] == [77.0, 0.0]


def test_a_story_is_told_in_the_order_of_its_times() -> None:
    """A commit that was noticed after the delivery stands before it."""
    place = {"event": "e", "key": "k", "seq": 1}
    noticed = [
        Record(op="publish", at=2.0, **place),
        Record(op="deliver", group="g", at=3.0, **place),
        Record(op="commit", at=1.0, **place),
    ]
    (lane,) = snapshot(noticed).lanes
    assert [words for _, words in lane.marks[0].story] == ["committed", "published", "delivered to g"]
