"""Connections to Pub/Sub: one for requests, and as many as it takes for the streams, so that neither is in the other's way.

A member keeps a stream open for each of its topics. The service lets a connection have 100 streams and requests at a time;
what is over that waits without a word until another ends, and a stream does not end. Nothing is kept: what breaks is opened
again by whoever used it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import google.auth
import grpc
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from reference.brokers.pubsub.address import PubSubAddress

__all__ = ["STREAMS", "PubSubChannels", "StreamChannel"]

ENDPOINT: Final = "pubsub.googleapis.com:443"
STREAMS: Final = 90  # a connection; the service's 100 may still count some that have ended here
OPTIONS: Final = [
    ("grpc.use_local_subchannel_pool", 1),  # or all channels of a process to one address would be one connection
    ("grpc.max_send_message_length", -1),  # ours are bounded by the service's 10 MB
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),  # a peer that vanished without a word is noticed
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1_000),  # gRPC's own two minutes would outlast every restart
]


@dataclass(slots=True)
class StreamChannel:
    """A connection for streams alone, and how many it has now."""

    client: SubscriberClient
    streams: int = 0


class PubSubChannels:
    """Opened when needed, and kept until all are closed. Not thread-safe: the caller locks."""

    def __init__(self, address: PubSubAddress) -> None:
        self._address = address
        self._credentials: Any = None
        self._open: list[Any] = []
        self._clients: tuple[PublisherClient, SubscriberClient] | None = None
        self._for_streams: list[StreamChannel] = []

    def for_requests(self) -> tuple[PublisherClient, SubscriberClient]:
        """Both clients over the connection that no stream is on."""
        if self._clients is None:
            channel = self._opened()
            self._clients = (
                PublisherClient(transport=PublisherGrpcTransport(channel=channel)),
                SubscriberClient(transport=SubscriberGrpcTransport(channel=channel)),
            )
        return self._clients

    def for_a_stream(self) -> StreamChannel:
        """One with room for it; the caller counts it in, and out when it has ended."""
        for one in self._for_streams:
            if one.streams < STREAMS:
                return one
        transport = SubscriberGrpcTransport(channel=self._opened())
        # Google's wrapper would keep a stream to itself until it brings something: until then nobody could cut it.
        transport.streaming_pull._prefetch_first_result_ = False  # type: ignore[attr-defined]
        self._for_streams.append(StreamChannel(SubscriberClient(transport=transport)))
        return self._for_streams[-1]

    def close(self) -> None:
        for channel in self._open:
            channel.close()
        self._open.clear()
        self._for_streams.clear()
        self._clients = None

    def _opened(self) -> Any:
        # An emulator has no secrets and no TLS; that is all in which the two ways differ.
        if self._address.emulator is not None:
            channel = grpc.insecure_channel(self._address.emulator, options=OPTIONS)
        else:
            if self._credentials is None:
                self._credentials, _ = google.auth.default(scopes=PublisherGrpcTransport.AUTH_SCOPES)
            channel = PublisherGrpcTransport.create_channel(ENDPOINT, credentials=self._credentials, options=OPTIONS)
        self._open.append(channel)
        return channel
