"""How long the checker takes for a large history, and how much memory.

A history as recorders write it, several processes' files in one directory, is written to disk; a process of its own, as
``eda check`` is one, reads and judges it. Killed at any line it leaves a temporary directory behind, and nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import IO, Any, Final

import psutil

from reference.evidence.checker import check
from reference.evidence.history import Operation, Phase, Record, line, read

__all__ = ["measure"]

KEYS: Final = 2_000
PARTITIONS: Final = 6
GROUPS: Final = ("billing", "shipping")
BATCH: Final = 50  # events that a relay carries, and a member is handed, at once
# Of a broken history: so many of each batch's places never reach a group. Every event has two, for each of two groups, and is
# lost when any of the four is drawn: a third of them all.
LOSES: Final = 0.1
MADE: Final = {
    "clean": "nothing is wrong with it",
    "broken": "on purpose: a third of its events lost, a tenth swapped, everything published twice",
}
PEAK: Final = "VmHWM"  # what Linux calls a process's largest resident set


def measure(*, operations: int = 1_000_000, seed: int = 1) -> dict[str, Any]:
    """Seconds and MB for a clean history and for a broken one: a third lost, a tenth swapped, and everything comes twice.

    That is on purpose: the more there is to find, the longer it takes.
    An operation is what begins and ends: most of them are two records. At least so many are judged, in whole batches.

    Raises :class:`RuntimeError` when the clean one is not called clean, or the broken one is.
    """
    figures = {kind: _measured(operations, seed, broken=kind == "broken") for kind in ("clean", "broken")}
    if [figures[kind]["clean"] for kind in figures] != [True, False]:
        raise RuntimeError(f"the checker is wrong about its own benchmark: {figures}")
    return figures


def _measured(operations: int, seed: int, *, broken: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="eda-bench-") as directory:
        done = _write(Path(directory), _history(operations, Random(seed), broken=broken))
        command = [sys.executable, "-m", __name__, directory]
        judged = subprocess.run(command, capture_output=True, text=True, check=False)
    if judged.returncode:
        raise RuntimeError(f"the process that judged ended with {judged.returncode}: {judged.stderr.strip()}")
    return {"history": MADE["broken" if broken else "clean"], "operations": done, **json.loads(judged.stdout)}


def _write(directory: Path, records: Iterator[Record]) -> int:
    """A file for each process, as recorders leave them; returns how many operations they tell of."""
    operations = 0
    with ExitStack() as files:
        file_of: dict[str, IO[bytes]] = {}
        for record in records:
            if record.process not in file_of:
                path = directory / f"{record.process}.jsonl"
                file_of[record.process] = files.enter_context(path.open("wb"))
            file_of[record.process].write(line(record))
            operations += record.phase != "invoke"
    return operations


def _judged(directory: Path) -> dict[str, Any]:
    began = (time.perf_counter(), time.process_time())
    records = read(directory)
    had_read = (time.perf_counter(), time.process_time())
    verdict = check(records)
    ended = (time.perf_counter(), time.process_time())
    return {
        "records": len(records),
        "read_s": round(had_read[0] - began[0], 2),
        "judged_s": round(ended[0] - had_read[0], 2),
        "total_s": round(ended[0] - began[0], 2),
        "cpu_s": round(ended[1] - began[1], 2),  # what it would be on a machine that does nothing else
        "peak_mb": round(_peak_bytes() / 1e6),
        "violations": len(verdict.violations),
        "clean": verdict.clean,
        "verdict": str(verdict),
    }


def _peak_bytes() -> int:
    """The most this process ever held in memory; where the system does not keep it, what it holds now, which is its most."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith(PEAK))
        return 1024 * int(line.split()[1])
    return int(psutil.Process().memory_info().rss)


# -- a history as recorders write it -------------------------------------------------------------------------------------


class _Scribe:
    """Tells records, a few microseconds apart, and counts the operations: what begins and ends is one."""

    def __init__(self, random: Random) -> None:
        self.random, self.now, self.operations = random, 1000.0, 0
        self.ends: dict[int, int] = {}  # the next free place of each partition
        self.numbers: dict[str, int] = {}

    def tell(self, op: Operation, event: dict[str, Any], phase: Phase = "ok", **more: Any) -> Record:
        self.now += self.random.random() / 50_000
        self.operations += phase != "invoke"
        return Record(op=op, phase=phase, at=self.now, **event, **more)


def _history(operations: int, random: Random, *, broken: bool) -> Iterator[Record]:
    """Batch by batch, until there are so many operations and everything begun is done."""
    scribe, batch = _Scribe(random), 0
    while scribe.operations < operations:
        events = [_event(scribe, batch * BATCH + n) for n in range(BATCH)]
        yield from _committed(scribe, events)
        placed = list(_published(scribe, events, twice=broken or batch % 50 == 0))
        yield from (record for record, _ in placed)
        log = [entry for _, entry in placed if entry is not None]
        for group in GROUPS:
            yield from _consumed(scribe, log, group, broken=broken)
            yield scribe.tell("lag", {}, group=group, value=float(len(log)), process="probe")
        batch += 1


def _event(scribe: _Scribe, number: int) -> dict[str, Any]:
    key = f"order-{int(KEYS * scribe.random.random() ** 3)}"  # some keys are busy, most are not
    seq = scribe.numbers[key] = scribe.numbers.get(key, 0) + 1
    return {"event": f"{scribe.random.getrandbits(64):016x}-{number}", "key": key, "seq": seq}


def _committed(scribe: _Scribe, events: list[dict[str, Any]]) -> Iterator[Record]:
    for event in events:
        writer = f"writer-{sum(map(ord, event['key'])) % 4}"
        yield scribe.tell("commit", event, "invoke", process=writer)
        yield scribe.tell("commit", event, process=writer)


def _published(
    scribe: _Scribe, events: list[dict[str, Any]], *, twice: bool
) -> Iterator[tuple[Record, tuple[dict[str, Any], int, int] | None]]:
    """Each record, and with a confirmation the place in the log; a relay that was killed publishes its batch twice."""
    for _ in range(1 + twice):
        for event in events:
            yield scribe.tell("publish", event, "invoke", topic="orders", process="relay"), None
        for event in events:
            partition = sum(map(ord, event["key"])) % PARTITIONS
            offset = scribe.ends[partition] = scribe.ends.get(partition, -1) + 1
            yield scribe.tell("publish", event, topic="orders", process="relay"), (event, partition, offset)


def _consumed(scribe: _Scribe, log: list[tuple[dict[str, Any], int, int]], group: str, *, broken: bool) -> Iterator[Record]:
    """Two members share the partitions, apply what is new and skip what is not. Broken: some is lost, swapped, not skipped."""
    lost = {event["event"] for event, _, _ in log if broken and scribe.random.random() < LOSES}
    done: set[str] = set()
    for event, partition, offset in _swapped(scribe, log) if broken else log:
        if event["event"] in lost:
            continue
        who: dict[str, Any] = {"group": group, "process": f"{group}-{partition % 2}"}
        where: dict[str, Any] = {"topic": "orders", "partition": partition, "offset": offset}
        skips = event["event"] in done and not (broken and scribe.random.random() < LOSES)
        yield scribe.tell("deliver", event, **where, **who)
        yield scribe.tell("apply", event, "invoke", **who)
        yield scribe.tell("skip" if skips else "apply", event, **who)
        yield scribe.tell("ack", event, **where, **who)
        done.add(event["event"])


def _swapped(scribe: _Scribe, log: list[tuple[dict[str, Any], int, int]]) -> list[tuple[dict[str, Any], int, int]]:
    """Some entries have changed places with another of their batch."""
    mixed = log[:]
    for at in range(len(mixed)):
        if scribe.random.random() < LOSES:
            other = scribe.random.randrange(len(mixed))
            mixed[at], mixed[other] = mixed[other], mixed[at]
    return mixed


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_judged(Path(sys.argv[1]))))
