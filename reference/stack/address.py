"""Where a running stack answers: :class:`Endpoints`, the one thing the labs and the tests need from it, and :class:`Page`."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

__all__ = ["Endpoints", "Page", "address", "without_password"]


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The URLs of the running services, passwords included; ``repr`` leaves the passwords out.

    A service that was not asked for is the empty string. ``backend`` is ``native``, ``compose`` or ``env``.
    """

    kafka: str = field(default="", repr=False)
    rabbitmq: str = field(default="", repr=False)
    pubsub: str = field(default="", repr=False)
    postgres: str = field(default="", repr=False)
    backend: str = "native"

    def as_env(self) -> dict[str, str]:
        """The environment variables that hand these services to another process."""
        named = {
            "EDA_KAFKA_URL": self.kafka,
            "EDA_RABBITMQ_URL": self.rabbitmq,
            "EDA_PUBSUB_URL": self.pubsub,
            "EDA_POSTGRES_DSN": self.postgres,
        }
        return {name: url for name, url in named.items() if url}

    def __repr__(self) -> str:
        services = {"kafka": self.kafka, "rabbitmq": self.rabbitmq, "pubsub": self.pubsub, "postgres": self.postgres}
        shown = "".join(f"{name}={address(url)!r}, " for name, url in services.items())
        return f"Endpoints({shown}backend={self.backend!r})"


@dataclass(frozen=True, slots=True)
class Page:
    """The web page that people look at a service with, and as whom they log in; ``repr`` leaves the password out."""

    address: str
    user: str
    password: str = field(repr=False)


def address(url: str) -> str:
    """``host:port`` of a URL, or the empty string: safe to print."""
    return urlsplit(url).netloc.rpartition("@")[2]


def without_password(url: str) -> str:
    """The same URL with its password, if it has one, replaced by three stars."""
    password = urlsplit(url).password
    return url.replace(f":{password}@", ":***@", 1) if password else url
