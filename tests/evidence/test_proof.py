"""The proof of the checker: nothing is named in clean histories, and every edit of them is named, and named rightly.

The histories come from :mod:`tests.evidence.worlds`, the edits from :mod:`tests.evidence.mutations`. ``EDA_EXAMPLES=20000``
runs the long form; it is 1,000 of each kind otherwise. Without chance: the same examples in every run.
"""

from __future__ import annotations

import os
from collections import defaultdict
from random import Random
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reference.evidence.checker import check
from tests.evidence.mutations import FAMILIES, Facts
from tests.evidence.proof import clean_is_clean, edit_is_named
from tests.evidence.worlds import World, any_shape, live

EXAMPLES: Final = int(os.environ.get("EDA_EXAMPLES", "1000"))


def thorough(tries: float) -> settings:
    """Enough examples to see ``EXAMPLES`` different ones, where one in ``tries`` has room for the edit."""
    return settings(
        max_examples=round(EXAMPLES * tries), derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


@st.composite
def worlds(draw: st.DrawFn, **fixed: Any) -> tuple[World, int]:
    """A world and the chance of an edit; a failure shrinks to few events."""
    events, seed = draw(st.integers(2, 9)), draw(st.integers(0, 2**64))
    shape = any_shape(Random(seed), **{"events": events, **fixed})
    return live(shape, seed), seed


def test_a_clean_history_is_called_clean() -> None:
    """Whatever went wrong and was mended in it; and its sums are those of the world that it tells of."""
    different = set()

    @given(worlds())
    @thorough(1.3)
    def examine(made: tuple[World, int]) -> None:
        clean_is_clean(check, made[0])
        different.add(hash(tuple(made[0].records)))

    examine()
    assert len(different) >= EXAMPLES


@pytest.mark.parametrize("family", FAMILIES)
def test_an_edited_history_is_named_for_what_it_is(family: str) -> None:
    """The class, the event and the group, and nothing else but what must follow from the edit."""
    edits, fixed = FAMILIES[family].edits, FAMILIES[family].fixed
    different: dict[str, set[int]] = defaultdict(set)

    @given(worlds(**fixed))
    @thorough(FAMILIES[family].tries)
    def examine(made: tuple[World, int]) -> None:
        world, seed = made
        facts = Facts(world)
        for kind, mutate in edits.items():
            mutated = mutate(facts, Random(seed))
            if mutated is not None:
                edit_is_named(check, world, mutated)
                different[kind].add(hash(tuple(mutated.records)))

    examine()
    assert {kind: len(different[kind]) for kind in edits if len(different[kind]) < EXAMPLES} == {}


def test_the_worlds_are_full_of_trouble() -> None:
    """Whatever a history may tell without being wrong is told in some of them; else that they are clean says little."""
    worlds = [live(any_shape(Random(seed)), seed) for seed in range(300)]
    told = {(r.op, r.phase) for world in worlds for r in world.records}
    assert told >= {
        *((op, phase) for op in ("commit", "publish", "apply") for phase in ("invoke", "ok", "fail", "info")),
        *((op, "ok") for op in ("join", "assign", "deliver", "skip", "ack", "nack", "read", "lag", "fault")),
    }
    assert all(any(world.tally[name] for world in worlds) for name in ("duplicates", "recovered"))
    assert any((r.attempt or 1) > 1 for world in worlds for r in world.records)
