"""Reading a subscription: a stream that is opened again whenever it breaks, until it is stopped or has no end to reach.

Killed at any line: what was sent and not acked is sent again when its lease has run out.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from google.api_core import exceptions as errors
from google.pubsub_v1 import types

from reference.brokers.protocol import BrokerUnavailable, UnknownGroup, UnknownTopic
from reference.brokers.pubsub.connection import CLOSED, PubSubConnection
from reference.brokers.pubsub.topology import LEASE_S

__all__ = ["END_S", "PubSubStream"]

WINDOW_BYTES: Final = 100_000_000
OPEN_AGAIN_S: Final = 0.2
END_S: Final = 2.0
EMULATED_S: Final = 15.0  # the emulator never notices that a member died; it goes on sending until a stream's own deadline

log = logging.getLogger(__name__)


class PubSubStream:
    """One thread that hands what arrives to ``arrived``.

    ``look`` raises when the subscription can bring nothing more; it is asked before a broken stream is opened again.
    ``trouble`` is what is wrong at the moment, and since when: a stream that breaks as soon as it was opened ends none.
    """

    def __init__(
        self,
        connection: PubSubConnection,
        subscription: str,
        *,
        window: int,
        arrived: Callable[[Sequence[Any]], None],
        look: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self._connection, self._subscription, self._window = connection, subscription, window
        self._arrived, self._look, self._changed = arrived, look, changed
        self._member = str(uuid.uuid4())  # the same on every stream: keys stay with a member that comes back
        self._ending = threading.Event()
        self._call: Any = None
        self.trouble: tuple[float, Exception] | None = None
        self._broken_since: float | None = None  # since when none has stood for some seconds
        self.opened = 0  # times
        self._thread = threading.Thread(target=self._run, name=f"pubsub-stream {subscription}", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> Exception | None:
        """Why nothing more will come, if so."""
        trouble = self.trouble
        return trouble[1] if trouble and isinstance(trouble[1], UnknownTopic | UnknownGroup) else None

    def stop(self) -> None:
        """Ask the service to end the stream: it sends what it had leased to us, and no more."""
        self._ending.set()

    def join(self, *, cut_at: float, by: float) -> None:
        """Wait for the end until ``by``; cut the stream if there is none at ``cut_at``. Both on the monotonic clock."""
        self._thread.join(max(0.0, cut_at - time.monotonic()))
        if self._thread.is_alive() and self._call is not None:
            self._call.cancel()
        self._thread.join(max(0.0, by - time.monotonic()))

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                if self.trouble is not None:
                    self._look()
                    self.trouble = None
                self._read()
            except (UnknownTopic, UnknownGroup) as error:
                self._in_trouble(error)
                return
            except (errors.GoogleAPICallError, BrokerUnavailable, *CLOSED) as error:
                self._in_trouble(error)
            except Exception as error:  # a thread that ended in silence would leave a member that waits for ever
                if self._broken_since is None:  # told once, and then by whoever receives
                    log.warning("the stream of %s is opened anew after an error of its own: %r", self._subscription, error)
                self._in_trouble(error)
            if self.trouble is not None:
                self._ending.wait(OPEN_AGAIN_S)

    def _read(self) -> None:
        over = threading.Event()
        lives_s = EMULATED_S if self._connection.address.emulator else None
        requests = self._requests(over, lives_s)
        deadline_s = lives_s + END_S if lives_s else None
        began = time.monotonic()
        with self._connection.streaming() as client:
            try:
                self.opened += 1
                self._call = client.streaming_pull(requests, retry=None, timeout=deadline_s)
                for response in self._call:
                    self._arrived(types.StreamingPullResponse.pb(response).received_messages)
            finally:
                over.set()
                if time.monotonic() - began >= END_S:
                    self._broken_since = None

    def _requests(self, over: threading.Event, lives_s: float | None) -> Iterator[types.StreamingPullRequest]:
        """The only request; the stream is ours until this iterator ends."""
        yield types.StreamingPullRequest(
            subscription=self._subscription,
            stream_ack_deadline_seconds=LEASE_S,
            max_outstanding_messages=self._window,
            max_outstanding_bytes=WINDOW_BYTES,
            client_id=self._member,
        )
        opened_at = time.monotonic()
        while not over.wait(0.05) and not self._ending.is_set():
            if lives_s and time.monotonic() - opened_at > lives_s:
                return

    def _in_trouble(self, error: Exception) -> None:
        self._broken_since = self._broken_since or time.monotonic()
        self.trouble = (self._broken_since, error)
        self._changed()
