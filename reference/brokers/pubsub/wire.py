"""A :class:`Message` as Pub/Sub takes it, and what Pub/Sub delivers as a :class:`Delivery`. Nothing here waits or asks."""

from __future__ import annotations

import zlib
from typing import Any, Final

from google.pubsub_v1 import types

from reference.brokers.protocol import Delivery, Headers, Message
from reference.brokers.text import is_utf8

__all__ = ["BUCKETS", "MAX_BYTES", "Unfit", "bucket", "to_delivery", "to_wire"]

BUCKETS: Final = 16
MAX_BYTES: Final = 10_000_000
MAX_ATTRIBUTES: Final = 100
MAX_NAME_BYTES: Final = 256
MAX_VALUE_BYTES: Final = 1024
MAX_KEY_BYTES: Final = 1024

_PubsubMessage = types.PubsubMessage.pb()  # the generated class itself: its wrapper checks and copies every field in Python


class Unfit(Exception):
    """Pub/Sub does not take this message, whoever sends it; says why."""


def to_wire(message: Message) -> Any:
    """The protobuf message. Raises :class:`Unfit`: an emulator takes much that the service refuses, so we refuse it here."""
    try:
        return _wire(message)
    except UnicodeEncodeError as error:
        raise Unfit(f"{_not_text(message)} cannot be written as UTF-8: {error}") from error


def _wire(message: Message) -> Any:
    topic, key, value, headers = message
    data = value if isinstance(value, bytes) else value.encode()
    attributes = _attributes(headers) if headers else {}
    if len(key) * 4 > MAX_KEY_BYTES and (size := len(key.encode())) > MAX_KEY_BYTES:
        raise Unfit(f"its key has {size} bytes, and an ordering key has {MAX_KEY_BYTES} at most")
    if not data and not attributes:
        raise Unfit("it has neither a value nor a header: Pub/Sub takes no empty message; add a header that says what it means")
    wire = _PubsubMessage(data=data, ordering_key=key, attributes=attributes)
    if len(data) * 2 > MAX_BYTES and (size := wire.ByteSize() + len(topic) + 256) > MAX_BYTES:
        raise Unfit(f"{size} bytes, over the {MAX_BYTES} that Pub/Sub takes in one request")
    return wire


def to_delivery(received: Any, *, topic: str, group: str, partition: int, offset: int) -> Delivery:
    """``attempt`` is what the service counted: nothing, unless the group has dead letters."""
    message = received.message
    return Delivery(
        topic,
        partition,
        offset,
        message.ordering_key.encode(),
        message.data,
        tuple(sorted((name, text.encode()) for name, text in message.attributes.items())),
        group,
        received.delivery_attempt or None,
    )


def bucket(key: str) -> int:
    """The bucket that stands for a partition, the same in every process: Pub/Sub has none, keys alone are ordered."""
    return zlib.crc32(key.encode()) % BUCKETS


def _attributes(headers: Headers) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for name, text in headers:
        if name in attributes:
            raise Unfit(f"header {name!r} is given twice: attributes are a map")
        if not 0 < len(name.encode()) <= MAX_NAME_BYTES or name.startswith("goog"):
            raise Unfit(f"header {name[:40]!r}: an attribute's name has 1 to {MAX_NAME_BYTES} bytes and does not begin with goog")
        attributes[name] = _text(name, text)
    if len(attributes) > MAX_ATTRIBUTES:
        raise Unfit(f"{len(attributes)} headers: Pub/Sub takes {MAX_ATTRIBUTES} attributes")
    return attributes


def _not_text(message: Message) -> str:
    """What of it holds half of a character: a file name or broken JSON leaves such a surrogate behind."""
    parts = [("its key", message.key), ("its value", message.value)]
    for name, text in message.headers:
        parts += [(f"the name of header {name!r}", name), (f"header {name!r}", text)]
    return ", ".join(what for what, text in parts if isinstance(text, str) and not is_utf8(text))


def _text(name: str, value: str | bytes) -> str:
    try:
        text = value if isinstance(value, str) else value.decode()
    except UnicodeDecodeError as error:
        raise Unfit(f"header {name!r} is binary: attributes are UTF-8 text; encode it, or put it into the value") from error
    if len(text) * 4 > MAX_VALUE_BYTES and (size := len(text.encode())) > MAX_VALUE_BYTES:
        raise Unfit(f"header {name!r} has {size} bytes: an attribute's value has {MAX_VALUE_BYTES} at most")
    return text
