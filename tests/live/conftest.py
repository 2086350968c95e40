"""Histories to look at: random ones that hold every anomaly, and small ones that hold exactly one."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from reference.evidence.history import Record

OPERATIONS = [*["commit"] * 3, *["deliver"] * 4, *["apply"] * 2, "publish", "ack", "lag", "fault"]


def wild(seed: int, length: int = 80) -> list[Record]:
    """Records in no sensible order: commits after deliveries, keys and numbers that change, several groups."""
    random = Random(seed)
    return [_wild(random, i) for i in range(length)]


def _wild(random: Random, number: int) -> Record:
    event: int = random.randrange(12)
    values: dict[str, Any] = {
        "op": random.choice(OPERATIONS),
        "phase": random.choice([*["ok"] * 5, "invoke", "fail", "info"]),
        "key": random.choice([*[f"k{event % 3}"] * 8, "", "k9"]),
        "seq": random.choice([*[event // 3 + 1] * 4, None, None, random.randrange(6)]),
        "value": random.choice([None, 3.0, 7.0]),
        "note": random.choice(["", "crash", "parked"]),
    }
    groups, partitions = ["", "", "billing"], [0, 1, None]
    at = 1000 + number * 0.03 + random.random() * 0.05
    return Record(event=f"e{event}", group=random.choice(groups), partition=random.choice(partitions), at=at, **values)


def orders(count: int, *, keys: int = 3, start: float = 100.0) -> list[Record]:
    """Every event committed, published, delivered and applied, ten milliseconds apart, with a lag sample after each."""
    records = []
    for i in range(count):
        values: dict[str, Any] = {"event": f"e{i}", "key": f"order-{i % keys}", "seq": i // keys + 1, "group": "billing"}
        at = start + i * 0.01
        steps = ("commit", "publish", "deliver", "apply")
        records += [Record(op=op, at=at + n * 0.001, **values) for n, op in enumerate(steps)]  # type: ignore[arg-type]
        records.append(Record(op="lag", partition=i % 2, value=float(i % 5), at=at + 0.005))
    return records


@pytest.fixture
def make_wild() -> Callable[..., list[Record]]:
    return wild


@pytest.fixture
def make_orders() -> Callable[..., list[Record]]:
    return orders
