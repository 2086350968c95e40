"""Headers on their way into an AMQP table and back: pairs in, the same pairs out, byte for byte.

Text and bytes that are UTF-8 travel as a long string, which every client shows as text; other bytes as a byte array; a name
given twice as an array, in the place of its first.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pika import BasicProperties

from reference.brokers.protocol import Headers

__all__ = ["deliveries_before", "from_properties", "refusal", "to_table"]

ATTEMPTS: Final = "x-delivery-count"  # the broker's own: how often it has delivered the message before
SHORT: Final = 255  # bytes; names and keys travel as short strings
_TAKEN: Final = {
    **dict.fromkeys(["CC", "BCC"], "RabbitMQ takes it for an address, not for a header"),  # and takes BCC out
    ATTEMPTS: "RabbitMQ counts deliveries in it",
}
_fine = set[str]()  # names that were looked at before


def to_table(headers: Headers) -> dict[str, Any]:
    """The AMQP table of ``headers``. Raises :class:`UnicodeEncodeError` for a value that is half a character."""
    for _, value in headers:
        if isinstance(value, str) and not value.isascii():
            value.encode()  # here, and not on the connection's thread, where it would cost the neighbours their channel
    table: dict[str, Any] = dict(headers)
    if len(table) == len(headers) and set(map(type, table.values())) <= {str}:  # as an event's are: nothing to do
        return table
    table = {}
    for name, value in headers:
        item = _text(value) if isinstance(value, bytes) else value
        if name in table:
            before = table[name]
            table[name] = [*before, item] if isinstance(before, list) else [before, item]
        else:
            table[name] = item
    return table


def refusal(table: Mapping[str, Any]) -> str:
    """Why RabbitMQ cannot carry this table, or nothing. Raises :class:`UnicodeEncodeError` for a name that is no text."""
    if table.keys() <= _fine:
        return ""
    for name in table:
        if name in _TAKEN:
            return f"header {name!r}: {_TAKEN[name]}"
        if len(name.encode()) > SHORT:
            return f"header {name[:40]!r}…: its name has {len(name.encode())} bytes, over {SHORT}"
    if len(_fine) < 1000:
        _fine.update(table)
    return ""


def from_properties(properties: BasicProperties) -> tuple[tuple[str, bytes | None], ...]:
    """What a delivery carries, also from strangers: nothing they can write is an error.

    Strings and byte arrays come as their bytes, an array as one pair for each item, other types as the text JSON has for
    them: times in ISO 8601, bytes inside as base64; of a float pika keeps the whole part only. The property
    ``content_type`` comes as ``content-type``.
    """
    pairs: list[tuple[str, bytes | None]] = []
    for name, value in (properties.headers or {}).items():
        if type(value) is str and type(name) is str:  # as good as always
            pairs.append((name, value.encode()))
        elif name != ATTEMPTS or not _is_count(value):
            text = name if isinstance(name, str) else name.decode(errors="replace")
            pairs += [(text, _bytes(item)) for item in (value if isinstance(value, list) else [value])]
    if properties.content_type and not any(name.lower() == "content-type" for name, _ in pairs):
        content_type = properties.content_type
        pairs.append(("content-type", content_type if isinstance(content_type, bytes) else content_type.encode()))
    return tuple(pairs)


def deliveries_before(properties: BasicProperties, *, redelivered: bool) -> int:
    """The broker's count. It counts from the second delivery on; what the header says at the first is a stranger's."""
    count = (properties.headers or {}).get(ATTEMPTS) if redelivered else None
    return int(count) if count is not None and _is_count(count) else 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(value: bytes) -> str | bytes:
    """Text, where it is that to everybody."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _bytes(value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    try:
        plain = _plain(value)
        return (plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)).encode()
    except RecursionError:
        return b"nested too deeply to be shown"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(_plain(name)): _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)  # pika has a class of its own, which shows
    return value if isinstance(value, bool | str | None) else _said(value)


def _said(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
