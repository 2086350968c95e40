"""The stack of a test session, for tests and for notebooks alike.

One private stack a test process, started when the first test or notebook needs it. It is tied to this process, so that not
even ``kill -9`` leaves anything running. ``EDA_TEST_STACK=env`` uses the services that
the environment names instead (``EDA_KAFKA_URL``, ``EDA_RABBITMQ_URL``, ``EDA_PUBSUB_URL``, ``EDA_POSTGRES_DSN``).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from reference.stack import Endpoints, StackError, endpoints, erase, private_stack
from reference.stack.catalog import SERVICES

VARIABLES = ("EDA_HOME", "EDA_PORTS", "EDA_BACKEND", *(service.variable for service in SERVICES.values()))


class SessionStack:
    """The session's stack: started by the first :meth:`open`, stopped by :meth:`close`."""

    def __init__(self) -> None:
        self._outside = os.environ.get("EDA_TEST_STACK") == "env"
        self._before = {name: os.environ.get(name) for name in VARIABLES}
        self._running: Endpoints | None = None
        self._failure: StackError | None = None
        self._private = ExitStack()
        self.home: Path | None = None  # where it is; nowhere of ours when the environment names it
        self._elsewhere = Path(tempfile.mkdtemp(prefix="eda-test-"))
        if not self._outside:
            for name in VARIABLES:
                os.environ.pop(name, None)
            # A test that starts something without saying where does it here, never in the user's own stack.
            os.environ |= {"EDA_HOME": str(self._elsewhere), "EDA_PORTS": "free", "EDA_BACKEND": "native"}

    def open(self) -> Endpoints:
        """Start it if need be, and put its addresses into the environment, where notebook kernels find them."""
        if self._failure is not None:  # one attempt, one answer: not a minute of waiting in every test
            raise self._failure
        if self._running is None:
            try:
                self._running = endpoints(*SERVICES) if self._outside else self._start()
            except StackError as error:
                self._failure = error
                raise
            os.environ |= {**self._running.as_env(), "EDA_BACKEND": "env"}
        return self._running

    def _start(self) -> Endpoints:
        private = self._private.enter_context(private_stack())
        self.home = private.home
        return private.endpoints

    def close(self) -> None:
        for name in VARIABLES:
            os.environ.pop(name, None)
        try:
            self._private.close()
            if not self._outside:
                os.environ["EDA_BACKEND"] = "native"
                erase(home=self._elsewhere)
        finally:
            os.environ.pop("EDA_BACKEND", None)
            os.environ |= {name: value for name, value in self._before.items() if value is not None}
            shutil.rmtree(self._elsewhere, ignore_errors=True)


SESSION = pytest.StashKey[SessionStack]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SESSION] = SessionStack()


def pytest_unconfigure(config: pytest.Config) -> None:
    if SESSION in config.stash:
        config.stash[SESSION].close()


class Dealer(LoadScopeScheduling):
    """Deals tests out to processes one by one, but a notebook, or a module that starts something once, as a whole."""

    WHOLE = (
        ".ipynb", "labs/test_notebooks.py", "delivery/test_cdc.py", "delivery/test_idempotency.py", "stack/test_binder.py",
        "stack/test_rabbitmq.py", "stack/test_outages.py", "evidence/test_service_faults.py",
        "lab/test_faults.py", "browser/test_labs.py", "browser/test_voila.py", "live/test_board_in_browser.py",
    )  # fmt: skip

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return path if path.endswith(self.WHOLE) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Dealer:
    return Dealer(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before pytest starts a notebook's kernel, which inherits the environment: have the stack there."""
    if type(item).__name__ == "IPyNbCell":
        item.config.stash[SESSION].open()


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Endpoints:
    """The addresses of the services, all real, that belong to this test session."""
    return request.config.stash[SESSION].open()


@pytest.fixture(scope="session")
def stack_home(request: pytest.FixtureRequest) -> Path | None:
    """The home of that stack, for tests that break it; ``None`` where it belongs to somebody else."""
    request.getfixturevalue("stack")
    return request.config.stash[SESSION].home
