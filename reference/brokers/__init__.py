"""Brokers behind one protocol: :class:`~reference.brokers.protocol.Broker`. :func:`connect` chooses by URL."""

from reference.brokers.connect import connect
from reference.brokers.protocol import (
    Broker,
    BrokerUnavailable,
    Capabilities,
    Delivery,
    Message,
    NotConfirmed,
    Subscription,
    UnknownTopic,
)

__all__ = [
    "Broker",
    "BrokerUnavailable",
    "Capabilities",
    "Delivery",
    "Message",
    "NotConfirmed",
    "Subscription",
    "UnknownTopic",
    "connect",
]
