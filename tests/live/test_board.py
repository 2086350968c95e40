"""The board feeds its browser from a thread, and leaves nothing behind."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import pytest

from reference.evidence.checker import check
from reference.evidence.history import History, Record
from reference.live.board import Board, _pause
from reference.live.picture import svg
from reference.live.snapshot import snapshot

Make = Callable[..., list[Record]]


def until(condition: Callable[[], bool], *, seconds: float = 10) -> bool:
    deadline, turn = time.monotonic() + seconds, threading.Event()
    while not condition() and time.monotonic() < deadline:
        turn.wait(0.005)
    return condition()


def boards() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "board"]


def fill(history: History, records: list[Record]) -> None:
    for record in records:
        history.add(record)


def test_frames_move_while_the_block_is_busy(make_orders: Make) -> None:
    """What a block records is shown while it still runs, by a thread of the board's own."""
    history = History()
    with Board(history, hz=200) as board:
        fill(history, make_orders(10))
        assert until(lambda: "committed 10 " in board.frame["label"])


def test_the_last_frame_holds_everything(make_orders: Make) -> None:
    """At the end of the block everything recorded is in the last frame, in the snapshot and in the picture."""
    history = History()
    with Board(history, hz=0.01) as board:
        fill(history, make_orders(10))
    whole = snapshot(history)
    assert (board.snapshot(), board.snapshot().verdict, board.picture().svg) == (whole, check(history), svg(whole))


def test_no_thread_stays() -> None:
    """The thread has ended when the block has."""
    with Board(History(), hz=200):
        assert boards()
    assert boards() == []


def test_no_thread_stays_after_an_exception() -> None:
    """An exception in the block comes out as it is, and the thread has ended."""
    with pytest.raises(KeyError, match="the block's own"), Board(History(), hz=200):
        raise KeyError("the block's own")
    assert boards() == []


def test_a_board_may_run_again(make_orders: Make) -> None:
    """A second block goes on with the same history; one inside the other is refused."""
    history = History()
    board = Board(history, hz=200)
    with board:
        fill(history, make_orders(3))
    with board:
        fill(history, make_orders(3, start=200.0))
        with pytest.raises(RuntimeError, match="running already"):
            board.__enter__()
    assert board.snapshot() == snapshot(history)


def test_nothing_new_sends_nothing(make_orders: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing is recorded no frame is sent, however often the board looks."""
    history = History(make_orders(5))
    with Board(history, hz=500) as board:
        assert until(lambda: "hits" in board.frame and board.frame["live"])
        frames: list[object] = []
        looks: list[bool] = []
        look = board._sampler.follow
        board.observe(frames.append, "frame")

        def looked(at: History) -> bool:
            looks.append(look(at))
            return looks[-1]

        monkeypatch.setattr(board._sampler, "follow", looked)
        assert until(lambda: len(looks) > 10)
        assert frames == []


def test_a_cell_never_sends_a_thousand_frames() -> None:
    """In ten minutes at eight frames a second, the pauses grow so that fewer than a thousand are sent."""
    elapsed, sent = 0.0, 0
    while elapsed < 600:
        elapsed += _pause(sent, 8)
        sent += 1
    assert sent < 1_000


def test_a_frame_is_json(make_wild: Make) -> None:
    """Frames of any history travel as JSON, and their shapes and hits are JSON inside."""
    with Board(History(make_wild(5))) as board:
        pass
    frame = json.loads(json.dumps(board.frame))
    kinds = {shape[0] for shape in json.loads(frame["shapes"])}
    assert (kinds, len(json.loads(frame["hits"])) > 0, frame["live"]) == ({"rect", "line", "text"}, True, False)


def test_a_mark_tells_its_story_when_pointed_at(make_orders: Make) -> None:
    """Each mark is a place with the event's key, number, state and story."""
    with Board(History(make_orders(1))) as board:
        pass
    (hit,) = json.loads(board.frame["hits"])
    assert hit[4:] == [
        "order-0 #1 · applied",
        [[0.0, "committed"], [0.001, "published"], [0.002, "delivered to billing"], [0.003, "applied by billing"]],
    ]


def test_a_click_is_done_and_recorded() -> None:
    """A fault button does its fault once, and the fault is on the time axis before its effects."""
    history, done = History(), []
    with Board(history, hz=200, faults={"kill relay": lambda: done.append(len(history))}) as board:
        board._handle_custom_msg({"fault": "kill relay"}, [])
        board._handle_custom_msg({"fault": "no such button"}, [])
    assert ([fault.note for fault in board.snapshot().faults], done) == (["kill relay"], [1])


def test_a_failing_fault_is_told() -> None:
    """A fault that cannot be done does not stop the board; why is on the time axis."""
    with Board(History(), faults={"stop broker": lambda: 1 / 0}) as board:
        board._handle_custom_msg({"fault": "stop broker"}, [])
    assert [fault.note for fault in board.snapshot().faults] == ["stop broker", "stop broker failed: division by zero"]


def test_a_click_after_the_block_does_nothing() -> None:
    """When the block has ended its system may be gone, so late clicks are ignored."""
    history, done = History(), []
    with Board(history, faults={"kill relay": lambda: done.append(1)}) as board:
        pass
    board._handle_custom_msg({"fault": "kill relay"}, [])
    assert (done, len(history)) == ([], 0)


def test_its_repr_is_one_line(make_orders: Make) -> None:
    """Where no widget can be shown, a board prints where to see it, and afterwards its verdict, not its whole state."""
    with Board(History(make_orders(3))) as board:
        shown = repr(board)
    assert (shown, repr(board)) == ("live board: run this cell in JupyterLab", f"board: {board.snapshot().verdict}")
