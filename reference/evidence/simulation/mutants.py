"""The relay and the consumer with one line broken: what the simulation must notice, or its silence means nothing.

Each mutant names a function, a passage of its source and what stands there instead. A passage that the source no longer has
is an error, so that a mutant cannot quietly become the healthy thing.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Final

from reference.delivery import inbox, session, table
from reference.delivery.consumer import Consumer
from reference.delivery.held import HeldKeys
from reference.delivery.round import Round
from reference.delivery.table import Table

__all__ = ["MUTANTS", "Mutant", "broken"]


@dataclass(frozen=True, slots=True)
class Mutant:
    """``function`` with ``passage`` replaced by ``instead``; ``wrong`` says what that does to events."""

    name: str
    function: Any
    passage: str
    instead: str
    wrong: str


@contextmanager
def broken(mutant: Mutant) -> Iterator[None]:
    """For as long as it lasts, in all of this process. Raises :class:`LookupError` when the passage is not there just once."""
    function = inspect.unwrap(mutant.function)
    assert isinstance(function, FunctionType)
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(mutant.passage) != 1:
        raise LookupError(f"mutant {mutant.name!r}: {function.__qualname__} does not hold this passage once: {mutant.passage}")
    made: dict[str, Any] = {}
    exec("from __future__ import annotations\n" + source.replace(mutant.passage, mutant.instead), function.__globals__, made)  # noqa: S102
    healthy, function.__code__ = function.__code__, inspect.unwrap(made[function.__name__]).__code__
    try:
        yield
    finally:
        function.__code__ = healthy


MUTANTS: Final[dict[str, Mutant]] = {
    mutant.name: mutant
    for mutant in (
        Mutant("deletes outside the snapshot", Table.mark, "session.import_snapshot(self._marker, snapshot)", "pass", "loses"),
        Mutant(
            "reads and deletes in different snapshots", session._connect,
            "conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ", "pass", "loses",
        ),
        Mutant(
            "does not wait for the broker", Round._publish, "self._broker.publish(Page(self._envelope, going))",
            "self._marking.submit(self._broker.publish, Page(self._envelope, going))", "loses",
        ),
        Mutant(
            "does not hold the key of a refused row", Round._publish, "self.held.hold(going[index], reason)", "pass", "loses",
        ),
        Mutant("lets later rows pass a held one", Round._going, "if held and row in held:", "if False:", "reorders"),
        Mutant(
            "deletes held rows with the others", table._delete, "*carried.held, carried.gone_before", "[], [], []", "loses",
        ),
        Mutant("holds a key from a later row on", HeldKeys.__contains__, ">= held.position", "> held.position", "loses"),
        Mutant(
            "remembers its last position", Round._pages, 'rows, snapshot = self._read(buckets, 0, self.held.parameters), ""',
            'rows, snapshot = self._read(buckets, getattr(self, "last", 0), self.held.parameters), "";'
            ' self.last = rows[-1][0] if rows else getattr(self, "last", 0)', "loses",
        ),
        Mutant("acks before it applies", Consumer._one, "if self._ack_first:", "if True:", "does not apply"),
        Mutant("applies without a transaction", Consumer._apply, "with conn.transaction():", "if True:", "does not apply"),
        Mutant("takes every delivery for the first", inbox.claim, "return cursor.rowcount == 1", "return True", "applies twice"),
        Mutant("goes on in a partition that stands", Consumer.run_once, "standing.add(at)", "pass", "applies out of order"),
    )
}  # fmt: skip
