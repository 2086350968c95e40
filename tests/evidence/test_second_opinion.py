"""The checker against a program that says the same in another way, on histories in which anything may stand."""

from __future__ import annotations

import os
from random import Random
from typing import Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reference.evidence import checker
from tests.evidence.proof import grows_as_it_is, opinions_agree
from tests.evidence.wild import wild

EXAMPLES: Final = int(os.environ.get("EDA_EXAMPLES", "1000"))
THOROUGH: Final = settings(
    max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@given(st.integers(0, 2**64), st.integers(1, 60))
@THOROUGH
def test_two_programs_agree_on_every_history(seed: int, length: int) -> None:
    """Event by event and group by group, whatever stands in it."""
    opinions_agree(checker.check, wild(seed, length))


@given(st.integers(0, 2**64), st.integers(1, 60))
@settings(THOROUGH, max_examples=EXAMPLES // 4)
def test_a_judge_that_is_asked_on_the_way_says_the_same(seed: int, length: int) -> None:
    """At every moment what a judge of the records so far would have said of them."""
    grows_as_it_is(checker, wild(seed, length), Random(seed))
