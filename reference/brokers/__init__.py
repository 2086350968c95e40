"""Brokers behind one protocol: :class:`~reference.brokers.protocol.Broker`. :func:`connect` chooses by URL."""

from reference.brokers.connect import connect
from reference.brokers.protocol import (
    Broker,
    BrokerUnavailable,
    Capabilities,
    DeadLetters,
    Delivery,
    Message,
    NotConfirmed,
    NotOffered,
    Subscription,
    UnknownGroup,
    UnknownTopic,
)

__all__ = [
    "Broker",
    "BrokerUnavailable",
    "Capabilities",
    "DeadLetters",
    "Delivery",
    "Message",
    "NotConfirmed",
    "NotOffered",
    "Subscription",
    "UnknownGroup",
    "UnknownTopic",
    "connect",
]
