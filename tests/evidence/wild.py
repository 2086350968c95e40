"""Histories in which anything may stand: records drawn from a few names, and worlds that were damaged."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any, Final

from reference.evidence.history import Record
from tests.evidence.worlds import any_shape, live

__all__ = ["wild"]

OPERATIONS: Final = (
    *["commit"] * 3, *["publish"] * 2, *["deliver"] * 6, *["apply"] * 3, *["ack"] * 2, "skip", "nack", "read", "join", "assign",
    "lag", "fault",
)  # fmt: skip


def nonsense(random: Random, length: int) -> list[Record]:
    """Records in no order at all: whatever the fields allow, the same few names everywhere."""
    vague = random.random()

    def one_of(*choices: Any) -> Any:
        return choices[0] if random.random() < vague else random.choice(choices)

    def record(place: int) -> Record:
        event = random.randrange(5)
        return Record(
            op=random.choice(OPERATIONS),  # type: ignore[arg-type]
            phase=random.choice(("ok", "ok", "ok", "invoke", "fail", "info")),
            event=f"e{event}" if random.random() < 0.95 else "",
            key=one_of(f"k{event % 2}", "", "k9"),
            seq=one_of(event, None, random.randrange(4)),
            topic=one_of("t", "", "u"),
            partition=one_of(0, None, 1),
            offset=random.choice((None, *range(-1, 5))),
            group=one_of("g", "h", ""),
            process=one_of("p", "q", ""),
            attempt=random.choice((None, None, 0, 1, 2)),
            value=random.choice((None, 3.0)),
            note=random.choice(("latest", "latest", "earliest", "")),
            at=place + random.random() * 3,
        )

    return [record(place) for place in range(length)]


def damaged(random: Random, seed: int) -> list[Record]:
    """The records of a world, some of them lost, told twice, changed, or told at another time."""
    records = live(any_shape(random, events=random.randint(2, 5)), seed).records
    for _ in range(random.randint(1, 8)):
        at, other = random.randrange(len(records)), random.randrange(len(records))
        kind = random.randrange(5)
        if kind == 0 and len(records) > 1:
            del records[at]
        elif kind == 1:
            records.insert(other, records[at])
        elif kind == 2:
            records.insert(other, records.pop(at))
        elif kind == 3:
            records[at] = replace(records[at], event=records[other].event)
        else:
            records[at] = replace(records[at], phase=random.choice(("ok", "fail", "info", "invoke")))
    return records


def wild(seed: int, length: int) -> list[Record]:
    """One or the other; ``length`` is that of the nonsense. The same seed and length give the same records."""
    random = Random(seed)
    return damaged(random, seed) if random.random() < 0.5 else nonsense(random, length)
