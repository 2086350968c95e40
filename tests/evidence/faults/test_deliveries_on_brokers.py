from __future__ import annotations

import random
import time
import uuid

import pytest

from reference.brokers import Message, Subscription, connect
from reference.evidence import faults
from reference.stack import Endpoints

COUNT = 300


def broken(inner: Subscription, seed: int) -> Subscription:
    twice = faults.DeliverTwice(inner, every=10, seed=seed)
    late = faults.Delay(twice, up_to_s=0.3, share=0.1, seed=seed)
    return faults.Shuffle(late, window=20, seed=seed)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("service", ["kafka", "rabbitmq", "pubsub"])
def test_nothing_is_lost_between_a_broker_and_its_consumer(stack: Endpoints, service: str, seed: int) -> None:
    """Doubled, late and shuffled, one in ten nacked, acked ones too, while a second member comes and goes: all of it is done."""
    draw, done = random.Random(seed), set[int]()
    with connect(getattr(stack, service), timeout_s=30) as broker:
        broker.create_topic(topic := f"faults-{uuid.uuid4().hex[:8]}")
        members = [broken(broker.subscribe([topic], group=topic), seed)]
        broker.publish([Message(topic, f"k{n % 10}", f"{n}", []) for n in range(COUNT)])

        def work(wanted: int) -> None:
            deadline = time.monotonic() + 90
            while len(done) < wanted:
                assert time.monotonic() < deadline, f"missing: {sorted({*range(COUNT)} - done)}"
                for member in members:
                    for delivery in member.receive(draw.choice([1, 7, 50]), 0.1):
                        if works := draw.random() < 0.9:
                            member.ack(delivery)
                            done.add(int(delivery.value or b""))
                        if not works or draw.random() < 0.1:
                            member.nack(delivery)

        work(COUNT // 4)
        members.append(broken(broker.subscribe([topic], group=topic), seed + 100))
        work(COUNT // 2)
        members.pop(draw.randrange(2)).close()
        work(COUNT)
