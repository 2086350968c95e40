"""What an adapter costs: publishing and consuming through it, as a ratio to its bare client on the same broker.

The bare clients are written as their own documentation has it: pika's asynchronous connection with a window of confirms,
and ``google-cloud-pubsub`` with ordering keys and its default batching. Both publish the same messages, with the same
headers; both consume with an ack for every message. Contestants take turns, ``runs`` times; medians are compared.

pika takes part twice: over the adapter's own exchanges, which is what the adapter itself costs, and straight to one queue,
which shows what routing by key and to several groups costs the broker.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, Final

from reference.brokers import Broker, Message, connect
from reference.event import Event

__all__ = ["compare"]

KEYS: Final = 50
PAGE: Final = 5_000  # as a relay publishes
WINDOW: Final = 500
PREFETCH: Final = 200
PATIENCE_S: Final = 300.0

Step = Callable[[], None]
Sample = list[tuple[str, bytes, list[tuple[str, str]]]]  # key, body, headers


def compare(url: str, *, messages: int = 10_000, runs: int = 5) -> dict[str, Any]:
    """Messages a second of adapter and bare client, publishing and consuming (medians), and the two ratios.

    Raises :class:`ValueError` for a broker whose bare client is not known here.
    """
    scheme = url.partition("://")[0]
    if scheme not in BARE:
        raise ValueError(f"no bare client for {scheme}://: there are {', '.join(BARE)}")
    rates: dict[str, list[float]] = defaultdict(list)
    bare = BARE[scheme](url)
    with connect(url, timeout_s=30) as broker:
        for _ in range(runs):
            for name, contestant in {**bare, "adapter": _adapter}.items():
                publish, consume = contestant(broker, _messages(messages))
                rates[f"{name} publish"].append(messages / _seconds(publish))
                rates[f"{name} consume"].append(messages / _seconds(consume))
        where = broker.url
    figures = {name: round(median(values)) for name, values in rates.items()}
    ratios = {
        f"{step} ÷ {name}": round(figures[f"adapter {step}"] / figures[f"{name} {step}"], 2)
        for name in bare
        for step in ("publish", "consume")
    }
    return {"broker": where, "messages": messages, "runs": runs, "messages_per_s": figures, **ratios}


def _messages(count: int) -> Sample:
    events = (Event(type="OrderAmended", source="/orders", subject=f"order-{n % KEYS}", data={"n": n}) for n in range(count))
    return [(event.key, event.to_value(), event.to_headers()) for event in events]


def _seconds(step: Step) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


Contestant = Callable[[Broker, Sample], tuple[Step, Step]]


def _topic(broker: Broker) -> str:
    topic = f"bench-{uuid.uuid4().hex[:12]}"
    broker.create_topic(topic, partitions=1)
    broker.subscribe([topic], group=topic).close()
    return topic


def _adapter(broker: Broker, messages: Sample) -> tuple[Step, Step]:
    topic = _topic(broker)

    def publish() -> None:
        for start in range(0, len(messages), PAGE):
            broker.publish([Message(topic, key, value, headers) for key, value, headers in messages[start : start + PAGE]])

    def consume() -> None:
        subscription, left = broker.subscribe([topic], group=topic), len(messages)
        while left:
            for delivery in subscription.receive(PREFETCH, PATIENCE_S):
                subscription.ack(delivery)
                left -= 1
        subscription.close()

    return publish, consume


def _pika(url: str) -> dict[str, Contestant]:
    import pika

    from reference.brokers.rabbitmq.topology import lane_queue

    parameters = pika.URLParameters(url.partition("?")[0])

    def routed(broker: Broker, messages: Sample) -> tuple[Step, Step]:
        topic = _topic(broker)
        queue = lane_queue(topic, 0, topic)
        return partial(_pika_publish, parameters, topic, "", messages), partial(_pika_consume, parameters, queue, len(messages))

    def straight(_: Broker, messages: Sample) -> tuple[Step, Step]:
        queue = f"bench-{uuid.uuid4().hex[:12]}"
        with pika.BlockingConnection(parameters) as connection:
            connection.channel().queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
        return partial(_pika_publish, parameters, "", queue, messages), partial(_pika_consume, parameters, queue, len(messages))

    return {"bare": routed, "bare straight to a queue": straight}


def _pika_publish(parameters: Any, exchange: str, queue: str, messages: Sample) -> None:
    import pika

    sent = confirmed = 0

    def pump(channel: Any) -> None:
        nonlocal sent
        while sent < len(messages) and sent - confirmed < WINDOW:
            key, value, headers = messages[sent]
            properties = pika.BasicProperties(delivery_mode=2, headers=dict(headers))
            channel.basic_publish(exchange, queue or key, value, properties, mandatory=True)
            sent += 1

    def on_confirm(frame: Any, channel: Any) -> None:
        nonlocal confirmed
        confirmed = max(confirmed, frame.method.delivery_tag)
        if confirmed == len(messages):
            connection.close()
        else:
            pump(channel)

    def on_channel(channel: Any) -> None:
        channel.confirm_delivery(lambda frame: on_confirm(frame, channel), callback=lambda _: pump(channel))

    connection = pika.SelectConnection(
        parameters,
        on_open_callback=lambda opened: opened.channel(on_open_callback=on_channel),
        on_close_callback=lambda closed, _: closed.ioloop.stop(),
    )
    connection.ioloop.start()


def _pika_consume(parameters: Any, queue: str, count: int) -> None:
    import pika

    left = count
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=PREFETCH)
        for method, _, _ in channel.consume(queue):
            channel.basic_ack(method.delivery_tag)
            left -= 1
            if not left:
                break
        channel.cancel()


def _google(url: str) -> dict[str, Contestant]:
    from google.cloud import pubsub_v1

    from reference.brokers.pubsub.address import PubSubAddress

    address = PubSubAddress.parse(url)
    if address.emulator:  # how these clients are told of one
        os.environ["PUBSUB_EMULATOR_HOST"] = address.emulator
    publisher = pubsub_v1.PublisherClient(publisher_options=pubsub_v1.types.PublisherOptions(enable_message_ordering=True))
    subscriber = pubsub_v1.SubscriberClient()

    def bare(_: Broker, messages: Sample) -> tuple[Step, Step]:
        name = f"bench-{uuid.uuid4().hex[:12]}"
        topic = publisher.topic_path(address.project, name)
        subscription = subscriber.subscription_path(address.project, name)
        publisher.create_topic(request={"name": topic})
        subscriber.create_subscription(request={"name": subscription, "topic": topic, "enable_message_ordering": True})

        def publish() -> None:
            futures = [publisher.publish(topic, value, ordering_key=key, **dict(headers)) for key, value, headers in messages]
            for future in futures:
                future.result(PATIENCE_S)

        def consume() -> None:
            left, lock, done = len(messages), threading.Lock(), threading.Event()

            def take(message: Any) -> None:
                nonlocal left
                message.ack()
                with lock:
                    left -= 1
                    if not left:
                        done.set()

            pull = subscriber.subscribe(subscription, take)
            done.wait(PATIENCE_S)
            pull.cancel()
            pull.result()

        return publish, consume

    return {"bare": bare}


BARE: Final[dict[str, Callable[[str], dict[str, Contestant]]]] = {"amqp": _pika, "pubsub": _google}
