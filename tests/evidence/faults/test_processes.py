from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from reference.evidence.faults import pause, paused, processes
from reference.evidence.history import History

Victim = subprocess.Popen[str]
Eventually = Callable[..., Any]
ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"


@pytest.fixture
def victim() -> Iterator[Victim]:
    """A process that answers what it is told."""
    with subprocess.Popen([sys.executable, "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert answers(process)
        yield process
        process.kill()


def answers(process: Victim) -> bool:
    assert process.stdin is not None
    assert process.stdout is not None
    print("there?", file=process.stdin, flush=True)
    return process.stdout.readline() == "there?\n"


def state(process: Victim) -> str:
    return psutil.Process(process.pid).status()


def test_a_paused_process_is_still_in_the_block_and_answers_after_it(victim: Victim) -> None:
    """It keeps all it had, and the history says when it was frozen."""
    history = History()
    with paused(victim, history=history):
        assert state(victim) == psutil.STATUS_STOPPED
    assert answers(victim)
    assert [(record.op, record.note) for record in history] == [("fault", "pause")]


def test_it_goes_on_also_when_the_block_fails(victim: Victim) -> None:
    """Nobody is left frozen by a failed experiment."""
    with pytest.raises(ZeroDivisionError), paused(victim.pid):
        _ = 1 / 0
    assert answers(victim)


def test_a_pause_ends_by_itself(victim: Victim) -> None:
    """It was frozen meanwhile: a clock of the kernel's that counts only while it runs has not gone on."""
    before = psutil.Process(victim.pid).cpu_times().user
    pause(victim.pid, for_s=0.2)
    assert psutil.Process(victim.pid).cpu_times().user == before
    assert answers(victim)


def test_a_pause_does_not_outlast_its_process(victim: Victim, eventually: Eventually) -> None:
    """Killed by somebody else in the middle, it is not waited for."""
    code = f"from reference.evidence.faults import pause; pause({victim.pid}, for_s=3600)"
    with subprocess.Popen([sys.executable, "-c", code]) as caller:
        eventually(lambda: state(victim) == psutil.STATUS_STOPPED)
        victim.kill()
        assert caller.wait(60) == 0


@pytest.mark.parametrize("frozen", [False, True])
def test_a_kill_is_over_when_it_returns(victim: Victim, frozen: bool) -> None:
    """Frozen or not; its exit code is still there for whoever started it."""
    if frozen:
        victim.send_signal(signal.SIGSTOP)
    processes.kill(victim, history=(history := History()))
    assert (victim.poll(), [record.note for record in history]) == (-signal.SIGKILL, ["kill"])


def test_a_process_that_is_over_is_named(victim: Victim) -> None:
    """A zombie, and one that is gone altogether."""
    victim.kill()
    os.waitid(os.P_PID, victim.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessLookupError, match=f"process {victim.pid} has ended"), paused(victim):
        pass
    victim.wait()
    with pytest.raises(ProcessLookupError, match=f"no process {victim.pid} any more"):
        processes.kill(victim)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: pause(os.getpid(), for_s=1), "this process itself"),
        (lambda: processes.kill(1), "nobody to harm"),
        (lambda: processes.kill(0), "nobody to harm"),
        (lambda: pause(os.getppid(), for_s=-1), "not -1 s"),
        (lambda: processes.kill(multiprocessing.Process()), "start it first"),
    ],
)
def test_nobody_is_frozen_or_killed_by_mistake(wrong: Callable[[], object], said: str) -> None:
    """A process that freezes itself is never continued, and pid 0 would be all of a group."""
    with pytest.raises(ValueError, match=said):
        wrong()
