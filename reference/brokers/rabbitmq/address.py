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
SETTINGS: Final = {"heartbeat": (0, 65_535), "frame_max": (4096, 131_072), "channel_max": (1, 65_535)}  # from, to
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
        parts, port = _split(url)
        vhost = unquote(parts.path.removeprefix("/")) or "/"
        host = parts.hostname or ""
        where = f"{_bracketed(host)}:{port}"
        options = dict(parse_qsl(parts.query))
        management = _management(options.pop("management", ""), parts)
        return cls(
            url=f"{parts.scheme}://{where}/{'' if vhost == '/' else quote(vhost, safe='')}", management=management,
            host=host, port=port, vhost=vhost, tls=parts.scheme == "amqps", settings=_settings(options),
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


def _split(url: str) -> tuple[SplitResult, int]:
    """The parts and the port. What is wrong is said without a piece of the address: any may be a piece of a password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        wrong = "no port or host can be read in it"
    else:
        if parts.scheme in PORTS and host and not (parts.fragment or "@" in parts.path + parts.query):
            return parts, port or PORTS[parts.scheme][0]
        wrong = "it begins with neither amqp:// nor amqps://" if parts.scheme not in PORTS else "it has no host"
        wrong = wrong if parts.scheme not in PORTS or not host else "something stands where it does not belong"
    raise ValueError(f"not a RabbitMQ address, {wrong}; {HOW}, in a user, password or vhost "
                     "/ as %2F, # as %23, ? as %3F, @ as %40 and % as %25")  # fmt: skip


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _management(given: str, parts: SplitResult) -> str:
    """A port on the same host, or a whole address, which is taken as it is."""
    if "://" in given and _reaches_somewhere(given):
        return given.rstrip("/")
    port = int(given) if given.isdecimal() else PORTS[parts.scheme][1]
    if (given and not given.isdecimal()) or not 0 < port < 65_536:
        raise ValueError("management is neither a port nor an address: write ?management=15672 or ?management=http://HOST:15672, "
                         "without a user and password: the broker's are taken")  # fmt: skip
    return f"{'https' if parts.scheme == 'amqps' else 'http'}://{_bracketed(parts.hostname or '')}:{port}"


def _reaches_somewhere(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = url.isprintable() and " " not in url and not (parts.query or parts.fragment or "@" in url)
    return plain and parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0


def _settings(options: dict[str, str]) -> dict[str, int]:
    for name, value in options.items():
        least, most = SETTINGS.get(name, (0, -1))
        if not value.isdecimal() or not least <= int(value) <= most:
            known = ", ".join(f"{one} from {least} to {most}" for one, (least, most) in SETTINGS.items())
            raise ValueError(f"{name}={value!r} is no setting here: there is management, and {known}")
    return {name: int(value) for name, value in options.items()}
