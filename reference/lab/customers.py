"""The shop's customers: they place orders and go on changing them, whatever crashes under their hands.

A way to write enters, as in :mod:`reference.orders.writing`; what was committed is then in database and history.
Killed at any line: as that way of writing has it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import psycopg

from reference.evidence.faults import Crash
from reference.lab.experiment import Experiment
from reference.lab.progress import progress
from reference.lab.waiting import wait_until
from reference.orders import shop
from reference.orders.writing import Change, Publish

__all__ = ["Customers", "Way"]

Way = Callable[[psycopg.Connection[Any], Change, Publish, Callable[[], None]], None]


class Customers:
    """``conn`` is asked for each time: Postgres may have been restarted, and every connection with it."""

    def __init__(self, conn: Callable[[], psycopg.Connection[Any]], experiment: Experiment) -> None:
        self._conn, self._experiment = conn, experiment

    def write(self, way: Way, *, orders: int, changes: int, fault: Callable[[], None]) -> None:
        """Each of ``orders`` orders gets ``changes`` events; a crash ends one change, and so does a Postgres that is taken away.

        The next change waits until it answers. Raises :class:`TimeoutError`.
        """
        with progress("written", total=orders * changes) as told:
            for n in range(orders * changes):
                try:
                    self._change(way, f"order-{n % orders + 1:02}", n // orders + 1, fault)
                except psycopg.OperationalError:  # Postgres is gone: what of this change was committed, the journal reads later
                    wait_until(self._postgres_answers, "Postgres to answer: lab.faults.restart('postgres')")
                told.to(n + 1)

    def _change(self, way: Way, order_id: str, quantity: int, fault: Callable[[], None]) -> None:
        change: Change = partial(shop.amend, order_id=order_id, quantity=quantity)
        if self._conn().execute("SELECT FROM orders WHERE id = %s", (order_id,)).fetchone() is None:
            change = partial(shop.place, order_id=order_id)
        began = time.monotonic()
        with suppress(Crash):  # the program is gone; what comes next starts from what database and broker hold
            way(self._conn(), change, self._experiment.publish, fault)
        self._experiment.journal.read(at=began)

    def _postgres_answers(self) -> bool:
        try:
            self._conn().execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True
