"""A bar while something is waited for: in a real kernel, in a real terminal, and not where nobody looks on."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jupyter_client import BlockingKernelClient, KernelManager

from reference.lab.progress import Progress, progress

PATIENCE_S = 60.0
# It ends when whoever looks on has seen the bar, and says so.
ASKS = """
import threading
from reference.lab.progress import progress
with progress("written", total=200) as told:
    told.to(120)
    input("seen? ")
print("threads", [thread.name for thread in threading.enumerate() if thread.name == "progress"])
"""
NOBODY = """
import threading
from reference.lab.progress import progress
with progress("written", total=200) as told:
    print("threads", [thread.name for thread in threading.enumerate() if thread.name == "progress"])
"""


@pytest.fixture(scope="module")
def kernel() -> Iterator[BlockingKernelClient]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE_S)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def run(kernel: BlockingKernelClient, code: str, *, asked: bool, until: Callable[[str], bool] = bool) -> list[dict[str, Any]]:
    """The cell's outputs, as they came. Where it may ask, it is answered once an output is as ``until`` wants it."""
    request, told = kernel.execute(code, allow_stdin=asked), list[dict[str, Any]]()
    answered = False
    while True:
        message = kernel.get_iopub_msg(timeout=PATIENCE_S)
        if message["parent_header"].get("msg_id") != request:
            continue
        content = message["content"]
        if content.get("execution_state") == "idle":
            return told
        if message["msg_type"] in {"display_data", "update_display_data", "stream", "error"}:
            told.append({"type": message["msg_type"], **content})
        if asked and not answered and until(content.get("data", {}).get("text/html", "")):
            kernel.get_stdin_msg(timeout=PATIENCE_S)
            kernel.input("yes")
            answered = True


def test_a_bar_comes_and_goes_below_the_cell(kernel: BlockingKernelClient) -> None:
    """It tells how far the work is; at the end its place is empty and its thread is gone."""
    first, *later, last, printed = run(kernel, ASKS, asked=True, until=lambda html: "120 of 200" in html)
    assert (first["type"], first["transient"]) == ("display_data", last["transient"])
    assert '<progress max="200" value="120"></progress> 120 of 200' in first["data"]["text/html"]
    assert {output["type"] for output in [*later, last]} == {"update_display_data"}
    assert (last["data"], printed["text"].strip().splitlines()[-1]) == ({}, "threads []")


def test_a_program_that_runs_a_notebook_sees_no_bar(kernel: BlockingKernelClient) -> None:
    """Nor is a thread started for one: nbval compares what a cell shows, and nobody there can be asked for input."""
    [printed] = run(kernel, NOBODY, asked=False)
    assert printed["text"] == "threads []\n"


def test_a_short_wait_shows_none(kernel: BlockingKernelClient) -> None:
    """What is over at once leaves nothing, though somebody looks on."""
    code = "from reference.lab.progress import progress\nwith progress('written'): pass\nprint(input())"
    [printed] = run(kernel, code, asked=True, until=lambda _: True)
    assert printed["text"] == "yes\n"


def test_a_bar_comes_and_goes_in_a_terminal() -> None:
    """One line, that is blank again before the next is printed."""
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    child = subprocess.Popen([sys.executable, "-c", ASKS], stdin=inside, stdout=inside, stderr=inside, start_new_session=True)
    try:
        said = read(terminal, until="120 of 200")
        os.write(terminal, b"yes\n")
        said += read(terminal, until="threads []")
    finally:
        child.kill()
        child.wait()
        os.close(inside)
        os.close(terminal)
    assert said.rpartition("threads []")[0].rpartition("\n")[2].strip() == ""


def read(terminal: int, *, until: str) -> str:
    said, deadline = "", time.monotonic() + PATIENCE_S
    while until not in said:
        assert time.monotonic() < deadline, said
        said += os.read(terminal, 4096).decode(errors="replace")
    return said


def test_a_pipe_sees_no_bar() -> None:
    """Nothing on stderr, and nothing on stdout but what was printed."""
    done = subprocess.run([sys.executable, "-c", NOBODY], capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    assert (done.stdout, done.stderr) == ("threads []\n", "")


def test_a_wait_within_a_wait_shows_no_bar_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """One bar at a time, and after an exception none, and the next wait has its own again."""
    monkeypatch.setattr("reference.lab.progress._somebody_looks_on", lambda: True)

    def bars() -> int:
        return sum(thread.name == "progress" for thread in threading.enumerate())

    def fail() -> None:
        with progress("outer"):
            with progress("inner"):
                assert bars() == 1
            raise KeyError("the block's own")

    with pytest.raises(KeyError):
        fail()
    assert bars() == 0
    with progress("next"):
        assert bars() == 1


def test_what_is_left_is_counted_from_the_most_there_was() -> None:
    """Of each thing that is waited for on its own."""
    told = Progress("published")
    for left, what in ((3, "published"), (5, "published"), (1, "published"), (4, "acked"), (0, "acked")):
        told.left(left, what)
        if left == 1:
            assert told.state == ("published", 4, 5)
    assert told.state == ("acked", 4, 4)
