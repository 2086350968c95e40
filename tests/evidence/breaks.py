"""The checker broken by hand, one thing at a time: a proof that does not fall then proves nothing.

A break is an edit of the checker's text, made in a copy under another name; :func:`fallen` runs the proof against the copy
and says which part of it fell. ``python -m tests.evidence.breaks`` prints the table.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Final

import reference.evidence.checker as real
from tests.evidence.mutations import FAMILIES, Facts
from tests.evidence.proof import clean_is_clean, edit_is_named, grows_as_it_is, opinions_agree
from tests.evidence.wild import wild
from tests.evidence.worlds import any_shape, live

__all__ = ["BREAKS", "Break", "broken", "fallen"]

WORLDS: Final = 150  # of each family, before a break is said to have gone unnoticed
HISTORIES: Final = 400


@dataclass(frozen=True, slots=True)
class Break:
    """Replace ``old``, which stands once in ``module``, by ``new``."""

    says: str
    module: str
    old: str
    new: str


BREAKS: Final = (
    Break("a confirmed publish is no promise", "fates", "owed = written or (", "owed = written and ("),
    Break("an attempt without an end is no unknown outcome", "fate", "(self.open > 0 or self.unanswered)", "self.unanswered"),
    Break("an answer that nobody knows is no unknown outcome", "fate", "(self.open > 0 or self.unanswered)", "self.open > 0"),
    Break("a late group is owed everything", "groups", "return since == 0 or (", "return True or ("),
    Break("every join is late", "groups", "since = {FROM_NOW: position, FILTERED: inf}.get(record.note, 0)", "since = position"),
    Break("a group has one since for all its topics", "groups", "group.since if since is None else since", "group.since"),
    Break("a group is owed all topics", "groups", "if not joined:\n                return False",
          "if not joined:\n                return True"),
    Break("twice is not enough", "fates", "any(n > 1 for n", "any(n > 2 for n"),
    Break("what was passed over counts as forgotten", "fate", ", *self.passed_over)", ")"),
    Break("an effect of unknown outcome counts as forgotten", "fate", ", *self.unsure,", ","),
    Break("a process ends what another began", "fate", "at = (record.group, record.process)",
          "at = next((o for o in self.applying or () if o[0] == record.group), ('', ''))"),
    Break("acks are not looked at", "fates", "for group in fate.acked or () if", "for group in () if"),
    Break("a write that failed is none", "fates", "delivered and write is None", "delivered and not (written or unknown)"),
    Break("one failed attempt is a failed write", "fates", "write.failed and not (written or unknown)", "write.failed"),
    Break("every group's first delivery but one is a duplicate", "checker", "fates.deliveries - fates.pairs",
          "fates.deliveries - fates.delivered"),
    Break("effects have no beginning", "checker", "began = self._applying.pop(at, None)", "began = None"),
    Break("keys of all topics are one", "checker", "arrived(record, (record.topic, key), self._place)",
          "arrived(record, ('', key), self._place)"),
    Break("neighbours have no order", "order", "late = seq < highest", "late = seq < highest - 1"),
    Break("writes that overlap have an order", "order", "late = times[1] < highest", "late = times[0] < highest"),
    Break("the clock is not looked at", "order", "late = times[1] < highest", "late = False"),
    Break("a repetition is late", "order", "if (event, group) in self._arrived:", "if False:"),
    Break("the deliveries' numbers are not looked at", "order", "self._hints[event] = record.seq", "pass"),
    Break("publishes tell the order of commits", "order", 'elif record.op == "commit" or not self._commits:', "else:"),
    Break("a place holds what it held last", "log", "return None if known == event else known", "return None"),
    Break("a step over one event is none", "log", "elif offset > before[0] + 1:", "elif offset > before[0] + 2:"),
    Break("nobody goes back", "log", "if offset <= before[0]:", "if offset < before[0] - 1:"),
    Break("a nack sends nobody back", "log", "places[at] = (offset - 1, places[at][1])", "pass"),
    Break("partitions never change hands", "log", "self._last.pop(reader, None)", "pass"),
    Break("a group is one reader", "log", "reader = (record.process, record.group)", "reader = (record.group, record.group)"),
    Break("a counted repetition is a first delivery", "log", "if (record.attempt or 1) > 1:", "if False:"),
    Break("the last event of a log may be left", "log", "offsets[-1] <= reached:", "offsets[-1] <= reached + 1:"),
    Break("what becomes known late changes nothing", "fates", "self._commits = self._stale = True", "self._commits = True"),
    Break("a write that is told late changes nothing", "order", "queue.judged, queue.by_number, queue.by_clock = 0,",
          "_, queue.by_number, queue.by_clock = 0,"),
)  # fmt: skip


@contextmanager
def broken(wrong: Break | None) -> Iterator[ModuleType]:
    """A copy of the checker with this break in it, or with none."""
    with tempfile.TemporaryDirectory() as directory:
        name = f"broken_checker_{abs(hash(wrong))}"
        (Path(directory) / name).mkdir()
        for source in Path(str(real.__file__)).parent.glob("*.py"):
            text = source.read_text()
            if wrong is not None and source.stem == wrong.module:
                if (times := text.count(wrong.old)) != 1:
                    raise ValueError(f"{wrong.says}: {wrong.old!r} stands {times} times in {source.name}, not once")
                text = text.replace(wrong.old, wrong.new)
            (Path(directory) / name / source.name).write_text(text.replace(real.__name__, name))
        sys.path.insert(0, directory)
        try:
            importlib.invalidate_caches()
            yield importlib.import_module(name)
        finally:
            sys.path.remove(directory)
            for module in [module for module in sys.modules if module.split(".")[0] == name]:
                del sys.modules[module]


def fallen(checker: ModuleType, *, worlds: int = WORLDS, histories: int = HISTORIES) -> str:
    """The first part of the proof that does not hold for this checker; nothing when all of it does."""
    for part, holds in _parts(checker, worlds, histories):
        try:
            holds()
        except AssertionError:
            return part
    return ""


def _parts(checker: ModuleType, worlds: int, histories: int) -> Iterator[tuple[str, Callable[[], None]]]:
    for seed in range(worlds):
        yield "clean histories", partial(clean_is_clean, checker.check, live(any_shape(Random(seed)), seed))
        for family in FAMILIES.values():
            world = live(any_shape(Random(seed), **family.fixed), seed)
            facts = Facts(world)
            for kind, mutate in family.edits.items():
                mutated = mutate(facts, Random(seed))
                if mutated is not None:
                    yield kind, partial(edit_is_named, checker.check, world, mutated)
    for seed in range(histories):
        records = wild(seed, 1 + seed % 60)
        yield "second opinion", partial(opinions_agree, checker.check, records)
        yield "asked on the way", partial(grows_as_it_is, checker, records, Random(seed))


if __name__ == "__main__":
    for wrong in BREAKS:
        with broken(wrong) as copy:
            print(f"{wrong.says:60} {fallen(copy) or 'UNNOTICED'}")
