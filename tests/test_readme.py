"""README's code is run, not believed."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reference.brokers import connect
from reference.delivery import outbox
from reference.delivery.relay import Relay
from reference.evidence.checker import Verdict
from reference.stack import Endpoints

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


@pytest.mark.parametrize("broker_name", ["kafka", "rabbitmq", "pubsub"])
def test_the_ten_lines_work(stack: Endpoints, postgres: str, eventually: Callable[..., None], broker_name: str) -> None:
    """What README says carries an account's change through the outbox into a statement, once; and is judged as it says."""
    write, consume, judge = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(outbox.schema())
        conn.execute("CREATE TABLE accounts (id text PRIMARY KEY, balance int); INSERT INTO accounts VALUES ('a-1', 100)")
        conn.execute("CREATE TABLE statements (account text, amount int)")
        exec(write, {"dsn": postgres})  # noqa: S102 - our own README
        url = getattr(stack, broker_name)
        with connect(url) as broker, Relay(postgres, broker) as relay:
            broker.create_topic("outbox.event.accounts")
            broker.subscribe(["outbox.event.accounts"], group="statements").close()
            relay.run_once()
        names = {"dsn": postgres, "broker_url": url, "stop": threading.Event()}
        with running(consume, names):
            eventually(lambda: conn.execute("SELECT * FROM statements").fetchall() == [("a-1", 10)])
        exec(write, {"dsn": postgres})  # noqa: S102
        names["stop"] = threading.Event()
        with running(judge, names):
            eventually(lambda: conn.execute("SELECT * FROM statements").fetchall() == 2 * [("a-1", 10)])
    verdict: Verdict = names["verdict"]
    assert (verdict.clean, verdict.acknowledged, verdict.applied) == (True, 1, 1), verdict


@contextmanager
def running(code: str, names: dict[str, Any]) -> Iterator[None]:
    """The code runs in a thread, until the block ends and its ``stop`` is set."""
    thread = threading.Thread(target=exec, args=(code, names))
    thread.start()
    try:
        yield
    finally:
        names["stop"].set()
        thread.join()


def test_what_is_generated_has_not_drifted() -> None:
    """What README and docs tell of the code is the code's own; `make docs` writes it."""
    said = subprocess.run([sys.executable, ROOT / "docs" / "build.py", "--check"], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")
