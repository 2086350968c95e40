"""From the address of a service to where it listens, and to the same address with the proxy in between.

Credentials, databases and options stay as they are; a password appears in no error.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from reference.brokers.kafka.address import KafkaAddress

__all__ = ["through", "upstream"]

PORTS: Final = {"amqp": 5672, "amqps": 5671, "postgresql": 5432, "postgres": 5432, "kafka": None, "pubsub": None}
HOW: Final = "kafka://HOST:PORT, amqp://HOST:PORT/VHOST, pubsub://PROJECT@HOST:PORT or postgresql://HOST:PORT/DATABASE"


def upstream(url: str) -> tuple[str, int]:
    """Host and port. Raises :class:`ValueError` for what is no such address, or more than one host."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port or PORTS.get(parts.scheme)
    except ValueError:
        raise ValueError(f"no one host and port can be read in this address: a proxy takes {HOW}") from None
    if scheme not in PORTS:
        raise ValueError(f"a proxy does not know {scheme}:// addresses: it takes {HOW}")
    if scheme == "kafka":
        KafkaAddress.parse(url)
    if scheme == "pubsub" and "@" not in parts.netloc:
        raise ValueError("pubsub://PROJECT is the service itself, which talks to its own name only: an emulator's has @HOST:PORT")
    if not host or not port:
        raise ValueError(f"this {scheme}:// address names no host and port: a proxy takes {HOW}")
    return host, port


def through(url: str, host: str, port: int) -> str:
    """The same address at ``host`` and ``port``."""
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    query = _with_management(url) if parts.scheme.startswith("amqp") else parts.query
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}{host}:{port}", query=query))


def _with_management(url: str) -> str:
    """RabbitMQ's management API is not proxied: it stays where it is, however it was named."""
    from reference.brokers.rabbitmq.address import RabbitMQAddress

    options = dict(parse_qsl(urlsplit(url).query)) | {"management": RabbitMQAddress.parse(url).management}
    return urlencode(options)
