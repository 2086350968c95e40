"""README's code is run, not believed."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from reference.brokers import connect
from reference.delivery import outbox
from reference.delivery.relay import Relay
from reference.stack import Endpoints

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


@pytest.mark.parametrize("broker_name", ["kafka", "rabbitmq", "pubsub"])
def test_the_ten_lines_work(stack: Endpoints, postgres: str, eventually: Callable[..., None], broker_name: str) -> None:
    """What README says a service must write carries an account's change through the outbox into a statement, once."""
    write, consume = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
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
        stop = threading.Event()
        names = {"dsn": postgres, "broker_url": url, "stop": stop}
        thread = threading.Thread(target=exec, args=(consume, names))
        thread.start()
        try:
            eventually(lambda: conn.execute("SELECT * FROM statements").fetchall() == [("a-1", 10)])
        finally:
            stop.set()
            thread.join()


def test_what_is_generated_has_not_drifted() -> None:
    """The table of brokers and promises is the code's own; `make docs` writes it."""
    said = subprocess.run([sys.executable, ROOT / "docs" / "build.py", "--check"], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")
