"""What each toxic makes of the data, and when: planned without a clock."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.evidence.faults.proxy.kafka import Renaming, wire
from reference.evidence.faults.proxy.toxic import Piece, Toxic
from reference.evidence.faults.proxy.toxics import KINDS, TOXICS, make

OLD, NEW = wire("127.0.0.1", 19092), wire("127.0.0.1", 40001)


def on(kind: str, *, seed: int = 0, **attributes: Any) -> Toxic:
    return make(kind, attributes).on(random.Random(seed))


def sent(toxic: Toxic, pieces: Sequence[Piece]) -> list[Piece]:
    planned = toxic.plan(list(pieces))
    for piece in planned:
        toxic.sent(piece)
    return planned


def test_latency_is_added_to_each() -> None:
    """What came later goes on later; without jitter exactly as much."""
    assert sent(on("latency", latency_ms=200), [Piece(b"a", 1.0), Piece(b"b", 2.0)]) == [Piece(b"a", 1.2), Piece(b"b", 2.2)]


def test_jitter_is_the_seeds() -> None:
    """Around the latency, never before the data came."""

    def dues(seed: int) -> list[float]:
        toxic = on("latency", seed=seed, latency_ms=20, jitter_ms=50)
        return [toxic.plan([Piece(b"a", 1.0)])[0].due for _ in range(100)]

    assert dues(1) == dues(1) != dues(2)
    assert 1.0 == min(dues(1)) < max(dues(1)) <= 1.07


def test_bandwidth_is_a_rate_over_all_that_passes() -> None:
    """A second's bytes take a second, in small pieces, and what comes next waits its turn; a pause is not made up for."""
    toxic = on("bandwidth", rate_kb=1)
    first, second = sent(toxic, [Piece(b"x" * 1000, 5.0)]), sent(toxic, [Piece(b"y" * 500, 5.1)])
    assert ([len(piece.data) for piece in first], first[0].due, first[-1].due) == ([100] * 10, 5.1, pytest.approx(6.0))
    assert second[-1].due == pytest.approx(6.5)
    assert sent(toxic, [Piece(b"z" * 100, 60.0)]) == [Piece(b"z" * 100, pytest.approx(60.1))]


def test_slices_are_around_their_size_and_apart() -> None:
    """No byte is lost; the seed decides where the cuts are."""
    data = random.Random(1).randbytes(10_000)
    slices = on("slicer", average_size=100, size_variation=50, delay_us=1000).plan([Piece(data, 2.0)])
    assert b"".join(piece.data for piece in slices) == data
    assert {len(piece.data) for piece in slices[:-1]} <= {*range(50, 151)}
    assert [piece.due for piece in slices] == pytest.approx([2.0 + n / 1000 for n in range(len(slices))])
    assert slices != on("slicer", seed=1, average_size=100, size_variation=50, delay_us=1000).plan([Piece(data, 2.0)])


def test_a_limit_is_exact() -> None:
    """The last piece is cut at the byte, and then it is over; what was planned and not sent does not count."""
    toxic = on("limit_data", bytes=5)
    toxic.plan([Piece(b"abcd", 0.0)])
    assert (sent(toxic, [Piece(b"abc", 0.0)]), toxic.spent) == ([Piece(b"abc", 0.0)], False)
    assert (sent(toxic, [Piece(b"def", 0.0), Piece(b"ghi", 0.0)]), toxic.spent) == ([Piece(b"de", 0.0)], True)


@pytest.mark.parametrize(
    ("kind", "attributes", "ends"),
    [
        ("timeout", {"timeout_ms": 0}, (True, None, False)),
        ("timeout", {"timeout_ms": 1500}, (True, 1.5, False)),
        ("reset_peer", {"timeout_ms": 0}, (True, 0.0, True)),
        ("reset_peer", {"timeout_ms": 1500}, (True, 1.5, True)),
        ("latency", {}, (False, None, False)),
    ],
)
def test_what_ends_a_connection(kind: str, attributes: dict[str, float], ends: tuple[bool, float | None, bool]) -> None:
    """Whether all is held, when it is over, and whether by a reset; a timeout of 0 is never over, a reset at once."""
    toxic = on(kind, **attributes)
    assert (toxic.holds, toxic.ends_after_s, toxic.resets) == ends


def test_every_connection_counts_for_itself() -> None:
    """What one has used up, another has still."""
    asked = make("limit_data", {"bytes": 3})
    one, other = asked.on(random.Random(0)), asked.on(random.Random(0))
    sent(one, [Piece(b"abc", 0.0)])
    assert (one.spent, other.spent, asked.spent) == (True, False, False)


def test_every_kind_has_its_defaults() -> None:
    """A campaign may go through them by name."""
    assert ([make(kind, {}).kind for kind in TOXICS], KINDS[-1]) == ([*KINDS[:-1]], "down")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: make("latencey", {}), "no toxic 'latencey': there are latency, bandwidth, slow_close, timeout, reset_peer"),
        (lambda: make("latency", {"latency": 5}), "latency has no 'latency': it has latency_ms, jitter_ms"),
        (lambda: make("latency", {"latency_ms": -1}), "latency: latency_ms is 0 or more, not -1"),
        (lambda: make("latency", {"latency_ms": "200"}), "latency: latency_ms is a number, not '200'"),
        (lambda: make("latency", {"latency_ms": float("nan")}), "is a number, not nan"),
        (lambda: make("timeout", {"timeout_ms": True}), "is a number, not True"),
        (lambda: make("bandwidth", {"rate_kb": 0}), "bandwidth: rate_kb is more than 0, not 0"),
        (lambda: make("slicer", {"average_size": 0}), "slicer: average_size is more than 0, not 0"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: Callable[[], object], said: str) -> None:
    """With what there is to choose from, or what the number may be."""
    with pytest.raises(ValueError, match=said):
        wrong()


# -- a Kafka's own address ---------------------------------------------------------------------------------------------

BODIES = st.lists(st.one_of(st.binary(max_size=20), st.sampled_from([OLD, OLD[:-1], OLD[:3], OLD[1:], b"1", NEW])), max_size=6)


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


@given(st.lists(BODIES.map(b"".join), max_size=5), st.randoms(use_true_random=False))
def test_an_address_is_written_over_wherever_the_stream_is_cut(bodies: list[bytes], cuts: random.Random) -> None:
    """Within each answer, and nowhere across two; and no answer's end waits for the next one's beginning."""
    rename, out = Renaming(OLD, NEW), b""
    for n, body in enumerate(bodies):
        data = framed(body)
        while data:
            at = cuts.randint(1, len(data))
            out, data = out + rename(data[:at]), data[at:]
        assert out == b"".join(framed(one.replace(OLD, NEW)) for one in bodies[: n + 1])


def test_an_address_of_another_length_is_not_written_over() -> None:
    """Lengths would change with it."""
    with pytest.raises(ValueError, match="not as long"):
        Renaming(wire("kafka.example", 9092), NEW)
