from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from reference.evidence.history import History, Record, read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.jsonl"


def test_a_record_is_stamped_with_time_and_process() -> None:
    """Unless it carries them already."""
    stamped, kept = History().add(Record(op="commit")), History().add(Record(op="commit", at=7.0, process="writer"))
    assert (stamped.at > 0, stamped.process, kept.at, kept.process) == (True, str(os.getpid()), 7.0, "writer")


def test_what_was_written_is_read_back(path: Path) -> None:
    """Every field, in time order."""
    history = History(path=path)
    for n in (2, 1):
        history.add(
            Record(
                op="deliver",
                event=f"e{n}",
                key="ü ☕",
                seq=n,
                partition=0,
                offset=0,
                group="g",
                value=1.5,
                note="n",
                at=n,
                process="p",
            )
        )
    history.close()
    assert read(path) == sorted(history, key=lambda record: record.at)


def test_a_torn_last_line_is_skipped(path: Path) -> None:
    """A kill leaves at most one."""
    History(path=path).add(Record(op="commit", event="e1"))
    with path.open("a") as file:
        file.write('{"op": "commit", "ev')
    assert [record.event for record in read(path)] == ["e1"]


@pytest.mark.parametrize("line", ["not json", "5", '{"op": "commit", "colour": "red"}', "{}"])
def test_a_bad_line_is_named(path: Path, line: str) -> None:
    """With its number and the reason."""
    path.write_text(f"{json.dumps({'op': 'commit'})}\n{line}\n{json.dumps({'op': 'commit'})}\n")
    with pytest.raises(ValueError, match=r"history\.jsonl:2 is not a history record"):
        read(path)


def test_processes_append_to_one_file(path: Path) -> None:
    """Whole lines, whoever writes them."""
    program = (
        "import sys; from pathlib import Path; from reference.evidence.history import *\n"
        "history = History(path=Path(sys.argv[1]))\n"
        "for n in range(500): history.add(Record(op='commit', event=f'{sys.argv[2]}-{n}'))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program, str(path), str(n)]) for n in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert len({record.event for record in read(path)}) == 1_500


def test_threads_append_and_read_at_once() -> None:
    """A reader sees a prefix, at any moment."""
    history, lengths = History(), []
    writers = [threading.Thread(target=lambda: [history.add(Record(op="lag")) for _ in range(2_000)]) for _ in range(3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        lengths.append(sum(1 for _ in history))
    assert (len(history), lengths == sorted(lengths)) == (6_000, True)


def test_histories_merge_by_time() -> None:
    """Processes of one machine share a clock."""
    history = History([Record(op="commit", event="e2", at=2)])
    history.extend([Record(op="commit", event="e3", at=3), Record(op="commit", event="e1", at=1)])
    assert [record.event for record in history] == ["e1", "e2", "e3"]


def test_a_reader_asks_for_what_is_new() -> None:
    """By position."""
    history = History([Record(op="commit", event=f"e{n}", at=n) for n in range(1, 6)])
    assert [record.event for record in history.since(3)] == ["e4", "e5"]
