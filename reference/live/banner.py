"""The verdict, as a sentence anybody can read and the counts behind it. A snapshot enters, shapes leave; no times."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Literal

from reference.live.shapes import Line, Rect, Shape, Text, label, text_width
from reference.live.snapshot import Snapshot

__all__ = ["Count", "Tone", "banner", "counts", "height", "sentence"]

_APART = 8  # a count from the next one's name
_LINE = 20
_MOST = 4  # kinds of damage named in the sentence; all of them are counted below it
Tone = Literal["good", "bad", "warn", "moving"]
Count = tuple[str, int, str]  # its name, how many, in which colour


def sentence(snapshot: Snapshot) -> tuple[Tone, str]:
    """What to think of it, in plain words."""
    verdict = snapshot.verdict
    broken = _broken(snapshot)
    if broken:
        more = f" and {len(broken) - _MOST} more" if len(broken) > _MOST else ""
        return "bad", ", ".join(broken[:_MOST]) + more
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
    yield Rect(x, y, width, height(snapshot, width=width) - 10, f"{tone}-wash", tone, 1.0, 7)
    yield from _sign(tone, x + 14, y + 12)
    lines = _wrapped(words, width)
    for i, line in enumerate(lines):
        yield label(x + 40, y + 26 + _LINE * i, line, fill=f"{tone}-ink", bold=True, size=15)
    yield from _counts(snapshot, x + 15, y + 31 + _LINE * len(lines), width - 24)


def height(snapshot: Snapshot, *, width: float) -> float:
    """With the room below it."""
    lines = len(_wrapped(sentence(snapshot)[1], width))
    return 36 + _LINE * (lines + -(-len(counts(snapshot)) // _columns(snapshot, width - 24)))


def counts(snapshot: Snapshot) -> tuple[Count, ...]:
    """What stands behind the sentence, in the order in which it is read."""
    verdict = snapshot.verdict
    return (
        ("committed", verdict.acknowledged, "ink"),
        ("delivered", verdict.delivered, "ink"),
        ("applied", verdict.applied, "ink"),
        ("duplicates", verdict.duplicates, "warn-ink" if verdict.duplicates else "ink"),
        ("lost", verdict.lost, _alarm(verdict.lost)) if snapshot.settled else ("pending", verdict.lost, "ink"),
        ("applied twice", verdict.applied_twice, _alarm(verdict.applied_twice)),
        ("out of order", verdict.out_of_order, _alarm(verdict.out_of_order)),
        ("unexpected", _invented(snapshot), _alarm(_invented(snapshot))),
    )


def _broken(snapshot: Snapshot) -> list[str]:
    verdict, invented = snapshot.verdict, _invented(snapshot)
    lost = verdict.lost if snapshot.settled else 0
    found = (
        (lost, f"{lost:,} {_events(lost)} lost"),
        (verdict.applied_twice, f"{verdict.applied_twice:,} applied twice"),
        (verdict.out_of_order, f"{verdict.out_of_order:,} out of order"),
        (invented, f"{invented:,} unexpected (never committed)"),
        (verdict.unapplied, f"{verdict.unapplied:,} acked but never applied"),
        (verdict.offset_inconsistent, f"{verdict.offset_inconsistent:,} in one place of the log"),
        (verdict.nonmonotonic_poll, f"{verdict.nonmonotonic_poll:,} read backwards"),
        (verdict.skipped_poll, f"{verdict.skipped_poll:,} jumped over"),
    )
    return [words for count, words in found if count]


def _invented(snapshot: Snapshot) -> int:
    """What was delivered and is not in the database: rolled back, or never begun, as far as all that was committed is known."""
    verdict = snapshot.verdict
    return verdict.aborted_read + (verdict.unexpected if snapshot.settled else 0)


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
    """Each count in a place of its own, so that nothing moves while numbers below a thousand grow."""
    shown, columns = counts(snapshot), _columns(snapshot, width)
    for row in range(0, len(shown), columns):
        some = shown[row : row + columns]
        rooms = _rooms(some)
        if columns < len(shown):
            rooms = [width / columns] * columns
        spare = (width - sum(rooms)) / columns
        for i, (name, count, fill) in enumerate(some):
            at = x + sum(rooms[:i]) + spare * i
            yield label(round(at, 1), y + _LINE * row // columns, f"{name} ", fill="soft").plus(f"{count:,}", fill, bold=True)


def _rooms(some: Sequence[Count]) -> list[float]:
    return [text_width(name, 11.5) + text_width("0" * max(4, len(f"{count:,}") + 1), 12) for name, count, _ in some]


def _columns(snapshot: Snapshot, width: float) -> int:
    """Of eight counts: all in a row, or as few in each as have the room."""
    rooms = _rooms(counts(snapshot))
    if sum(rooms) + _APART * len(rooms) <= width:
        return len(rooms)
    return next((columns for columns in (4, 2) if columns * (max(rooms) + _APART) <= width), 1)


def _wrapped(words: str, width: float) -> list[str]:
    most = max(12, int((width - 56) / text_width("x", 15)))
    return textwrap.wrap(words, most)


def _alarm(count: int) -> str:
    return "bad-ink" if count else "good-ink"
