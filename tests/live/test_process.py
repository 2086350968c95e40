"""Composing in a process of its own: the same as here, whatever becomes of that process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from reference.evidence.history import History, Record
from reference.live import pipe, process, telling
from reference.live.composer import Composer, Layout
from reference.live.following import News
from reference.live.process import ComposerApart, Gone
from reference.live.scene import PANELS
from reference.live.snapshot import snapshot
from tests.live.frames import Told, together

Make = Callable[..., list[Record]]
LAYOUT = Layout(PANELS, 60.0, 6, 8, 452.0, 6)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A process of this test's own."""
    monkeypatch.setattr(process._Worker, "_one", None)
    own = process._Worker.shared()
    yield own
    own.end()


@pytest.fixture
def board(worker: Any, monkeypatch: pytest.MonkeyPatch, make_wild: Make) -> Told:
    """As in a notebook, where the process is used."""
    monkeypatch.setattr(telling, "kernel", object)
    return Told(History(make_wild(3, 200)), keys=6, slots=8).inside()


@pytest.mark.usefixtures("worker")
def test_it_tells_what_a_composer_here_tells(make_wild: Make) -> None:
    """Every frame, the whole, and the snapshot, letter by letter."""
    here, apart = Composer(LAYOUT), ComposerApart(LAYOUT)
    records = make_wild(5, 300)
    for start in range(0, 300, 50):
        news = News(records[start : start + 50])
        assert apart.frame(news, charts=start % 100 == 0) == here.frame(news, charts=start % 100 == 0)
    for composer in (here, apart):
        composer.look(News(records, anew=True), settled=True)
    assert apart.whole(live=True, frame=7) == here.whole(live=True, frame=7)
    assert apart.snapshot() == here.snapshot() == snapshot(records, keys=6)  # no more keys than those are there


def test_a_board_goes_on_when_it_is_killed(worker: Any, board: Told, make_wild: Make) -> None:
    """In mid-block: a page that was told of every change shows the same as one that comes now; the end is told, too."""
    board._tell_whole(settled=False)
    for kill in (False, True, False):
        if kill:
            os.kill(worker.process.pid, signal.SIGKILL)
        for record in make_wild(4, 100):
            board._history.add(record)
        board.frame()
    assert board.shown == together(json.loads(board._everything()), [])
    board._thread = None
    board.stop(settled=True)
    assert board.snapshot().data.verdict == snapshot(board._history).verdict


def test_the_next_board_starts_another(worker: Any) -> None:
    """Whoever asked the one that is gone is told so."""
    lost = ComposerApart(LAYOUT)
    os.kill(worker.process.pid, signal.SIGKILL)
    with pytest.raises(Gone):
        lost.snapshot()
    found = ComposerApart(LAYOUT)
    assert found.snapshot() == Composer(LAYOUT).snapshot()
    found._worker.end()


def test_a_board_that_cannot_be_composed_takes_nobody_with_it(worker: Any) -> None:
    """What goes wrong is told to the one who asked; the process goes on with the others."""
    good, bad = ComposerApart(LAYOUT), ComposerApart(LAYOUT)
    with pytest.raises(Gone, match="ValueError"):
        bad._ask("frame", ([("no", "record")], "?"), True)
    assert good.snapshot() == Composer(LAYOUT).snapshot()
    assert worker.process.poll() is None


def test_what_cannot_be_asked_ends_nobody(worker: Any) -> None:
    """A text of a class that only its cell knows cannot leave the kernel: whoever asked is told, and the others go on."""

    class Key(str):
        __slots__ = ()

    apart = ComposerApart(LAYOUT)
    with pytest.raises(AttributeError, match="pickle"):
        apart.frame(News([Record(op="commit", event="e", key=Key("k"))]), charts=True)
    assert (worker.gone, apart.snapshot()) == (False, Composer(LAYOUT).snapshot())


def test_what_nobody_asks_any_more_is_forgotten(worker: Any) -> None:
    """A composer that was let go is closed with the next question, whoever asks it."""
    other, let_go = ComposerApart(LAYOUT), ComposerApart(LAYOUT)
    number = let_go._number
    del let_go
    other.snapshot()
    with pytest.raises(Gone, match=f"KeyError.{number}"):
        worker.ask(number, "snapshot")


def test_a_stopped_board_lets_it_go(worker: Any, board: Told) -> None:
    """Its last frame stays here."""
    board.frame()
    board._thread = None
    board.stop(settled=True)
    assert len(worker.closing) == 1
    os.kill(worker.process.pid, signal.SIGKILL)
    assert board.snapshot().data.verdict == snapshot(board._history).verdict


def test_one_that_does_not_answer_is_not_waited_for(worker: Any, board: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, and the board goes on without it."""
    board.frame()
    monkeypatch.setattr(process, "PATIENCE_S", 0.2)
    os.kill(worker.process.pid, signal.SIGSTOP)
    board._history.add(Record(op="commit", event="later", key="k"))
    board.frame()
    assert (worker.gone, worker.process.poll()) == (True, -signal.SIGKILL)
    assert board.shown == together(json.loads(board._everything()), [])


@pytest.mark.usefixtures("worker")
def test_half_an_answer_is_none(monkeypatch: pytest.MonkeyPatch, make_orders: Make) -> None:
    """One that is killed while it answers is gone, like any other."""
    apart, some = ComposerApart(LAYOUT), pipe._some

    def killed(back: int, until: float) -> bytes:
        begun = some(back, until)
        apart._worker.process.kill()
        apart._worker.process.wait()
        return begun[:-1]

    monkeypatch.setattr(pipe, "_some", killed)
    with pytest.raises(Gone):
        apart.look(News(make_orders(3), anew=True), settled=False)


def test_what_lies_in_the_notebooks_folder_is_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A learner's random.py is his own affair."""
    (tmp_path / "random.py").write_text("raise SystemExit('not for you')")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(process._Worker, "_one", None)
    apart = ComposerApart(LAYOUT)
    assert apart.snapshot() == Composer(LAYOUT).snapshot()
    apart._worker.end()


def test_a_fork_has_one_of_its_own(worker: Any) -> None:
    """It neither asks the original's, nor keeps it alive."""
    apart = ComposerApart(LAYOUT)
    pid = os.fork()
    if not pid:  # what is wrong here is told by the exit code, and nothing else of this test's is run
        told = 1
        with suppress(BaseException):
            try:
                apart.snapshot()
            except Gone:
                own = ComposerApart(LAYOUT)
                told = 0 if own.snapshot() == Composer(LAYOUT).snapshot() and own._worker is not worker else 2
                own._worker.end()
        os._exit(told)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert apart.snapshot() == Composer(LAYOUT).snapshot()


STARTS = """
import time
from reference.live.process import _Worker
print(_Worker.shared().process.pid, flush=True)
time.sleep(600)
"""


def test_it_ends_with_the_one_who_started_it(eventually: Callable[..., Any]) -> None:
    """Even by SIGKILL; and an interrupt that is meant for a cell does not reach it."""
    parent = subprocess.Popen([sys.executable, "-c", STARTS], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert os.getpgid(child) != os.getpgid(parent.pid)
    parent.kill()
    parent.communicate()
    eventually(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE, within_s=60)


def test_where_it_cannot_be_started_the_board_does_without(monkeypatch: pytest.MonkeyPatch, make_orders: Make) -> None:
    """No board is worse for it."""

    def refused(*_: Any, **__: Any) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(process._Worker, "_one", None)
    monkeypatch.setattr(subprocess, "Popen", refused)
    monkeypatch.setattr(telling, "kernel", object)
    board = Told(History(make_orders(5))).inside()
    board.frame()
    assert board.snapshot().data.verdict.acknowledged == 5
