"""The board feeds its browser from a thread, and leaves nothing behind."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

import pytest

from reference.evidence.checker import check
from reference.evidence.history import History, Record
from reference.live import board as live
from reference.live.board import Board
from reference.live.following import Following
from reference.live.picture import svg
from reference.live.snapshot import snapshot
from tests.live.frames import Told, together

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
    with Told(history, hz=200) as board:
        fill(history, make_orders(10))
        assert until(lambda: any("committed 10 " in frame.get("banner", {}).get("text", "") for frame in board.frames))


def test_the_last_frame_holds_everything(make_orders: Make) -> None:
    """At the end of the block everything recorded is in the last frame, in the snapshot and in the picture."""
    history = History()
    with Board(history, hz=0.01) as board:
        fill(history, make_orders(10))
    whole, shot = snapshot(history), board.snapshot()
    assert (shot.data, shot.data.verdict, shot.svg) == (whole, check(history), svg(whole))


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


def test_what_was_broken_off_is_not_lost() -> None:
    """A cell that is stopped while events are on their way ends with events not delivered yet, and not with events lost."""
    history = History()

    def stopped() -> None:
        history.add(Record(op="commit", event="e1", key="k"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Board(history) as board:
        stopped()
    last = json.loads(board.whole)
    assert (last["banner"]["words"], last["live"]) == ("nothing wrong so far, 1 not delivered yet", False)


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
    assert board.snapshot().data == snapshot(history)


def test_nothing_new_sends_nothing(make_orders: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing is recorded no frame is sent, however often the board looks."""
    history = History(make_orders(5))
    with Told(history, hz=500) as board:
        looks: list[bool] = []
        behind = Following.behind.fget
        assert behind

        def looked(following: Following) -> bool:
            looks.append(behind(following))
            return looks[-1]

        monkeypatch.setattr(Following, "behind", property(looked))
        assert until(lambda: len(looks) > 10)
        assert board.frames == []


def test_a_cell_that_nobody_watches_never_sends_a_thousand_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """In ten minutes the pauses grow so that fewer are sent; a page that shows the board has all of them."""
    board = Board(History(), hz=10)
    unwatched = paced(board, monkeypatch, watched=False)
    assert (unwatched < 1_000, paced(board, monkeypatch, watched=True)) == (True, 6_000)


def paced(board: Board, monkeypatch: pytest.MonkeyPatch, *, watched: bool) -> int:
    now, board._sent = 0.0, 0
    monkeypatch.setattr(live.time, "monotonic", lambda: now)
    while now < 600:
        if watched:
            board._on_message(None, {"watching": board._sent}, None)
        now += board._pause()
        board._sent += 1
    return board._sent


@pytest.mark.parametrize("seed", range(10))
def test_frames_put_together_are_the_whole(seed: int, make_wild: Make) -> None:
    """A page that was told of every change shows what one shows that is told everything at the end."""
    records, history = make_wild(seed, 400), History()
    board = Told(history, slots=8, keys=4).inside()
    for start in range(0, len(records), 7):
        fill(history, records[start : start + 7])
        board.frame()
    shown = board.shown
    assert shown == together(json.loads(board._everything()), [])
    assert sum(len(lane["marks"]) for lane in shown["lanes"].values()) > 10


def test_whoever_comes_late_is_told_everything(make_orders: Make) -> None:
    """A page that opens while the board moves asks for its state, and goes on from there with the frames that follow."""
    history = History()
    board = Told(history).inside()
    fill(history, make_orders(5))
    board.frame()
    early, state = board.frames, json.loads(board.get_state()["whole"])
    fill(history, make_orders(5, start=200.0))
    board.frame()
    late = board.frames[len(early) :]
    assert (state["frame"], late[0]["frame"]) == (1, 2)
    assert together(state, late) == board.shown


def test_a_page_that_missed_a_frame_is_told_everything(make_orders: Make) -> None:
    """What it says that it missed is in the state that is sent anew."""
    history = History()
    board = Told(history).inside()
    fill(history, make_orders(5))
    board.frame()
    assert "committed 5" not in board.whole
    board._handle_custom_msg({"missed": True}, [])
    assert ("committed 5" in board.whole, json.loads(board.whole)["frame"]) == (True, 1)


def test_panels_are_on_or_off(make_orders: Make) -> None:
    """Nothing is sent of a panel that is off; one that does not exist is an error that names those there are."""
    told = {"verdict": {"banner"}, "repeats": {"charts"}, "strip": {"strip", "lanes", "stories", "looks"}}
    for panel, parts in told.items():
        whole = json.loads(Board(History(make_orders(3)), panels=[panel])._everything())
        assert whole.keys() - {"live", "frame"} <= parts
    with pytest.raises(ValueError, match="no panel stripe; there are verdict, lag, rates, repeats, strip"):
        Board(History(), panels=["stripe"])


def test_a_mark_tells_its_story_when_pointed_at(make_orders: Make) -> None:
    """Each mark has a name and a story: its event's key, number and state, and what happened to it."""
    with Board(History(make_orders(1))) as board:
        pass
    (story,) = json.loads(board.whole)["stories"].values()
    assert story == [
        "order-0 #1 · applied",
        [[0.0, "committed"], [0.001, "published"], [0.002, "delivered to billing"], [0.003, "applied by billing"]],
    ]


def test_a_click_is_done_and_recorded() -> None:
    """A fault button does its fault once, and the fault is on the time axis before its effects."""
    history, done = History(), []
    with Board(history, hz=200, faults={"kill relay": lambda: done.append(len(history))}) as board:
        board._handle_custom_msg({"fault": "kill relay"}, [])
        board._handle_custom_msg({"fault": "no such button"}, [])
    assert ([fault.note for fault in board.snapshot().data.faults], done) == (["kill relay"], [1])


def test_a_fault_that_holds_looks_pressed(eventually: Callable[..., None]) -> None:
    """From when it was done, by a click or by a line of code, until it holds no longer; one without a button has none."""
    held = set[str]()
    faults = {"freeze": lambda: held.add("freeze"), "thaw": held.clear}
    with Board(History(), hz=200, faults=faults, holding=lambda: held) as board:
        board._handle_custom_msg({"fault": "freeze"}, [])
        eventually(lambda: board.pressed == ["freeze"])
        held.add("kill")
        board._handle_custom_msg({"fault": "thaw"}, [])
        eventually(lambda: board.pressed == [])
        board._handle_custom_msg({"fault": "freeze"}, [])
        eventually(lambda: board.pressed == ["freeze"])
    assert board.pressed == []  # at rest nothing can be pressed


def test_a_failing_fault_is_told() -> None:
    """A fault that cannot be done does not stop the board; why is on the time axis."""
    with Board(History(), faults={"stop broker": lambda: 1 / 0}) as board:
        board._handle_custom_msg({"fault": "stop broker"}, [])
    assert [fault.note for fault in board.snapshot().data.faults] == ["stop broker", "stop broker failed: division by zero"]


def test_a_click_after_the_block_does_nothing() -> None:
    """When the block has ended its system may be gone, so late clicks are ignored."""
    history, done = History(), []
    with Board(history, faults={"kill relay": lambda: done.append(1)}) as board:
        pass
    board._handle_custom_msg({"fault": "kill relay"}, [])
    assert (done, len(history)) == ([], 0)


def test_lanes_have_the_room_they_need(make_orders: Make) -> None:
    """A board with few keys is low; with every key that comes it grows in few steps, and while it runs it never shrinks."""
    history, heights = History(), []
    board = Told(history, keys=12).inside()
    for i in range(24):
        fill(history, [replace(r, key=f"key-{i}", event=f"{i}-{r.event}") for r in make_orders(30, keys=1, start=100.0 + i)])
        board.frame()
        heights.append(board.shown["strip"]["height"])
    assert heights == sorted(heights)
    assert (heights[0] < heights[-1] - 150, len(set(heights)) <= 4) == (True, True)


def test_nothing_is_drawn_of_nothing(make_orders: Make) -> None:
    """A board without a record has no charts, and they are there with the first one."""
    history = History()
    board = Told(history).inside()
    assert "charts" not in json.loads(board._everything())
    fill(history, make_orders(1))
    board.frame()
    assert "charts" in board.shown


def test_its_repr_is_one_line(make_orders: Make) -> None:
    """Where no widget can be shown, a board prints where to see it, and afterwards its verdict, not its whole state."""
    with Board(History(make_orders(3))) as board:
        shown = repr(board)
    assert (shown, repr(board)) == ("live board: run this cell in JupyterLab", f"board: {board.snapshot().data.verdict}")


def test_the_charts_follow_when_nothing_else_does() -> None:
    """What was recorded between two charts is in the next, which is sent without a further record."""
    history = History()
    board = Told(history).inside()
    history.add(Record(op="lag", partition=0, value=1.0))
    board.frame()
    history.add(Record(op="lag", partition=0, value=7.0))
    board._refresh()
    assert "charts" not in board.frames[-1]
    board._charted_at = -1.0
    board._refresh()
    assert "deepest now 7" in json.dumps(board.frames[-1]["charts"])
    board._charted_at = -1.0
    board._refresh()
    assert len(board.frames) == 3


def test_a_block_that_does_not_begin_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt while it starts, or while it is shown: no thread, and the board may be used again."""
    board = Board(History(), hz=200)
    for place in ("look", "whole"):
        with monkeypatch.context() as patched:
            patched.setattr(board._telling, place, interrupted)
            with pytest.raises(KeyboardInterrupt):
                board.__enter__()
        assert boards() == []
    with monkeypatch.context() as patched:
        patched.setattr(live, "get_ipython", interrupted)
        with pytest.raises(KeyboardInterrupt):
            board.__enter__()
    assert boards() == []
    with board:
        pass


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_record_that_is_none_is_named(make_orders: Make) -> None:
    """At the end of the block, whatever else was recorded; nothing is left out in silence."""
    history, bad = History(make_orders(3)), Record(op="commit", event="bad", key=7)  # type: ignore[arg-type]
    board = Told(history).inside()
    board.frame()
    history.add(bad)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"not a record that could be judged: .*event='bad', key=7"):
            board.frame()


def test_half_a_character_is_shown(make_orders: Make) -> None:
    """It is no text, and still somebody's key."""
    history = History([*make_orders(3), Record(op="commit", event="half", key="\ud800", at=300.0)])
    board = Told(history).inside()
    titles = [title for title, _ in json.loads(board.frame()[1])["stories"].values()]
    assert "\ud800 · committed" in titles


def test_it_may_be_stopped_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that has just opened starts it, and the next experiment takes its place at that very moment."""
    board = Board(History(), follows=True)
    starting, go = threading.Event(), threading.Event()
    look = board._telling.look

    def slow(*, settled: bool) -> None:
        starting.set()
        assert go.wait(60)
        look(settled=settled)

    monkeypatch.setattr(board._telling, "look", slow)
    with ThreadPoolExecutor(2) as pool:
        page = pool.submit(board._on_message, None, {"watching": 0}, None)
        assert starting.wait(60)
        stopping = pool.submit(board.stop)
        wait([stopping], timeout=0.2)  # it may have to wait for the other
        go.set()
        page.result(60)
        stopping.result(60)
    assert boards() == []
