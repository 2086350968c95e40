"""The way to Pub/Sub: one channel, made when it is first needed, and what its errors mean.

The generated clients of google-cloud-pubsub are used. Its high-level subscriber hands out one message of a key at a time
and, after a nack, the next one before the failed one is back: neither a batch per key nor order after a nack can be
promised on top of it. Its high-level publisher makes a batch, and a request, per key.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import google.auth
import grpc
from google.api_core import exceptions as errors
from google.api_core.retry import Retry, if_exception_type
from google.auth.exceptions import GoogleAuthError
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from reference.brokers.protocol import BrokerUnavailable
from reference.brokers.pubsub.address import PubSubAddress

__all__ = ["CLOSED", "FORBIDDEN", "PASSING", "PubSubConnection"]

ENDPOINT: Final = "pubsub.googleapis.com:443"
OPTIONS: Final = [
    ("grpc.max_send_message_length", -1),  # ours are bounded by the service's 10 MB
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),  # a peer that vanished without a word is noticed
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1_000),  # gRPC's own two minutes would outlast every restart
]
PASSING: Final = (
    errors.ServiceUnavailable, errors.DeadlineExceeded, errors.Aborted, errors.InternalServerError,
    errors.ResourceExhausted, errors.Unknown, errors.Cancelled, errors.RetryError,
)  # fmt: skip
FORBIDDEN: Final = (errors.PermissionDenied, errors.Unauthenticated)
CLOSED: Final = (ValueError, RuntimeError)  # what a request says of a channel, and what we say, after the broker was closed


class PubSubConnection:
    """Publisher and subscriber client over one channel. Each of its errors names the address.

    Once closed it is not opened again: whoever asks for a client gets :class:`RuntimeError`.
    """

    def __init__(self, address: PubSubAddress, *, timeout_s: float) -> None:
        self.address, self.timeout_s = address, timeout_s
        self._lock = threading.Lock()
        self._channel: Any = None
        self._clients: tuple[PublisherClient, SubscriberClient] | None = None
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
                raise self._is_closed() from error
            raise

    def topic(self, name: str) -> str:
        return f"projects/{self.address.project}/topics/{name}"

    def subscription(self, topic: str, group: str) -> str:
        return f"projects/{self.address.project}/subscriptions/{topic}.{group}"

    def close(self) -> None:
        with self._lock:
            if self._channel is not None:
                self._channel.close()
            self._channel = self._clients = None
            self._closed = True

    def _connected(self) -> tuple[PublisherClient, SubscriberClient]:
        with self._lock:
            if self._closed:
                raise self._is_closed()
            if self._clients is None:
                self._channel = self._open()
                self._clients = (
                    PublisherClient(transport=PublisherGrpcTransport(channel=self._channel)),
                    SubscriberClient(transport=SubscriberGrpcTransport(channel=self._channel)),
                )
            return self._clients

    def _is_closed(self) -> RuntimeError:
        return RuntimeError(f"this broker at {self.url} is closed: connect again")

    def _open(self) -> Any:
        # An emulator has no secrets and no TLS; that is all in which the two ways differ.
        if self.address.emulator is not None:
            return grpc.insecure_channel(self.address.emulator, options=OPTIONS)
        credentials, _ = google.auth.default(scopes=PublisherGrpcTransport.AUTH_SCOPES)
        return PublisherGrpcTransport.create_channel(ENDPOINT, credentials=credentials, options=OPTIONS)


def _why(error: Exception) -> str:
    cause = error.cause if isinstance(error, errors.RetryError) and error.cause is not None else error
    return str(getattr(cause, "message", cause))
