"""Kafka behind the :class:`~reference.brokers.protocol.Broker` protocol."""

from reference.brokers.kafka.broker import KafkaBroker

__all__ = ["KafkaBroker"]
