"""What the kernel does while its board is measured; the cells of a notebook call this, see :mod:`.board`."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, Final

import psutil

from reference.evidence.history import History, Record
from reference.lab.session import Lab
from reference.live.board import Board

__all__ = ["Busy", "throughput"]

KEYS: Final = 50
PARTITIONS: Final = 6
MARKS: Final = 5_000
RATE: Final = 100  # events a second
LAG_S: Final = 0.125
LAB: Final = 90  # of which nobody else uses the database
EVENTS: Final = (20, 400)  # orders, and changes of each
PAIRS: Final = 5


class Busy:
    """A board whose strip is full, and a thread that goes on making events."""

    def __init__(self) -> None:
        self._history = History(record for number in range(MARKS) for record in _event(number, time.monotonic()))
        self._board = Board(self._history, keys=KEYS, slots=MARKS // KEYS)
        self._told: list[tuple[str, float, int, float, float]] = []
        self._over = threading.Event()
        self._writer = threading.Thread(target=self._write, name="writer", daemon=True)

    def show(self) -> None:
        self._board.__enter__()
        self._writer.start()

    def sleep(self, seconds: float) -> None:
        self.note("sleeping")
        time.sleep(seconds)
        self.note("")

    def compute(self, seconds: float) -> None:
        """As a cell does that fits a model, or one with a loop that is too long."""
        self.note("computing")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            sum(number * number for number in range(10_000))
        self.note("idle")

    def end(self) -> None:
        """Print what happened when, in JSON: the phase that began, the time, the frames sent by then, and the seconds of CPU in
        the kernel and in the process where they are composed.
        """
        self.note("")
        self._over.set()
        self._writer.join()
        self._board.__exit__(None, None, None)
        print(json.dumps(self._told))

    def note(self, phase: str) -> None:
        self._told.append((phase, time.time(), self._board._sent, self._kernel_s(), self._composer_s()))

    def _kernel_s(self) -> float:
        """Of the thread that makes the frames, and of the kernel's own that sends them."""
        ours = {thread.native_id for thread in threading.enumerate() if thread.name in {"board", "IOPub"}}
        return sum(used.user_time + used.system_time for used in psutil.Process().threads() if used.id in ours)

    def _composer_s(self) -> float:
        found = [child for child in psutil.Process().children() if "reference.live.process" in child.cmdline()]
        return sum(child.cpu_times().user + child.cpu_times().system for child in found)

    def _write(self) -> None:
        number, begun, lag_at = MARKS, time.monotonic(), 0.0
        while not self._over.wait(0.01):
            now = time.monotonic()
            while number - MARKS < (now - begun) * RATE:
                for record in _event(number, now):
                    self._history.add(record)
                number += 1
            if now >= lag_at:
                lag_at = now + LAG_S
                for partition in range(PARTITIONS):
                    depth = float(number * 7 % (11 + partition))
                    self._history.add(Record(op="lag", partition=partition, group="g", value=depth))


def _event(number: int, at: float) -> Iterator[Record]:
    """All that happens to an event of which nothing goes wrong."""
    told: dict[str, Any] = {"event": f"e{number}", "key": f"order-{number % KEYS:02}", "seq": number // KEYS + 1, "at": at}
    place: dict[str, Any] = {"topic": "orders", "partition": number % PARTITIONS, "offset": number // PARTITIONS}
    yield Record(op="commit", phase="invoke", process="writer", **told)
    yield Record(op="commit", process="writer", **told)
    yield Record(op="publish", process="relay", topic="orders", **told)
    yield Record(op="deliver", process="consumer", group="g", **place, **told)
    yield Record(op="apply", process="consumer", group="g", **told)
    yield Record(op="ack", process="consumer", group="g", **place, **told)


def throughput() -> None:
    """Print, in JSON, the events a second that a running consumer applies without a board and with one, and their ratio.

    The ratio is that of two runs, one right after the other, in turns begun by the one and by the other: their median, and
    the middle half of them, since a disk that is shared has its moods. A run counts from its first effect to its last.
    """
    lab = Lab.open(LAB, docked=False)
    lab.conn.execute("SET synchronous_commit = off")  # of the one who writes the events, whose speed nobody measures
    _events_a_second(lab, board=True)  # a warm-up
    pairs = [{board: _events_a_second(lab, board=board) for board in (n % 2 == 0, n % 2 == 1)} for n in range(PAIRS)]
    low, middle, high = statistics.quantiles(pair[True] / pair[False] for pair in pairs)
    off, on = (round(statistics.median(pair[board] for pair in pairs)) for board in (False, True))
    told = {"without": off, "with": on, "ratio": round(middle, 3), "middle half": [round(low, 3), round(high, 3)]}
    print(json.dumps(told))


def _events_a_second(lab: Lab, *, board: bool) -> float:
    orders, changes = EVENTS
    lab.begin()
    lab.backlog(orders=orders, changes=changes)
    with lab.relay():
        lab.wait_for_outbox()
    with lab.board() if board else nullcontext(), lab.warehouse():
        lab.settle()
    applied = [record.at for record in lab.history.done("apply")]
    return (len(applied) - 1) / (applied[-1] - applied[0])
