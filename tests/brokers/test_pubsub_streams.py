"""Many topics in one process: the service lets a connection have 100 streams at a time, and the emulator as many as it likes.

So these tests put a front before the emulator that keeps a limit, as Google's does.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from reference.brokers import Delivery, Message
from reference.brokers.pubsub import PubSubBroker, channels
from reference.brokers.pubsub.address import PubSubAddress
from reference.stack import Endpoints

NewTopic = Callable[..., str]
Receive = Callable[..., list[Delivery]]
SERVICE_LIMIT = 100
LIMIT = 4
TOPICS = 10


class Front(grpc.GenericRpcHandler):
    """Hands everything to the emulator, ``limit`` streams and requests a connection at a time, and remembers who asked."""

    def __init__(self, emulator: str, *, limit: int) -> None:
        self.requests, self.streams, self.most = Counter[str](), Counter[str](), Counter[str]()
        self._counting = threading.Lock()
        self._behind = grpc.insecure_channel(emulator)
        self._pool = ThreadPoolExecutor(100)
        self._server = grpc.server(self._pool, handlers=[self], options=[("grpc.max_concurrent_streams", limit)])
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method
        if method.endswith("/StreamingPull"):
            return grpc.stream_stream_rpc_method_handler(lambda sent, context: self._stream(method, sent, context))
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self._request(method, request, context))

    def _stream(self, method: str, sent: Iterator[bytes], context: Any) -> Iterator[bytes]:
        peer = context.peer()
        with self._counting:
            self.streams[peer] += 1
            self.most[peer] = max(self.most[peer], self.streams[peer])
        try:
            call = self._behind.stream_stream(method)(sent)
            context.add_callback(call.cancel)
            yield from call
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
        finally:
            with self._counting:
                self.streams[peer] -= 1

    def _request(self, method: str, request: bytes, context: Any) -> Any:
        with self._counting:
            self.requests[context.peer()] += 1
        try:
            return self._behind.unary_unary(method)(request, timeout=30)
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())

    def close(self) -> None:
        self._server.stop(0).wait()
        self._behind.close()
        self._pool.shutdown()


@pytest.fixture
def front(stack: Endpoints) -> Iterator[Front]:
    """Before the emulator of this session."""
    front = Front(PubSubAddress.parse(stack.pubsub).emulator or "", limit=LIMIT)
    yield front
    front.close()


@pytest.fixture
def broker(front: Front, monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSubBroker]:
    """It leaves as much room below this limit as it would below the service's."""
    monkeypatch.setattr(channels, "STREAMS", LIMIT - 1)
    with PubSubBroker(f"pubsub://lab-project@127.0.0.1:{front.port}", timeout_s=30) as broker:
        yield broker


def test_more_topics_than_a_connection_has_streams(
    broker: PubSubBroker, front: Front, new_topic: NewTopic, receive: Receive
) -> None:
    """All of them bring what was published, it can be published meanwhile, and the acks arrive: nothing comes again."""
    topics = [new_topic(groups=()) for _ in range(TOPICS)]
    member = broker.subscribe(topics, group="billing")
    broker.publish([Message(topic, "k", b"1", []) for topic in topics])
    assert sorted(delivery.topic for delivery in receive(member, TOPICS)) == sorted(topics)
    member.close()
    again = broker.subscribe(topics, group="billing")
    broker.publish([Message(topic, "k", b"2", []) for topic in topics])
    assert {delivery.value for delivery in receive(again, TOPICS)} == {b"2"}
    assert (max(front.most.values()), set(front.most) & set(front.requests)) == (LIMIT - 1, set())


def test_brokers_of_a_process_do_not_share_a_connection(broker: PubSubBroker, front: Front, new_topic: NewTopic) -> None:
    """What one is waiting for is not in the other's way."""
    with PubSubBroker(broker.url, timeout_s=30) as other:
        topic = new_topic()
        other.publish([Message(topic, "k", b"1", [])])
    assert len(front.requests) == 2


def test_the_service_has_room_for_the_streams_of_a_connection() -> None:
    """With some to spare for those that ended here and are still counted there."""
    assert SERVICE_LIMIT * 0.8 < channels.STREAMS < SERVICE_LIMIT
