"""What a row of figures proves, and what it does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reference.evidence.campaign.row import Control, Row
from reference.evidence.checker import Anomaly, Verdict


def verdict(**counts: Any) -> Verdict:
    """Of three commits, all applied, some delivered again; unless ``counts`` say otherwise."""
    return Verdict(**{"attempted": 3, "acknowledged": 3, "delivered": 3, "applied": 3, "duplicates": 1} | counts)


def row(judged: Verdict, control: Verdict | None = None, *, faults: int = 1, tolerated: tuple[Anomaly, ...] = ()) -> Row:
    controls = {"skip locked": Control(verdict=control or verdict(out_of_order=1), must=Anomaly.OUT_OF_ORDER)}
    return Row(experiment="e", broker="b", faults=faults, seconds=1.0, verdict=judged, controls=controls,
               tolerated=frozenset(tolerated), recoveries_s=(0.5, 2.0, 1.0))  # fmt: skip


@pytest.mark.parametrize(
    ("judged", "outcome", "why"),
    [
        (row(verdict()), "held", ""),
        (row(verdict(lost=1)), "broken", ""),
        (row(verdict(applied=2)), "broken", ""),
        (row(verdict(applied_twice=1)), "broken", ""),
        (row(verdict(aborted_read=1)), "broken", ""),
        (row(verdict(out_of_order=1)), "broken", ""),
        (row(verdict(out_of_order=1), tolerated=(Anomaly.OUT_OF_ORDER,)), "held", ""),
        (row(verdict(), faults=0), "inconclusive", "only 0 of 1 faults struck"),
        (replace(row(verdict()), planned=3), "inconclusive", "only 1 of 3 faults struck"),
        (replace(row(verdict()), missed=("shuffle 0",)), "inconclusive", "too few faults of a kind struck: shuffle 0"),
        (row(Verdict(duplicates=1)), "inconclusive", "nothing was committed"),
        (row(verdict(duplicates=0)), "inconclusive", "no fault hit between publish and delete: more faults"),
        (row(verdict(), verdict()), "inconclusive", "the control was not seen failing: skip locked"),
        (row(verdict(), verdict(lost=3)), "inconclusive", "the control was not seen failing: skip locked"),
        (row(verdict(), verdict(out_of_order=1, applied=0)), "inconclusive", "the control was not seen failing: skip locked"),
    ],
)
def test_what_was_not_proved_is_not_called_held(judged: Row, outcome: str, why: str) -> None:
    """Nothing broke is one thing; that it could have broken, and did in the control, is the other."""
    assert (judged.outcome, judged.held, judged.unproved) == (outcome, outcome == "held", why)


def test_a_row_says_what_was_counted_and_why() -> None:
    """Faults, events, every anomaly, how long recovery took, what the control did, and the reason of its outcome."""
    figures = row(verdict(lost=2, aborted_read=1)).figures()
    assert figures | {"seconds": 1.0} == {
        "experiment": "e", "broker": "b", "faults": 1, "planned": 1, "events": 3, "lost": 2, "duplicates": 1, "applied twice": 0,
        "out of order": 0, "aborted read": 1, "recovery s": {"median": 1.0, "longest": 2.0}, "seconds": 1.0,
        "control: skip locked": "out of order 1 of 3", "outcome": "broken", "because": "lost 2, aborted read 1",
    }  # fmt: skip


def test_a_control_that_never_ran_was_not_seen_failing() -> None:
    """What carries nothing loses everything; that says nothing of its design."""
    losing, idle = verdict(lost=1, applied=2), verdict(lost=3, applied=0)
    assert (Control(verdict=losing, must=Anomaly.LOST).failed, Control(verdict=idle, must=Anomaly.LOST).failed) == (True, False)
