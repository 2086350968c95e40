"""The strip of events by key: which keys to show, and the state of each of their events.

A :class:`~reference.live.ledger.Ledger` enters; :class:`Lane` s of :class:`Mark` s leave: keys in trouble first, then
those with the most events; within a key the events in commit order. Promises that no lane holds more slots than it is
given, that events in trouble are the last to be left out, and that what is left out is counted.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import attrgetter

from reference.evidence.history import Record
from reference.live.ledger import Entry, Ledger, Row
from reference.live.mark import Lane, Mark, State

__all__ = ["GAP", "SLOTS", "lanes"]

SLOTS = 24  # as many as stand beside the charts, in full size
GAP = 2  # slots that a "+45" takes
_TROUBLED = 4  # of so many slots, one is kept for an older event in trouble
_MARK, _ASIDE, _AT = attrgetter("mark"), attrgetter("aside"), attrgetter("at")
_COLUMNS = ((2, 4), (4, 3), (9, 2), (SLOTS, 1))  # keys of at most so many events stand so many beside each other


def lanes(
    ledger: Ledger, *, keys: int, slots: int = SLOTS, keep: Sequence[str] = (), settled: bool, start: float
) -> tuple[Lane, ...]:  # fmt: skip
    """The lanes of ``keys`` keys, of ``slots`` slots each; or of up to four times as many when the keys are short.

    ``keep`` names keys to leave where they are: a live board passes what it showed last, so that lanes do not jump.
    ``start`` is the clock at zero seconds. ``settled`` says that what has not arrived is lost, and that what nobody has committed
    by now is unexpected.
    """
    ledger.drawn_for(settled=settled, start=start)
    rows = [row for row in ledger.rows.values() if row.shown]
    places = {key: place for place, key in enumerate(keep)}
    chosen = heapq.nsmallest(keys * _COLUMNS[0][1], rows, key=lambda row: _rank(row, places, settled))
    longest = max((row.shown for row in chosen), default=0)
    columns = next((columns for events, columns in _COLUMNS if longest <= events), 1)
    return tuple(_lane(row, slots, settled, start) for row in chosen[: keys * columns])


def _rank(row: Row, places: Mapping[str, int], settled: bool) -> tuple[object, ...]:
    troubled = row.troubled + (row.outstanding if settled else 0)
    return (not troubled, places.get(row.key, len(places)), -troubled, -row.shown, row.natural)


def _lane(row: Row, slots: int, settled: bool, start: float) -> Lane:
    if row.lane is not None:
        return row.lane
    if not row.in_order:
        row.entries.sort(key=lambda e: (e.seq is None, e.seq or 0, e.arrival))
        row.in_order = True
    entries = row.entries if row.shown == len(row.entries) else [entry for entry in row.entries if entry.shown]
    picked = _pick(entries, slots, settled, troubled=row.troubled + (row.outstanding if settled else 0))
    if isinstance(picked, range):
        shown, skipped = entries[picked.start :], (picked.start, *[0] * (len(picked) - 1)) if picked else ()
    else:
        shown = [entries[i] for i in picked]
        skipped = tuple([i - before - 1 for before, i in zip([-1, *picked], picked, strict=False)])
    marks = list(map(_MARK, shown))
    for place in [place for place, mark in enumerate(marks) if mark is None]:
        shown[place].mark = marks[place] = _mark(shown[place], settled, start)
    row.lane = Lane(
        key=row.key,
        events=len(entries),
        marks=tuple(marks),
        skipped=skipped,
        slots=len(shown) + GAP * (len(skipped) - skipped.count(0)),
        aside=frozenset(map(State, filter(None, map(_ASIDE, shown)))),
    )
    return row.lane


def _pick(entries: Sequence[Entry], slots: int, settled: bool, *, troubled: int) -> Sequence[int]:
    """All events if they fit; else the latest in trouble, and as many of the latest as there is room for."""
    count = len(entries)
    if count <= slots:
        return range(count)
    if not troubled:
        return range(count - slots + GAP, count)
    wrong = [i for i, e in enumerate(entries) if e.troubled or (settled and e.outstanding)][-(slots // _TROUBLED) :]
    picked = set(wrong)
    room = slots - sum(1 + GAP * (i > 0 and i - 1 not in picked) for i in wrong)
    for i in range(count - 1, -1, -1):
        if i in picked:
            continue
        # It takes a slot; a gap in front of it, unless its neighbour stands there; and closes the one behind it.
        room -= 1 + GAP * (i > 0 and i - 1 not in picked) - GAP * (i + 1 in picked)
        if room < 0:
            break
        picked.add(i)
    return sorted(picked)


def _mark(entry: Entry, settled: bool, start: float) -> Mark:
    return Mark(
        event=entry.event,
        number=entry.arrival,
        seq=entry.seq,
        state=_state(entry, settled),
        deliveries=max(entry.fate.delivered.values(), default=0),
        applications=max(entry.fate.applied.values(), default=0) if entry.fate.applied else 0,
        story=tuple(_story(entry, start)),
    )


def _state(entry: Entry, settled: bool) -> State:
    if entry.twice:
        return State.APPLIED_TWICE
    if entry.aborted or (settled and entry.unexpected):
        return State.UNEXPECTED
    if entry.behind:
        return State.OUT_OF_ORDER
    if entry.lost:
        return State.LOST if settled else State.COMMITTED
    if entry.aside:
        return State(entry.aside)
    return State.APPLIED if entry.applied else State.DELIVERED if entry.fate.delivered else State.COMMITTED


_PAST = {
    "commit": "committed", "publish": "published", "deliver": "delivered", "apply": "applied", "skip": "skipped",
    "ack": "acked", "nack": "nacked", "read": "found in the topic",
}  # fmt: skip
_ENDING = {"fail": "not {}", "info": "perhaps {}"}


def _story(entry: Entry, start: float) -> list[tuple[float, str]]:
    told: set[tuple[str, str]] = set()
    lines = []
    for number, record in enumerate(sorted(entry.story, key=_AT)):  # what was noticed late, where it belongs
        after = entry.after.get(record) if entry.after else ""
        again = record.phase == "ok" and (record.op, record.group) in told
        told |= {(record.op, record.group)} if record.phase == "ok" else set()
        ending = f" · after ‘{after}’" if again and after else ""
        if record.phase == "ok" and not again and entry.behind and (record.op, record.group) in entry.behind:
            overtaker = entry.behind[record.op, record.group]
            ending = " · behind a later one" if overtaker is None else f" · behind #{overtaker}"
        lines.append((round(record.at - start, 3), _line(record, again) + ending))
        if number == 3 and entry.untold:
            lines.append((lines[-1][0], f"… {entry.untold} more"))
    return lines


def _line(record: Record, again: bool) -> str:
    text = _words(record.op, record.phase, again, record.group, record.partition)
    text += f" offset {record.offset}" if record.offset is not None else ""
    return text + (f" · {record.note}" if record.note else "")


@lru_cache(maxsize=1024)  # there are as many as groups and partitions, and each is said of every event
def _words(op: str, phase: str, again: bool, group: str, partition: int | None) -> str:
    text = _ENDING.get(phase, "{}").format(_PAST[op])
    text += " again" if again else ""
    text += f" to {group}" if group and op == "deliver" else ""
    text += f" by {group}" if group and op == "apply" else ""
    return text + (f" · partition {partition}" if partition is not None else "")
