"""What a learner breaks with one line or one button, on a stack of this module's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from reference.evidence.faults import services
from reference.lab import Lab
from reference.live.board import Board
from reference.orders.writing import commit_with_outbox
from reference.stack import Endpoints, PrivateStack, StackError, kill, private_stack, status, up


@pytest.fixture(scope="module")
def mine() -> Iterator[PrivateStack]:
    with private_stack("kafka", "postgres") as private:
        yield private


@pytest.fixture
def lab(mine: PrivateStack, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab whose stack may be broken."""
    monkeypatch.setenv("EDA_HOME", str(mine.home))
    return Lab.open(1)


@pytest.fixture
def guest(stack: Endpoints) -> Lab:
    """A lab on services that the environment names: somebody else's."""
    return Lab.open(1)


def notes(lab: Lab) -> list[str]:
    return [record.note for record in lab.history if record.op == "fault"]


def state_of(service: str) -> str:
    return next(state.state for state in status() if state.name == service)


def test_a_killed_kafka_loses_nothing_and_is_on_the_board(lab: Lab) -> None:
    """Killed while events wait in the outbox, brought back: all arrive, once, in order; the history names both faults."""
    with lab.board() as board, lab.relay(), lab.warehouse():
        lab.backlog(orders=5, changes=2)
        lab.faults.kill("kafka")
        lab.backlog(orders=5, changes=2)
        lab.faults.restart("kafka")
        lab.settle()
    assert [fault.note for fault in board.snapshot().data.faults] == ["kill kafka", "restart kafka"]
    verdict = lab.judge()
    assert (verdict.applied, verdict.lost, verdict.applied_twice, verdict.out_of_order) == (20, 0, 0, 0)


def test_a_lab_goes_on_after_postgres_was_restarted(lab: Lab) -> None:
    """Its own connection mends itself; what was committed before is there, and what comes after arrives."""
    with lab.board(), lab.relay(), lab.warehouse():
        lab.backlog(orders=5, changes=2)
        lab.settle()
        assert lab.faults.restart("postgres", mode="immediate") > 0
        lab.write(commit_with_outbox, orders=5, changes=2)
        lab.settle()
    verdict = lab.judge()
    assert (verdict.lost, verdict.applied_twice, verdict.out_of_order) == (0, 0, 0)
    assert verdict.applied == lab.count("order_changes") >= 19  # the change that met the end may not have been made
    assert notes(lab) == ["restart postgres"]


def test_an_outbox_is_waited_for_though_postgres_goes_away(lab: Lab) -> None:
    """Killed under the wait and brought back: the wait goes on, and ends when all is published."""
    with lab.relay():
        lab.backlog(orders=5, changes=2)
        lab.faults.kill("postgres")
        back = threading.Thread(target=lab.faults.mend)
        back.start()
        lab.wait_for_outbox()
        back.join()
    verdict = lab.judge()
    assert (verdict.acknowledged, verdict.lost, lab.count("outbox")) == (10, 0, 0)


def test_a_paused_consumer_is_on_the_board_too(lab: Lab) -> None:
    """Lag grows until it is resumed."""
    with lab.board(), lab.relay(), lab.warehouse():
        lab.faults.pause_consumer()
        lab.backlog(orders=2, changes=2)
        lab.wait_for_lag(1)
        lab.faults.resume_consumer()
        lab.settle()
    assert notes(lab) == ["pause consumer", "resume consumer"]


def test_buttons_do_what_their_names_say(lab: Lab) -> None:
    """Pressed on a board, each is recorded once, by the board; what is left broken is mended."""
    buttons = lab.faults.buttons("freeze postgres", "thaw postgres", "kill postgres", "pause consumer", "resume consumer")
    held = lab.faults.holding
    with Board(lab.history, faults=buttons, holding=held) as board:
        board.press("freeze postgres")
        assert (state_of("postgres"), held()) == ("frozen", {"freeze postgres"})
        board.press("thaw postgres")
        assert held() == set()
        board.press("kill postgres")
        assert (state_of("postgres"), held()) == ("failed", {"kill postgres"})
        board.press("thaw postgres")  # which does not run: an error, on the board
        board.press("pause consumer")
        assert held() == {"kill postgres", "pause consumer"}
        board.press("resume consumer")
        lab.faults.mend()
        assert (state_of("postgres"), held()) == ("ready", set())
    assert [note for note in notes(lab) if "failed" not in note] == [*list(buttons)[:3], "thaw postgres", *list(buttons)[3:]]


def test_what_breaks_half_way_is_mended_too(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart that is interrupted, or fails, between taking down and bringing back."""
    for end in (KeyboardInterrupt, StackError):

        def restart(service: str, end: type[BaseException] = end, **_: object) -> float:
            kill(service)
            raise end

        with monkeypatch.context() as half:
            half.setattr(services, "restart", restart)
            with pytest.raises(end):
                lab.faults.restart("postgres")
        assert (state_of("postgres"), lab.faults.holding()) == ("failed", {"kill postgres"})
        lab.faults.mend()
        assert (state_of("postgres"), lab.faults.holding()) == ("ready", set())


def test_a_click_during_mending_is_mended_or_shown(lab: Lab) -> None:
    """A kill that is under way is waited for; one that comes later holds, and is on its button."""
    killing = threading.Thread(target=lab.faults.buttons("kill postgres")["kill postgres"])
    killing.start()
    lab.faults.mend()
    killing.join()
    held = lab.faults.holding()
    assert (state_of("postgres") == "failed") == bool(held)
    lab.faults.mend()
    assert (state_of("postgres"), lab.faults.holding()) == ("ready", set())


def test_a_postgres_that_came_back_is_found(lab: Lab) -> None:
    """Killed and started again from elsewhere, as by ``eda kill`` and ``eda up``; while it is down, the error says what to do."""
    lab.backlog(orders=1, changes=1)
    kill("postgres")
    with pytest.raises(psycopg.OperationalError, match="Postgres does not answer; bring it back with: eda up postgres"):
        lab.begin()
    up(["postgres"])
    lab.begin()
    kill("postgres")
    up(["postgres"])
    lab.begin()
    lab.backlog(orders=1, changes=2)
    assert lab.judge().acknowledged == 2


def test_somebody_elses_service_is_said_to_be(guest: Lab) -> None:
    """The button has it in its name, and the board survives a click; the one-line call raises. Nothing is touched."""
    buttons = guest.faults.buttons("kill kafka")
    assert list(buttons) == ["kill kafka: not ours"]
    with Board(guest.history, faults=buttons) as board:
        board.press("kill kafka: not ours")
    assert "belongs to somebody else" in notes(guest)[-1]
    with pytest.raises(StackError, match="kafka is named by EDA_KAFKA_URL and belongs to somebody else"):
        guest.faults.kill("kafka")
    up(["kafka"])


def test_an_unknown_button_is_answered_with_those_there_are(guest: Lab) -> None:
    """At once, not when it is pressed."""
    for name in ("kil kafka", "kill kafak", "kill"):
        with pytest.raises(ValueError, match="there are pause consumer, resume consumer, and kill, restart, freeze, thaw"):
            guest.faults.buttons(name)
