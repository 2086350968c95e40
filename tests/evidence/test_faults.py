from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from reference.brokers import Message
from reference.brokers.memory import MemoryBroker
from reference.evidence import faults
from reference.evidence.history import History


def passes_that_crash(seed: int, *, every: int = 4, of: int = 40) -> list[int]:
    fault = faults.crash("between", every=every, seed=seed)
    crashed = []
    for n in range(of):
        try:
            fault()
        except faults.Crash:
            crashed.append(n)
    return crashed


def doubled(seed: int) -> list[bytes | None]:
    broker = MemoryBroker()
    broker.create_topic("t", partitions=1)
    broker.publish([Message("t", "k", f"{n}", []) for n in range(20)])
    return [delivery.value for delivery in faults.DeliverTwice(broker.subscribe(["t"], group="g"), every=3, seed=seed).receive()]


@pytest.mark.parametrize("seed", range(5))
def test_the_same_seed_crashes_at_the_same_passes(seed: int) -> None:
    """Once in every four, at a pass the seed decides."""
    crashed = passes_that_crash(seed)
    assert (crashed, [n // 4 for n in crashed]) == (passes_that_crash(seed), list(range(10)))


def test_seeds_differ() -> None:
    """Else they would be none."""
    assert len({tuple(passes_that_crash(seed)) for seed in range(20)}) > 10


def test_a_crash_is_recorded_and_counted() -> None:
    """Damage can be compared with its cause."""
    history = History()
    fault = faults.crash("between the writes", every=1, history=history)
    with pytest.raises(faults.Crash, match="between the writes"):
        fault("point", object())
    assert (fault.fired, [(record.op, record.note) for record in history]) == (1, [("fault", "between the writes")])


def test_no_ordinary_except_survives_a_crash() -> None:
    """The process is gone, as far as the code can tell."""
    assert not issubclass(faults.Crash, Exception)


def test_the_same_seed_doubles_the_same_deliveries() -> None:
    """Every third, right behind the first; the seed decides where it begins."""
    assert [doubled(seed) for seed in range(10)] == [doubled(seed) for seed in range(10)]
    assert len({tuple(doubled(seed)) for seed in range(10)}) == 3


def test_a_doubled_delivery_says_so() -> None:
    """Same place, second attempt; acks and nacks reach the broker."""
    broker = MemoryBroker()
    broker.create_topic("t", partitions=1)
    broker.publish([Message("t", "k", "1", [])])
    subscription = faults.DeliverTwice(broker.subscribe(["t"], group="g"), every=1)
    first, second = subscription.receive()
    subscription.nack(first)
    third, fourth = subscription.receive()
    subscription.ack(third)
    subscription.ack(fourth)
    subscription.close()
    assert ((first.where, second.attempt, subscription.fired), broker.lag(["t"], group="g")) == (
        (second.where, 2, 2),
        {("t", 0): 0},
    )


def test_kill_is_a_kill() -> None:
    """At the nth pass of its point and no other; nothing is cleaned up."""
    program = (
        "from reference.evidence.faults import kill\n"
        "at = kill('published', nth=2)\n"
        "try:\n"
        "    for point in ('read', 'published', 'read', 'published', 'read'): at(point); print(point, flush=True)\n"
        "finally: print('cleaned up', flush=True)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (said.returncode, said.stdout.split()) == (-signal.SIGKILL, ["read", "published", "read"])
