"""Kafka clients go where the broker says it is, and not where they first asked: so what it says has to name the proxy.

A broker's answers are frames that begin with their length. In each, its own address (its host, and its port in four bytes) is
written over by the proxy's, which is as long: no length changes, and nothing but the address has to be understood. It stands
in more answers than one, so all are looked through. What carries the same bytes in a message would be changed too: a host and
a binary port side by side are not met with by chance, and a batch that is compressed does not show them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from reference.brokers import BrokerUnavailable
from reference.brokers.kafka.address import KafkaAddress

__all__ = ["Renaming", "brokers", "check", "renaming", "wire"]

LENGTH: Final = 4


class Renaming:
    """One connection's answers, with one address in the place of another. Both are as :func:`wire` makes them."""

    def __init__(self, old: bytes, new: bytes) -> None:
        if len(old) != len(new):
            raise ValueError(f"one address cannot be written over another that is not as long: {old!r}, {new!r}")
        self._old, self._new = old, new
        self._kept = bytearray()  # the beginning of a length, or of what may be the address
        self._left = 0  # bytes of this frame

    def __call__(self, data: bytes) -> bytes:
        """What goes on now. At the end of a frame nothing is kept back: the client waits for it."""
        self._kept += data
        out = bytearray()
        while self._kept:
            if not self._left:
                if len(self._kept) < LENGTH:
                    break
                self._left = int.from_bytes(self._kept[:LENGTH], "big")
                out += self._take(LENGTH)
                continue
            whole = len(self._kept) >= self._left
            body = self._kept[: self._left].replace(self._old, self._new)
            self._kept[: len(body)] = body
            going = len(body) if whole else len(body) - self._begun(body)
            out += self._take(going)
            self._left -= going
            if not whole:
                break
        return bytes(out)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._kept[:count])
        del self._kept[:count]
        return taken

    def _begun(self, body: bytearray) -> int:
        """How many of the last bytes may be the address's first."""
        return next((n for n in range(min(len(self._old) - 1, len(body)), 0, -1) if body.endswith(self._old[:n])), 0)


def wire(host: str, port: int) -> bytes:
    """An address as Kafka's protocol has it, but for the length before the host."""
    return host.encode() + struct.pack(">i", port)


def renaming(url: str, *, to: tuple[str, int], timeout_s: float) -> Callable[[], Renaming]:
    """What makes a :class:`Renaming` of the one broker there. Raises :class:`ValueError` where that cannot be done."""
    found = brokers(url, timeout_s=timeout_s)
    if len(found) != 1 or len(found[0][0]) != len(to[0]):
        raise ValueError(f"this Kafka says that it is at {_list(found)}: a proxy stands before one broker, and its host is"
                         f" named in {len(to[0])} letters as {to[0]} is")  # fmt: skip
    return partial(Renaming, wire(*found[0]), wire(*to))


def check(url: str, *, at: tuple[str, int], timeout_s: float) -> None:
    """Raise :class:`ValueError` unless clients that ask at this address are told that address."""
    if (said := brokers(url, timeout_s=timeout_s)) != [at]:
        raise ValueError(f"this Kafka's clients would go past the proxy, to {_list(said)}: it cannot read what TLS encrypts")


def brokers(url: str, *, timeout_s: float) -> list[tuple[str, int]]:
    """Where the brokers of a cluster say they are. Raises :class:`BrokerUnavailable`."""
    address = KafkaAddress.parse(url)
    admin = AdminClient(address.client | {"socket.timeout.ms": round(1000 * timeout_s)})  # type: ignore[arg-type]  # any setting
    try:
        found = admin.list_topics(timeout=timeout_s).brokers
    except KafkaException as error:
        raise BrokerUnavailable(f"broker {address.url} does not say where it is: {error.args[0].str()}") from error
    return [(str(broker.host), broker.port) for _, broker in sorted(found.items())]


def _list(addresses: list[tuple[str, int]]) -> str:
    return ", ".join(f"{host}:{port}" for host, port in addresses)
