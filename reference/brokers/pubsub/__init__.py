"""Google Pub/Sub, and its emulator, behind the :class:`~reference.brokers.protocol.Broker` protocol."""

from reference.brokers.pubsub.broker import PubSubBroker

__all__ = ["PubSubBroker"]
