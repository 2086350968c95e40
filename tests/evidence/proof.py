"""What is proved of a checker, whichever it is: the real one, and the broken ones that must fail here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from types import ModuleType
from typing import Any

from reference.evidence.history import Record
from tests.evidence.mutations import Mutated, recount
from tests.evidence.naive import Opinion
from tests.evidence.worlds import World

__all__ = ["Check", "clean_is_clean", "edit_is_named", "grows_as_it_is", "named", "opinions_agree"]

Check = Callable[[Iterable[Record]], Any]  # a broken checker's verdict is of a class of its own


def named(verdict: Any) -> set[tuple[str, str, str]]:
    """Every anomaly that it names, with the event and the group."""
    return {(str(violation.anomaly), violation.event, violation.group) for violation in verdict.violations}


def clean_is_clean(check: Check, world: World) -> None:
    """Nothing is named, and the sums are those that the world itself kept."""
    verdict = check(world.records)
    assert (named(verdict), verdict.clean) == (set(), True)
    assert {name: getattr(verdict, name) for name in world.tally} == world.tally


def edit_is_named(check: Check, world: World, mutated: Mutated) -> None:
    """What the edit made wrong is named, and nothing else; each class counts its events, and each story is of its event."""
    verdict = check(mutated.records)
    assert named(verdict) == mutated.expected
    events = {(anomaly, event) for anomaly, event, _ in mutated.expected}
    for anomaly in {anomaly for anomaly, _ in events}:
        assert getattr(verdict, anomaly.replace(" ", "_")) == sum(of == anomaly for of, _ in events)
    counts = recount(mutated.records, "commit" if world.shape.commits else "publish")
    assert {name: getattr(verdict, name) for name in counts} == counts
    assert all(violation.event in {record.event for record in violation.records} for violation in verdict.violations)


def opinions_agree(check: Check, records: list[Record]) -> None:
    """Event by event and group by group what the naive program says, and the same counts."""
    verdict, opinion = check(records), Opinion(records)
    assert named(verdict) == opinion.named()
    assert (verdict.duplicates, verdict.recovered) == (opinion.duplicates, len(opinion.recovered))


def grows_as_it_is(checker: ModuleType, records: list[Record], random: Random) -> None:
    """A judge that sees the records come, and is asked now and then, says what one says that sees them all at once."""
    judge = checker.Checker()
    for place, record in enumerate(records, start=1):
        judge.add(record)
        if random.random() < 0.1 or place == len(records):
            so_far = checker.check(records[:place])
            assert judge.verdict() == so_far
            found = {(str(finding.anomaly), finding.event, finding.group) for finding in judge.findings()}
            assert found == named(so_far)
