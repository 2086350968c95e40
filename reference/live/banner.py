"""The verdict, as a sentence anybody can read and the counts behind it. A snapshot enters, shapes leave; no times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from reference.evidence.checker import Verdict
from reference.live.shapes import Line, Rect, Shape, Text, label
from reference.live.snapshot import Snapshot

__all__ = ["HEIGHT", "banner", "sentence"]

HEIGHT = 66
Tone = Literal["good", "bad", "warn", "moving"]


def sentence(snapshot: Snapshot) -> tuple[Tone, str]:
    """What to think of it, in plain words."""
    verdict = snapshot.verdict
    broken = _broken(verdict, snapshot.settled)
    if broken:
        return "bad", ", ".join(broken)
    if not (verdict.acknowledged or verdict.delivered):
        return "moving", "nothing committed yet"
    waiting = [f"{verdict.lost:,} not delivered yet"] if verdict.lost else []
    idle = verdict.delivered - verdict.applied
    waiting += [f"{idle:,} not applied yet"] if verdict.applied and idle > 0 else []
    if not snapshot.settled:
        return "moving", ", ".join(["nothing wrong so far", *waiting])
    if waiting:
        return "warn", ", ".join(["nothing lost, order kept", *waiting])
    return "good", "nothing lost, each applied once, order kept" if verdict.applied else "nothing lost, order kept"


def banner(snapshot: Snapshot, x: float, y: float, *, width: float) -> Iterator[Shape]:
    tone, words = sentence(snapshot)
    yield Rect(x, y, width, HEIGHT, f"{tone}-wash", tone, 1.0, 7)
    yield from _sign(tone, x + 14, y + 12)
    yield label(x + 40, y + 26, words, fill=f"{tone}-ink", bold=True, size=15)
    yield from _counts(snapshot, x + 15, y + 51, width - 24)


def _broken(verdict: Verdict, settled: bool) -> list[str]:
    lost = verdict.lost if settled else 0
    found = (
        (lost, f"{lost:,} {_events(lost)} lost"),
        (verdict.applied_twice, f"{verdict.applied_twice:,} applied twice"),
        (verdict.out_of_order, f"{verdict.out_of_order:,} out of order"),
        (verdict.unexpected, f"{verdict.unexpected:,} delivered but never committed"),
    )
    return [words for count, words in found if count]


def _events(count: int) -> str:
    return "event" if count == 1 else "events"


def _sign(tone: Tone, x: float, y: float) -> Iterator[Shape]:
    """A tick or a cross, drawn, since not every font has them."""
    yield Rect(x, y, 18, 18, tone, "", 0.0, 9)
    if tone == "good":
        yield Line((x + 5, y + 9.5, x + 8, y + 12.5, x + 13, y + 6), "paper", 2.0)
    elif tone == "bad":
        yield Line((x + 6, y + 6, x + 12, y + 12), "paper", 2.0)
        yield Line((x + 12, y + 6, x + 6, y + 12), "paper", 2.0)
    else:
        for i in range(3):
            yield Rect(x + 3.5 + 4 * i, y + 7.5, 3, 3, "paper", "", 0.0, 1.5)


def _counts(snapshot: Snapshot, x: float, y: float, width: float) -> Iterator[Text]:
    """Each count in a place of its own, so that nothing moves while numbers grow."""
    verdict = snapshot.verdict
    counts = (
        ("committed", verdict.acknowledged, "ink"),
        ("delivered", verdict.delivered, "ink"),
        ("applied", verdict.applied, "ink"),
        ("duplicates", verdict.duplicates, "warn-ink" if verdict.duplicates else "ink"),
        ("lost", verdict.lost, _alarm(verdict.lost)) if snapshot.settled else ("pending", verdict.lost, "ink"),
        ("applied twice", verdict.applied_twice, _alarm(verdict.applied_twice)),
        ("out of order", verdict.out_of_order, _alarm(verdict.out_of_order)),
        ("never committed", verdict.unexpected, _alarm(verdict.unexpected)),
    )
    weights = [max(len(name), len("pending")) + 5.5 for name, _, _ in counts]
    for i, (name, count, fill) in enumerate(counts):
        at = x + width * sum(weights[:i]) / sum(weights)
        yield label(round(at, 1), y, f"{name} ", fill="soft").plus(f"{count:,}", fill, bold=True)


def _alarm(count: int) -> str:
    return "bad-ink" if count else "good-ink"
