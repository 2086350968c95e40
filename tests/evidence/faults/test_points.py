from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from typing import get_args

import pytest

from reference.delivery import cdc, consumer, relay
from reference.evidence import faults, victim
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


def test_every_point_of_the_code_has_its_words() -> None:
    """And no other: a name in the table that no part calls would never fire."""
    parts = {"relay": relay.Point, "cdc": cdc.Point, "consumer": consumer.Point}
    assert {part: tuple(named) for part, named in faults.POINTS.items()} == {part: get_args(kind) for part, kind in parts.items()}


def test_a_fault_happens_at_its_point_and_at_no_other() -> None:
    """Whatever else is passed."""
    crash = faults.crash("after effect", every=1)
    at = faults.at("applied", crash)
    at("received", object())
    with pytest.raises(faults.Crash, match="after effect"):
        at("applied", object())
    assert crash.fired == 1


def test_a_seed_chooses_a_point_and_a_pass() -> None:
    """The same one each time, and with enough seeds every one there is; never one that few events pass."""
    drawn = [faults.somewhere("consumer", within=3, seed=seed) for seed in range(200)]
    assert drawn == [faults.somewhere("consumer", within=3, seed=seed) for seed in range(200)]
    assert set(drawn) == {(point, nth) for point in ("received", "applied", "committed", "acked") for nth in (1, 2, 3)}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: faults.at("publised", lambda: None), "no part has a point 'publised': there are read, published, deleted"),
        (lambda: faults.somewhere("broker", within=1, seed=1), "no part 'broker': there are relay, cdc, consumer"),
        (lambda: faults.somewhere("relay", within=0, seed=1), "not 0"),
        (lambda: faults.kill("read", nth=0), "not for the 0th"),
        (lambda: faults.crash("often", every=0), "not once in 0"),
        (
            lambda: victim.carry(dsn="", broker="memory://", route="t", lanes=1, page=1, kill="publised:1"),
            "no point 'publised': there are read, published, deleted, marked of the relay",
        ),
    ],
)
def test_a_fault_that_would_never_happen_is_refused(wrong: Callable[[], object], said: str) -> None:
    """With what there is to choose from: what never fires proves nothing."""
    with pytest.raises(ValueError, match=said):
        wrong()
