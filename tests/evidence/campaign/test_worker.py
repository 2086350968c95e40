"""A process of an experiment: how it ends is told, and it never outlives whoever started it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from reference.evidence.campaign.worker import Worker
from reference.evidence.victim import carry

NOWHERE = {"dsn": "postgresql://nobody@127.0.0.1:9/none", "broker": "kafka://127.0.0.1:9"}


def test_who_was_killed_or_stopped_ended_rightly() -> None:
    """That is what the experiment wanted."""
    worker = Worker(carry, **NOWHERE).start()
    worker.restart()
    worker.stop()
    assert worker.wrong_ends == []


def test_who_ended_by_himself_is_told() -> None:
    """A bug that ends a process is not taken for a fault, however soon it is started again."""
    worker = Worker(carry, **NOWHERE, page=0).start()  # refused: there is no such relay
    assert worker.died(60)
    worker.restart(page=1)
    worker.kill()
    assert worker.wrong_ends == [1]


def test_who_ended_in_disorder_when_stopped_is_told(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    """Being asked to end is no reason to fail."""
    worker = Worker(fail_when_stopped, ready=tmp_path / "ready").start()
    eventually((tmp_path / "ready").exists, within_s=60)
    worker.stop()
    assert worker.wrong_ends == [3]


def fail_when_stopped(ready: Path) -> None:
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    ready.touch()
    stopped.wait()
    raise SystemExit(3)


def test_no_process_outlives_its_owner(eventually: Callable[..., Any]) -> None:
    """Not even one that was killed."""
    program = (
        "import sys, time\n"
        "from reference.evidence.campaign.worker import Worker\n"
        "from reference.evidence.victim import carry\n"
        f"if __name__ == '__main__':\n    print(Worker(carry, **{NOWHERE!r}).start().pid, flush=True); time.sleep(600)"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    worker = psutil.Process(int(owner.stdout.readline()))
    owner.kill()
    owner.wait()
    eventually(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, within_s=60)
