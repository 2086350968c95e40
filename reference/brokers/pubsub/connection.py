"""The way to Pub/Sub: clients, made when they are first needed, and what their errors mean.

The generated clients of google-cloud-pubsub are used. Its high-level subscriber hands out one message of a key at a time
and, after a nack, the next one before the failed one is back: neither a batch per key nor order after a nack can be
promised on top of it. Its high-level publisher makes a batch, and a request, per key.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from google.api_core import exceptions as errors
from google.api_core.retry import Retry, if_exception_type
from google.auth.exceptions import GoogleAuthError
from google.pubsub_v1 import PublisherClient, SubscriberClient

from reference.brokers.protocol import BrokerUnavailable
from reference.brokers.pubsub.address import PubSubAddress
from reference.brokers.pubsub.channels import PubSubChannels

__all__ = ["CLOSED", "FORBIDDEN", "PASSING", "PubSubConnection"]

PASSING: Final = (
    errors.ServiceUnavailable, errors.DeadlineExceeded, errors.Aborted, errors.InternalServerError,
    errors.ResourceExhausted, errors.Unknown, errors.Cancelled, errors.RetryError,
)  # fmt: skip
FORBIDDEN: Final = (errors.PermissionDenied, errors.Unauthenticated)
CLOSED: Final = (ValueError, RuntimeError)  # what a request says of a channel, and what we say, after the broker was closed


class PubSubConnection:
    """Publisher and subscriber client for requests, and a client for each stream. Each of its errors names the address.

    Once closed it is not opened again: whoever asks for a client gets :class:`RuntimeError`.
    """

    def __init__(self, address: PubSubAddress, *, timeout_s: float) -> None:
        self.address, self.timeout_s = address, timeout_s
        self._lock = threading.Lock()
        self._channels = PubSubChannels(address)
        self._closed = False

    @property
    def url(self) -> str:
        return self.address.url

    @property
    def publisher(self) -> PublisherClient:
        return self._connected()[0]

    @property
    def subscriber(self) -> SubscriberClient:
        return self._connected()[1]

    @contextmanager
    def streaming(self) -> Iterator[SubscriberClient]:
        """A client for one stream, which is to end with the block: its connection has room for it until then."""
        with self._lock:
            self._check_open()
            channel = self._channels.for_a_stream()
            channel.streams += 1
        try:
            yield channel.client
        finally:
            with self._lock:
                channel.streams -= 1

    @property
    def patience(self) -> dict[str, Any]:
        """How a request is called: tried again while the trouble may pass, for ``timeout_s`` in all."""
        again = Retry(if_exception_type(*PASSING), initial=0.05, maximum=1.0, timeout=self.timeout_s)
        return {"retry": again, "timeout": self.timeout_s}

    @contextmanager
    def asking(self, what: str, *, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """Turn what the caller cannot mend into :class:`BrokerUnavailable`, ``but`` these; ``what`` was being asked for."""
        try:
            yield
        except but:
            raise
        except FORBIDDEN as error:
            raise BrokerUnavailable(
                f"{self.url} does not let us {what}: project {self.address.project!r}, {error.message}; check the project id and"
                " the roles of these credentials"
            ) from error
        except PASSING as error:
            raise BrokerUnavailable(f"{self.url} did not {what} within {self.timeout_s:g} s: {_why(error)}") from error
        except GoogleAuthError as error:
            raise BrokerUnavailable(
                f"{self.url}: no usable credentials ({error}); run gcloud auth application-default login, or set"
                " GOOGLE_APPLICATION_CREDENTIALS"
            ) from error
        except ValueError as error:
            if self._closed:  # gRPC's own word for a channel that was closed under a request
                raise self.is_closed() from error
            raise

    def topic(self, name: str) -> str:
        return f"projects/{self.address.project}/topics/{name}"

    def subscription(self, topic: str, group: str) -> str:
        return f"projects/{self.address.project}/subscriptions/{topic}.{group}"

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._channels.close()

    def _connected(self) -> tuple[PublisherClient, SubscriberClient]:
        with self._lock:
            self._check_open()
            return self._channels.for_requests()

    def _check_open(self) -> None:
        if self._closed:
            raise self.is_closed()

    def is_closed(self) -> RuntimeError:
        """The error to raise of a broker that was closed."""
        return RuntimeError(f"this broker at {self.url} is closed: connect again")


def _why(error: Exception) -> str:
    cause = error.cause if isinstance(error, errors.RetryError) and error.cause is not None else error
    return str(getattr(cause, "message", cause))
