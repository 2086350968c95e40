from __future__ import annotations

import pytest

from reference.brokers import connect
from reference.brokers.kafka import KafkaBroker
from reference.brokers.memory import MemoryBroker
from reference.brokers.pubsub import PubSubBroker
from reference.brokers.rabbitmq import RabbitMQBroker


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("kafka://127.0.0.1:9", KafkaBroker),
        ("amqp://127.0.0.1:9", RabbitMQBroker),
        ("pubsub://lab-project@127.0.0.1:9", PubSubBroker),
        ("memory://", MemoryBroker),
    ],
)
def test_the_scheme_chooses_the_adapter(url: str, kind: type) -> None:
    """And nothing is connected yet."""
    with connect(url) as broker:
        assert isinstance(broker, kind)


@pytest.mark.parametrize("url", ["", "127.0.0.1:9092", "nats://u:geheim@one", "kafka:/one"])
def test_any_other_scheme_is_answered_with_those_there_are(url: str) -> None:
    """Without repeating what may be a password."""
    with pytest.raises(ValueError, match="write kafka://HOST:PORT, amqp://") as error:
        connect(url)
    assert "geheim" not in str(error.value)
