"""From a URL to a broker: the scheme chooses the adapter, which is imported only then."""

from __future__ import annotations

from reference.brokers.protocol import Broker

__all__ = ["connect"]


def connect(url: str, *, timeout_s: float = 10.0) -> Broker:
    """A broker for ``kafka://HOST:PORT``, ``amqp://HOST:PORT/VHOST``, ``pubsub://PROJECT`` or ``memory://``.

    ``timeout_s`` bounds every wait for it. Raises :class:`ValueError` for any other scheme, and for an address of a scheme
    that its adapter cannot read; :class:`ImportError` that names the extra when the broker's client is not installed.
    """
    scheme = url.partition("://")[0]
    try:
        return _opened(scheme, url, timeout_s)
    except ModuleNotFoundError as error:
        extra = {"amqp": "rabbitmq", "amqps": "rabbitmq", "pubsub": "pubsub"}.get(scheme)
        if extra is None:
            raise
        raise ImportError(f"{scheme}:// needs {error.name}, which is not installed: pip install 'eda-labs[{extra}]'") from error


def _opened(scheme: str, url: str, timeout_s: float) -> Broker:
    if scheme == "kafka":
        from reference.brokers.kafka import KafkaBroker

        return KafkaBroker(url, timeout_s=timeout_s)
    if scheme in {"amqp", "amqps"}:
        from reference.brokers.rabbitmq import RabbitMQBroker

        return RabbitMQBroker(url, timeout_s=timeout_s)
    if scheme == "pubsub":
        from reference.brokers.pubsub import PubSubBroker

        return PubSubBroker(url, timeout_s=timeout_s)
    if scheme == "memory":
        from reference.brokers.memory import MemoryBroker

        return MemoryBroker()
    raise ValueError(
        f"no broker for {scheme}://: write kafka://HOST:PORT, amqp://HOST:PORT/VHOST, pubsub://PROJECT (pubsub://PROJECT@HOST:PORT"
        " for an emulator), or memory:// inside one process"
    )
