"""The strip of events by key: which keys to show, and the state of each of their events.

A :class:`~reference.live.ledger.Ledger` enters; :class:`Lane` s of :class:`Mark` s leave: keys in trouble first, then
those with the most events; within a key the events in commit order. Promises that no lane holds more than
:data:`SLOTS` slots, that events in trouble are the last to be left out, and that what is left out is counted.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from reference.evidence.history import Record
from reference.live.ledger import Entry, Ledger, Row
from reference.live.mark import Lane, Mark, State

__all__ = ["GAP", "SLOTS", "lanes"]

SLOTS = 24
GAP = 2  # slots that a "+45" takes
_MOST_TROUBLED = 6
_COLUMNS = ((2, 4), (4, 3), (9, 2), (SLOTS, 1))  # keys of at most so many events stand so many beside each other


def lanes(ledger: Ledger, *, keys: int, keep: Sequence[str] = (), settled: bool, start: float) -> tuple[Lane, ...]:
    """The lanes of ``keys`` keys, or of up to four times as many when the keys are short.

    ``keep`` names keys to leave where they are: a live board passes what it showed last, so that lanes do not jump.
    ``start`` is the clock at zero seconds. ``settled`` says that what has not arrived is lost.
    """
    rows = [row for row in ledger.rows.values() if row.shown]
    places = {key: place for place, key in enumerate(keep)}
    chosen = heapq.nsmallest(keys * _COLUMNS[0][1], rows, key=lambda row: _rank(row, places, settled))
    longest = max((row.shown for row in chosen), default=0)
    columns = next((columns for events, columns in _COLUMNS if longest <= events), 1)
    return tuple(_lane(row, settled, start) for row in chosen[: keys * columns])


def _rank(row: Row, places: Mapping[str, int], settled: bool) -> tuple[object, ...]:
    troubled = row.troubled + (row.outstanding if settled else 0)
    return (not troubled, places.get(row.key, len(places)), -troubled, -row.shown, row.natural)


def _lane(row: Row, settled: bool, start: float) -> Lane:
    if row.lane and row.lane[0] == (settled, start):
        return row.lane[1]
    if not row.in_order:
        row.entries.sort(key=lambda e: (e.seq is None, e.seq or 0, e.arrival))
        row.in_order = True
    entries = [entry for entry in row.entries if entry.shown]
    picked = _pick(entries, settled)
    lane = Lane(
        key=row.key,
        events=len(entries),
        marks=tuple(_mark(entries[i], settled, start) for i in picked),
        skipped=tuple(i - before - 1 for before, i in zip([-1, *picked], picked, strict=False)),
    )
    row.lane = ((settled, start), lane)
    return lane


def _pick(entries: Sequence[Entry], settled: bool) -> list[int]:
    """All events if they fit; else the latest in trouble, and as many of the latest as there is room for."""
    count = len(entries)
    if count <= SLOTS:
        return list(range(count))
    picked = {i for i, e in enumerate(entries) if e.troubled or (settled and e.outstanding)}
    picked = set(sorted(picked)[-_MOST_TROUBLED:])
    for i in range(count - 1, -1, -1):
        if _room({*picked, i}) > SLOTS:
            break
        picked.add(i)
    return sorted(picked)


def _room(picked: set[int]) -> int:
    """Slots for these events and for a gap before each that does not follow its neighbour."""
    return len(picked) + GAP * sum(1 for i in picked if i and i - 1 not in picked)


def _mark(entry: Entry, settled: bool, start: float) -> Mark:
    if entry.mark and entry.mark[0] == (settled, start):
        return entry.mark[1]
    mark = Mark(
        event=entry.event,
        seq=entry.seq,
        state=_state(entry, settled),
        deliveries=max(entry.deliveries.values(), default=0),
        applications=max(entry.applications.values(), default=0),
        story=tuple(_story(entry, start)),
    )
    entry.mark = ((settled, start), mark)
    return mark


def _state(entry: Entry, settled: bool) -> State:
    if entry.twice:
        return State.APPLIED_TWICE
    if entry.unexpected:
        return State.UNEXPECTED
    if entry.behind:
        return State.OUT_OF_ORDER
    if entry.outstanding:
        return State.LOST if settled else State.COMMITTED
    if entry.aside:
        return State(entry.aside)
    return State.APPLIED if entry.applied else State.DELIVERED if entry.deliveries else State.COMMITTED


_PAST = {"commit": "committed", "publish": "published", "deliver": "delivered", "apply": "applied", "ack": "acked"}
_ENDING = {"fail": "not {}", "info": "perhaps {}"}


def _story(entry: Entry, start: float) -> list[tuple[float, str]]:
    told: set[tuple[str, str]] = set()
    lines = []
    for number, (record, after) in enumerate(entry.story):
        again = record.phase == "ok" and (record.op, record.group) in told
        told |= {(record.op, record.group)} if record.phase == "ok" else set()
        ending = f" · after ‘{after}’" if again and after else ""
        if record.op == "deliver" and not again and record.group in entry.behind:
            ending = f" · behind #{entry.behind[record.group]}"
        lines.append((round(record.at - start, 3), _line(record, again) + ending))
        if number == 3 and entry.untold:
            lines.append((lines[-1][0], f"… {entry.untold} more"))
    return lines


def _line(record: Record, again: bool) -> str:
    text = _ENDING.get(record.phase, "{}").format(_PAST[record.op])
    text += " again" if again else ""
    text += f" to {record.group}" if record.group and record.op == "deliver" else ""
    text += f" by {record.group}" if record.group and record.op == "apply" else ""
    text += f" · partition {record.partition}" if record.partition is not None else ""
    text += f" offset {record.offset}" if record.offset is not None else ""
    return text + (f" · {record.note}" if record.note else "")
