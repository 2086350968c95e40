from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from reference.evidence.history import FIELDS, OF_NO_EVENT, History, Operation, Phase, Record, read


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


@pytest.mark.parametrize(
    "line",
    ["not json", "5", "{}", '{"op": "commit", "colour": "red"}', '{"op": "commited"}', '{"op": "commit", "event": 5}',
     '{"op": "commit", "at": "noon"}', '{"op": "commit", "at": NaN}', '{"op": "deliver", "offset": 1.5}'],
)  # fmt: skip
def test_a_bad_line_is_named(path: Path, line: str) -> None:
    """With its number and the reason."""
    path.write_text(f"{json.dumps({'op': 'commit', 'event': 'e1'})}\n{line}\n{json.dumps({'op': 'commit', 'event': 'e1'})}\n")
    with pytest.raises(ValueError, match=r"history\.jsonl:2 is not a history record"):
        read(path)


UNKNOWN = f"no field is called that; there are {', '.join(FIELDS)}"


@pytest.mark.parametrize(
    ("line", "reason"),
    {
        "not json": "it is no JSON: expected ident at column 2",
        "5": "it must be a JSON object, and is 5",
        '{"op": "commit"': "it is no JSON: EOF while parsing an object",
        '{"op": "commit", "": 1}': f'"": {UNKNOWN}',
        r'{"op": "commit", "a\nb\u2028c\u001b[2Jd\u202ee\u0085": 1}': rf'"a\nb\u2028c\u001b[2Jd\u202ee\u0085": {UNKNOWN}',
        '{"op": "commit", "' + 5_000 * "x" + '": 1}': '"' + 39 * "x" + f"…: {UNKNOWN}",
        r'{"op": "commit", "event": ["\u2028\u200f"]}': r'event: must be text in quotes, and is ["\u2028\u200f"]',
        "{}": "op: missing, and every record needs it",
        '{"op": "commit", "evnt": "e"}': "evnt: no field is called that; did you mean event?",
        '{"op": "comit"}': 'op: "comit" is none that is known; did you mean commit?',
        '{"op": "lag", "phase": "xyz"}': 'phase: "xyz" is none that is known; there are invoke, ok, fail, info',
        '{"op": "commit", "event": 5}': "event: must be text in quotes, and is 5",
        '{"op": "commit", "at": "noon"}': 'at: must be a number, and is "noon"',
        '{"op": "commit", "at": NaN}': "at: must be a finite number, and is NaN",
        '{"op": "deliver", "offset": 1.5}': "offset: must be a whole number, and is 1.5",
        '{"op": "deliver", "seq": "1"}': 'seq: must be a whole number, and is "1"',
        '{"op": "commit", "event": ["' + 60 * "e" + '"]}': 'event: must be text in quotes, and is ["' + 38 * "e" + "…",
    }.items(),
)
def test_a_bad_line_says_which_field_and_what_is_wrong(path: Path, line: str, reason: str) -> None:
    """In the words of the format, on one line, with what stands there and what may stand there."""
    path.write_text(f"{line}\n")
    with pytest.raises(ValueError, match="not a history record") as raised:
        read(path)
    assert str(raised.value) == f"{path}:1 is not a history record: {reason}"


@pytest.mark.parametrize("line", ["hello", "[1]", "5", '{"op": "comit"}', '{"op": "commit", "event": 5}'])
def test_a_last_line_that_is_no_torn_record_is_named(path: Path, line: str) -> None:
    """What is whole and wrong, or never was a record, is not taken for the work of a kill."""
    path.write_text(f"{json.dumps({'op': 'commit', 'event': 'e1'})}\n{line}")
    with pytest.raises(ValueError, match=r"history\.jsonl:2 is not a history record"):
        read(path)


@pytest.mark.parametrize("op", sorted({*get_args(Operation)} - OF_NO_EVENT))
def test_a_record_of_no_event_is_named_where_its_operation_needs_one(path: Path, op: str) -> None:
    """With the line and the field: it would be judged as nothing, and a history of nothing else as clean."""
    path.write_text(f'{{"op": "fault"}}\n{{"op": "{op}", "key": "k"}}\n')
    with pytest.raises(ValueError, match=rf"history\.jsonl:2 is not a history record: event: missing, and {op} needs it"):
        read(path)


@pytest.mark.parametrize("op", sorted(OF_NO_EVENT))
def test_what_concerns_no_event_needs_none(path: Path, op: str) -> None:
    """A member that joins, a partition that moves, a sample, a fault."""
    path.write_text(f'{{"op": "{op}"}}\n')
    assert [record.op for record in read(path)] == [op]


def test_a_file_named_twice_is_read_once(path: Path) -> None:
    """Or all of it would have happened twice."""
    History([Record(op="apply", event="e1", at=1.0)]).save(path)
    assert len(read(path, path.parent, path)) == 1


def test_processes_write_files_of_their_own_into_a_directory(tmp_path: Path) -> None:
    """Whole lines, whoever writes them and whoever is killed; read back as one history."""
    program = (
        "import os, sys; from pathlib import Path; from reference.evidence.history import *\n"
        "history = History(path=Path(sys.argv[1]))\n"
        "for n in range(500): history.add(Record(op='commit', event=f'{sys.argv[2]}-{n}'))\n"
        "os.kill(os.getpid(), 9)"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(n)]) for n in range(3)]
    assert [process.wait(60) for process in processes] == [-9, -9, -9]
    assert len({record.event for record in read(tmp_path)}) == 1_500


def test_a_directory_without_a_history_is_named(tmp_path: Path) -> None:
    """Rather than judged as an empty one, in which nothing was lost."""
    with pytest.raises(ValueError, match="holds no history"):
        read(tmp_path)


def test_a_history_is_a_table(path: Path) -> None:
    """A row a record and a column a field."""
    frame = History([Record(op="commit", event="e1", at=1.0), Record(op="deliver", event="e1", at=2.0)]).frame()
    assert (list(frame.columns), list(frame["op"])) == ([field.name for field in fields(Record)], ["commit", "deliver"])


def test_what_was_saved_is_read_back(path: Path) -> None:
    """A history kept in memory can be judged by the command, too."""
    history = History([Record(op="commit", event="e1", at=1.0), Record(op="lag", value=3.0, at=2.0)])
    history.save(path)
    assert read(path) == list(history)


def test_the_format_is_documented() -> None:
    """Every field, operation and phase has a row in docs/history.md."""
    page = (Path(__file__).parents[2] / "docs" / "history.md").read_text()
    words = [*(field.name for field in fields(Record)), *get_args(Operation), *get_args(Phase)]
    assert [word for word in words if f"| `{word}` |" not in page] == []


def test_what_an_operation_needs_is_documented() -> None:
    """The event, where there is no record without it, and nothing where there is."""
    page = (Path(__file__).parents[2] / "docs" / "history.md").read_text()
    needs = {op: "–" if op in OF_NO_EVENT else "`event`" for op in get_args(Operation)}
    assert [op for op, field in needs.items() if f"| `{op}` | {field} |" not in page] == []


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


def test_nothing_is_lost_while_another_history_is_merged_in() -> None:
    """Whoever adds in the meantime finds his record in it."""
    history, others = History(), [Record(op="commit", event=f"other-{n}", at=float(n)) for n in range(2_000)]
    writer = threading.Thread(target=lambda: [history.add(Record(op="commit", event=f"own-{n}")) for n in range(20_000)])
    writer.start()
    merged = 0
    while writer.is_alive():
        history.extend(others[:10])
        merged += 10
    assert len(history) == 20_000 + merged
