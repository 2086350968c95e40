"""``amqp://`` addresses: credentials and client settings in, connection parameters and the management API's address out."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

import pika

from reference.brokers.rabbitmq.settings import CONNECTION

__all__ = ["RabbitMQAddress"]

PORTS: Final = {"amqp": (5672, 15672), "amqps": (5671, 15671)}  # the broker's, and its management API's
SETTINGS: Final = ("heartbeat", "frame_max", "channel_max")
HEARTBEAT_S: Final = int(CONNECTION["heartbeat"])  # and so how soon a vanished member's lanes go on
HOW: Final = "write amqp://HOST:PORT/VHOST or amqp://USER:PASSWORD@HOST:PORT/VHOST"


@dataclass(frozen=True, slots=True)
class RabbitMQAddress:
    """Where a broker is (``url`` and ``management``, safe to print) and how to talk to it (the rest holds the password)."""

    url: str
    management: str
    host: str
    port: int
    vhost: str
    user: str
    password: str = field(repr=False)
    tls: bool
    settings: dict[str, int]

    @classmethod
    def parse(cls, url: str) -> Self:
        """``amqp://[user:password@]host[:port][/vhost][?management=PORT_OR_URL&heartbeat=SECONDS&frame_max=BYTES]``.

        Without a user it is ``guest``, as RabbitMQ's own; without a vhost it is ``/``, which may also be written ``%2F``.
        ``amqps`` speaks TLS, trusting what the system trusts. Raises :class:`ValueError` that says what a right address
        looks like.
        """
        parts = urlsplit(url)
        port = _port(parts)
        if parts.scheme not in PORTS or not parts.hostname or port is None:
            raise ValueError(f"not a RabbitMQ address: amqp://{parts.netloc.rpartition('@')[2]}; {HOW}")
        vhost = unquote(parts.path.removeprefix("/")) or "/"
        where = f"{_bracketed(parts.hostname)}:{port}"
        options = dict(parse_qsl(parts.query))
        management = _management(options.pop("management", ""), parts)
        return cls(
            url=f"{parts.scheme}://{where}/{'' if vhost == '/' else quote(vhost, safe='')}", management=management,
            host=parts.hostname, port=port, vhost=vhost, tls=parts.scheme == "amqps", settings=_settings(options),
            user=unquote(parts.username or "guest"), password=unquote(parts.password or ("" if parts.username else "guest")),
        )  # fmt: skip

    def parameters(self, *, name: str, timeout_s: float) -> pika.ConnectionParameters:
        """What pika connects with; the broker lists the connection by ``name``."""
        more: dict[str, Any] = {"heartbeat": HEARTBEAT_S, **self.settings}
        if self.tls:
            more["ssl_options"] = pika.SSLOptions(ssl.create_default_context(), self.host)
        return pika.ConnectionParameters(
            host=self.host, port=self.port, virtual_host=self.vhost, connection_attempts=1,
            credentials=pika.PlainCredentials(self.user, self.password),
            socket_timeout=timeout_s, stack_timeout=timeout_s,
            client_properties={"connection_name": name}, **more,
        )  # fmt: skip


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port or PORTS.get(parts.scheme, (0, 0))[0]
    except ValueError:  # not a number, or no port can have it
        return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _management(given: str, parts: SplitResult) -> str:
    """A port on the same host, or a whole address, which is taken as it is."""
    if "://" in given:
        return given.rstrip("/")
    port = int(given) if given.isdigit() else PORTS[parts.scheme][1]
    if given and not given.isdigit():
        raise ValueError(f"management={given!r} is neither a port nor an address: write ?management=15672 or "
                         "?management=http://HOST:15672")  # fmt: skip
    return f"{'https' if parts.scheme == 'amqps' else 'http'}://{_bracketed(parts.hostname or '')}:{port}"


def _settings(options: dict[str, str]) -> dict[str, int]:
    for name, value in options.items():
        if name not in SETTINGS or not value.isdigit():
            known = ", ".join(SETTINGS)
            raise ValueError(f"{name}={value!r} is no setting here: there is management, and {known}: numbers")
    return {name: int(value) for name, value in options.items()}
