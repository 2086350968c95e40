"""``once``: run an effect under an idempotency key, or return what it returned before.

What enters is a store, a key and a function; what leaves is a text. Killed at any line: before ``finish`` the key is free
again when its lease is over and the effect runs again; after it, the effect never does.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from reference.delivery.idempotency.protocol import Begun, Busy, Done, IdempotencyStore

__all__ = ["LEASE", "InProgress", "once"]

LEASE: Final = timedelta(seconds=30)

log = structlog.get_logger(__name__)


class InProgress(Exception):
    """Another is at it, at the latest until ``until``. Raised out of a handler it lets the delivery come again."""

    def __init__(self, key: str, until: datetime) -> None:
        super().__init__(f"idempotency key {key!r} is in progress elsewhere, until {until:%H:%M:%S.%f}")
        self.key, self.until = key, until


def once(store: IdempotencyStore, key: str, effect: Callable[[], str], *, lease: timedelta = LEASE) -> str:
    """The result of ``effect``: its own if it runs here and now, the stored one if it was done before.

    ``lease`` must be longer than the effect ever takes, and the effect safe to run again: see
    :mod:`reference.delivery.idempotency.protocol`. An effect that raises frees the key at once. Raises
    :class:`InProgress` while another runs it, and :class:`~reference.delivery.idempotency.protocol.LeaseLost` when it
    outlived its lease and another took over.
    """
    owner = str(uuid.uuid4())
    match store.begin(key, owner, lease=lease):
        case Done(result):
            return result
        case Busy(until):
            raise InProgress(key, until)
        case Begun():
            result = _run(store, key, owner, effect)
            store.finish(key, owner, result=result)
            return result


def _run(store: IdempotencyStore, key: str, owner: str, effect: Callable[[], str]) -> str:
    try:
        return effect()
    except BaseException:
        try:
            store.abandon(key, owner)
        except Exception as error:  # the effect's own failure is the news; the lease frees the key as well, only later
            log.warning("idempotency.not_abandoned", key=key, reason=f"{type(error).__name__}: {error}")
        raise
