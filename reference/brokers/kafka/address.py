"""``kafka://`` addresses: credentials and client settings in, librdkafka configuration out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = ["KafkaAddress"]


@dataclass(frozen=True, slots=True)
class KafkaAddress:
    """Where a cluster is (``url``, safe to print) and how to talk to it (``client``, holds the password)."""

    url: str
    client: dict[str, str | int]

    @classmethod
    def parse(cls, url: str) -> Self:
        """``kafka://[user:password@]host:port[,host:port…][?librdkafka.setting=value&…]``.

        With a user, SASL PLAIN over plaintext is assumed; ``?security.protocol=SASL_SSL&sasl.mechanism=SCRAM-SHA-512``
        says otherwise. Raises :class:`ValueError` that says what a right address looks like.
        """
        parts = urlsplit(url)
        credentials, _, hosts = parts.netloc.rpartition("@")
        if parts.scheme != "kafka" or not all(_is_host_and_port(host) for host in hosts.split(",")):
            raise ValueError(f"not a Kafka address: kafka://{hosts}; write kafka://HOST:PORT or kafka://USER:PASSWORD@HOST:PORT")
        client: dict[str, str | int] = {"bootstrap.servers": hosts, "client.id": "eda-labs", "log_level": 0}
        if credentials:
            user, _, password = credentials.partition(":")
            client |= {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
                       "sasl.username": unquote(user), "sasl.password": unquote(password)}  # fmt: skip
        return cls(f"kafka://{hosts}", client | dict(parse_qsl(parts.query)))


def _is_host_and_port(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdigit()
