"""RabbitMQ behind the :class:`~reference.brokers.protocol.Broker` protocol."""

from reference.brokers.rabbitmq.broker import RabbitMQBroker

__all__ = ["RabbitMQBroker"]
