"""From a URL to a broker: the scheme chooses the adapter, which is imported only then."""

from __future__ import annotations

from reference.brokers.protocol import Broker

__all__ = ["connect"]


def connect(url: str, *, timeout_s: float = 10.0) -> Broker:
    """A broker for ``kafka://HOST:PORT`` or ``memory://``. Raises :class:`ValueError` for any other scheme."""
    scheme = url.partition("://")[0]
    if scheme == "kafka":
        from reference.brokers.kafka import KafkaBroker

        return KafkaBroker(url, timeout_s=timeout_s)
    if scheme == "memory":
        from reference.brokers.memory import MemoryBroker

        return MemoryBroker()
    raise ValueError(f"no broker for {scheme}://: write kafka://HOST:PORT, or memory:// inside one process")
