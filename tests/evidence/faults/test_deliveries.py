from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from reference.brokers import Delivery, Message, Subscription, connect
from reference.brokers.memory import MemoryBroker
from reference.evidence import faults
from reference.evidence.history import History
from reference.stack import Endpoints

Eventually = Callable[..., Any]


@pytest.fixture
def broker() -> MemoryBroker:
    """Forty messages of one key in a topic of one partition."""
    broker = MemoryBroker()
    broker.create_topic("t", partitions=1)
    broker.publish([Message("t", "k", f"{n}", []) for n in range(40)])
    return broker


@pytest.fixture
def inner(broker: MemoryBroker) -> Subscription:
    return broker.subscribe(["t"], group="g")


def numbers(deliveries: list[Delivery]) -> list[int]:
    return [int(delivery.value or b"") for delivery in deliveries]


def drain(subscription: Subscription, count: int, *, limit: int = 100) -> list[Delivery]:
    """So many, and what more comes at once, acked as they come."""
    taken: list[Delivery] = []
    while batch := subscription.receive(limit, 30.0 if len(taken) < count else 0.0):
        assert len(batch) <= limit
        for delivery in batch:
            subscription.ack(delivery)
        taken += batch
    assert len(taken) >= count
    return taken


def fresh(make: Callable[[Subscription], Subscription], *, count: int = 40) -> tuple[Subscription, MemoryBroker]:
    broker = MemoryBroker()
    broker.create_topic("t", partitions=1)
    broker.publish([Message("t", "k", f"{n}", []) for n in range(count)])
    return make(broker.subscribe(["t"], group="g")), broker


# -- twice -------------------------------------------------------------------------------------------------------------


def doubled(seed: int, *, limit: int = 100) -> list[int]:
    subscription, _ = fresh(lambda inner: faults.DeliverTwice(inner, every=3, seed=seed))
    return numbers(drain(subscription, 40 + 13, limit=limit))


def test_the_same_seed_doubles_the_same_deliveries() -> None:
    """Every third, right behind the first; the seed decides where it begins, and the size of the batches nothing."""
    assert [doubled(seed) for seed in range(10)] == [doubled(seed, limit=1) for seed in range(10)]
    assert len({tuple(doubled(seed)) for seed in range(10)}) == 3


def test_a_doubled_delivery_says_so(broker: MemoryBroker, inner: Subscription) -> None:
    """Same place, one attempt more; acks and nacks reach the broker."""
    subscription = faults.DeliverTwice(inner, every=1)
    first, second = subscription.receive(2)
    subscription.nack(first)
    third, fourth = subscription.receive(2)
    subscription.ack(third)
    subscription.ack(fourth)
    subscription.close()
    assert ((first.where, second.attempt), third.where, broker.lag(["t"], group="g")) == (
        (second.where, 2), first.where, {("t", 0): 39},
    )  # fmt: skip


# -- lost acks ---------------------------------------------------------------------------------------------------------


def test_an_ack_that_is_lost_brings_the_delivery_back(broker: MemoryBroker, inner: Subscription) -> None:
    """And, where acks are a position, what came after it; not before the member leaves."""
    subscription = faults.DropAcks(inner, every=40, seed=3)
    assert numbers(drain(subscription, 40)) == list(range(40))
    subscription.close()
    again = numbers(broker.subscribe(["t"], group="g").receive())
    assert (again, subscription.fired) == (list(range(again[0], 40)), 1)


def first_lost(seed: int) -> int:
    subscription, broker = fresh(lambda inner: faults.DropAcks(inner, every=40, seed=seed))
    drain(subscription, 40)
    subscription.close()
    return numbers(broker.subscribe(["t"], group="g").receive())[0]


def test_the_same_seed_loses_the_same_acks() -> None:
    """And others lose others."""
    lost = [first_lost(seed) for seed in range(20)]
    assert lost == [first_lost(seed) for seed in range(20)]
    assert len({*lost}) > 10


# -- late --------------------------------------------------------------------------------------------------------------


def test_what_is_late_is_overtaken_and_comes(inner: Subscription) -> None:
    """Which ones is the seed's; the others are not kept waiting, nothing is missing and nothing comes twice."""
    late = faults.Delay(inner, up_to_s=0.2, share=0.3, seed=1)
    first = numbers(late.receive())
    assert first == sorted(first)
    assert len(first) + late.fired == 40
    assert 0 < late.fired < 40
    rest = []
    while len(first) + len(rest) < 40:
        rest += numbers(late.receive())
    assert sorted(first + rest) == list(range(40))


def test_the_same_seed_keeps_the_same_deliveries_back() -> None:
    """However many are taken at a time."""

    def at_once(seed: int, limit: int) -> list[int]:
        late, _ = fresh(lambda inner: faults.Delay(inner, up_to_s=3_600, share=0.5, seed=seed))
        return [number for _ in range(80) for number in numbers(late.receive(limit, 0.0))]

    assert at_once(1, 100) == at_once(1, 3) != at_once(2, 100)


def test_who_waits_for_what_is_late_gets_it_in_time(inner: Subscription) -> None:
    """One ``receive`` is enough, if its timeout is longer than the delay: no empty list in between."""
    late = faults.Delay(inner, up_to_s=0.05, share=1.0)
    assert late.receive(100, 60.0)


def test_what_is_kept_back_at_a_close_comes_again(broker: MemoryBroker, inner: Subscription) -> None:
    """It was never acked; the closed one hands out nothing of it."""
    late = faults.Delay(inner, up_to_s=3_600)
    assert late.receive(100, 0.0) == []
    late.close()
    with pytest.raises(RuntimeError, match="subscription is closed"):
        late.receive()
    assert numbers(broker.subscribe(["t"], group="g").receive()) == list(range(40))


# -- shuffled ----------------------------------------------------------------------------------------------------------


def shuffled(seed: int, *, limit: int = 100, window: int = 10) -> list[int]:
    subscription, _ = fresh(lambda inner: faults.Shuffle(inner, window=window, seed=seed))
    return numbers(drain(subscription, 40, limit=limit))


def test_a_window_is_shuffled_and_none_leaves_it() -> None:
    """The seed decides the order, and the size of the batches nothing."""
    assert shuffled(1) == shuffled(1, limit=3) != shuffled(2)
    windows = [shuffled(1)[n : n + 10] for n in range(0, 40, 10)]
    assert [sorted(window) for window in windows] == [list(range(n, n + 10)) for n in range(0, 40, 10)]
    assert not any(window == sorted(window) for window in windows)


def test_a_window_that_stays_empty_is_not_waited_for() -> None:
    """What is there when the timeout is over is handed out, shuffled; what comes later goes on in the same window."""
    subscription, broker = fresh(lambda inner: faults.Shuffle(inner, window=50))
    first = numbers(subscription.receive(100, 0.05))
    broker.publish([Message("t", "k", f"{n}", []) for n in range(40, 60)])
    second = numbers(subscription.receive(100, 0.05))
    assert (sorted(first), sorted(second)) == (list(range(40)), list(range(40, 50)))
    assert first != sorted(first)


# -- nacks and handovers -----------------------------------------------------------------------------------------------


def test_a_nack_takes_back_what_stands_behind_it() -> None:
    """It comes again from the broker: handed out at once it would come before what failed, and then twice."""
    subscription, _ = fresh(lambda inner: faults.Shuffle(inner, window=40, seed=5))
    batch = subscription.receive(10)
    for delivery in batch[1:]:
        subscription.ack(delivery)
    subscription.nack(batch[0])
    rest = numbers(drain(subscription, 1))
    done = {*numbers(batch[1:]), *rest}
    assert done == set(range(40))
    assert sorted(rest) == sorted({*rest})


def test_a_nack_of_what_is_done_takes_nothing_back() -> None:
    """The broker does nothing then, so nothing would come again: what was dropped would be lost."""
    subscription, broker = fresh(lambda inner: faults.Shuffle(inner, window=40, seed=1))
    taken: list[Delivery] = []
    while not taken or taken[-1].offset != 0:  # the broker forgets an ack as soon as nothing stands before it
        taken += subscription.receive(1)
        subscription.ack(taken[-1])
    subscription.nack(taken[-1])
    assert sorted(numbers(taken + drain(subscription, 40 - len(taken)))) == list(range(40))
    subscription.close()
    assert broker.lag(["t"], group="g") == {("t", 0): 0}


@pytest.mark.parametrize("seed", range(20))
def test_a_nack_of_a_copy_whose_original_is_done_takes_nothing_back(seed: int) -> None:
    """A repetition that comes out after the ack is owed to nobody: what stands behind it would not come again."""
    subscription, _ = fresh(lambda inner: faults.Shuffle(faults.DeliverTwice(inner, every=2), window=2, seed=seed))
    seen, nacked = set[int](), set[int]()
    while batch := subscription.receive(1, 0.0):
        (delivery,) = batch
        number = int(delivery.value or b"")
        if number in seen and number not in nacked:
            nacked.add(number)
            subscription.nack(delivery)
        else:
            subscription.ack(delivery)
        seen.add(number)
    assert (seen, len(nacked) > 0) == (set(range(40)), True)


def test_after_a_handover_nothing_is_dropped(stack: Endpoints, eventually: Eventually) -> None:
    """The broker has given all of it again, in other places, and does not hear of a nack of what it took back."""
    with connect(stack.rabbitmq, timeout_s=30) as broker:
        broker.create_topic(topic := f"handed-over-{uuid.uuid4().hex[:8]}", partitions=1)
        broker.subscribe([topic], group=topic).close()
        broker.publish([Message(topic, "k", f"{n}", []) for n in range(10)])
        member: Any = broker.subscribe([topic], group=topic)
        shuffle = faults.Shuffle(member, window=10)
        before = shuffle.receive(10, 30.0)
        while len(before) < 10:
            before += shuffle.receive(10, 30.0)
        member.membership._link.abort()
        again = eventually(lambda: shuffle.receive(1, 0.5))
        shuffle.ack(again[0])
        shuffle.nack(before[0])
        assert sorted(numbers(again + drain(shuffle, 9))) == list(range(10))


# -- together ----------------------------------------------------------------------------------------------------------


def test_faults_may_be_put_around_each_other() -> None:
    """Everything comes, each as often as it was doubled, and the same seeds give the same faults, all in the history."""

    def run() -> tuple[list[int], dict[str, int], int]:
        history = History()

        def make(inner: Subscription) -> Subscription:
            twice = faults.DeliverTwice(inner, every=10, seed=1, history=history)
            late = faults.Delay(twice, up_to_s=0.05, share=0.1, seed=2, history=history)
            lost = faults.DropAcks(late, every=50, seed=3, history=history)
            return faults.Shuffle(lost, window=50, seed=4, history=history)

        subscription, broker = fresh(make, count=500)
        taken = numbers(drain(subscription, 550))
        subscription.close()
        notes = [record.note for record in history]
        counts = {name: notes.count(name) for name in ("deliver twice", "delay", "drop the ack")}
        return sorted(taken), counts, broker.lag(["t"], group="g")["t", 0]

    taken, counts, lag = run()
    assert (taken, counts) == run()[:2]
    assert ({*taken}, len(taken), counts["deliver twice"], counts["drop the ack"]) == ({*range(500)}, 550, 50, 11)
    assert lag > 0
    assert counts["delay"] > 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda inner: faults.DeliverTwice(inner, every=0), "not once in 0"),
        (lambda inner: faults.DropAcks(inner, every=-1), "not once in -1"),
        (lambda inner: faults.Delay(inner, up_to_s=-1), "not -1 s"),
        (lambda inner: faults.Delay(inner, up_to_s=1, share=10), "between 0 and 1, not 10"),
        (lambda inner: faults.Shuffle(inner, window=0), "1 delivery or more, not 0"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(wrong: Callable[[Subscription], object], said: str, inner: Subscription) -> None:
    """The message says which number, and what it may be."""
    with pytest.raises(ValueError, match=said):
        wrong(inner)
