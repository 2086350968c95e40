"""From an outbox row to the message a broker carries, or to the reason why it cannot be one.

Pure and on the relay's hottest path: what repeats from row to row is built once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, overload

from reference.brokers import Message

__all__ = ["COLUMNS", "Envelope", "InvalidRow", "Page"]

# payload and headers come as JSON text, created_at as ISO text in the session's time zone, UTC
COLUMNS = "position, id::text, aggregatetype, aggregateid, type, payload::text, headers::text, created_at::text"
MAX_NAME_BYTES = 1024


class InvalidRow(ValueError):
    """A row that cannot become an event; the message says which column, and what it must be."""


class Envelope:
    """Makes messages of rows: Debezium's topic, key and ``id`` header, and CloudEvents' binary-mode headers.

    ``route`` is the topic, in which ``{aggregatetype}`` is replaced. Raises :class:`ValueError` for any other placeholder.
    """

    def __init__(self, route: str = "outbox.event.{aggregatetype}") -> None:
        try:
            route.format(aggregatetype="x")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"route {route!r}: only {{aggregatetype}} may stand in braces") from error
        self._route = route
        self._constant: dict[tuple[str, str], tuple[str, tuple[tuple[str, str | bytes], ...]]] = {}

    def check(self, row: tuple[Any, ...]) -> None:
        """Raise :class:`InvalidRow` when the row cannot become a message."""
        _, _, aggregate, key, kind, payload, headers, _ = row
        if (aggregate, kind) not in self._constant:
            self._learn(aggregate, kind)
        if not key or len(key) > 255:
            _check_name("aggregateid", key)
        if payload[0] != "{":
            raise InvalidRow(f"payload must be a JSON object, it is {payload[:40]}")
        if headers is not None:
            _extra(headers)

    def message(self, row: tuple[Any, ...]) -> Message:
        """The message of one checked row, given as :data:`COLUMNS`."""
        _, event_id, aggregate, key, kind, payload, headers, at = row
        topic, constant = self._constant[(aggregate, kind)]
        time = f"{at[:10]}T{at[11:-3]}Z"  # 2026-01-31 10:00:00.5+00, since the session's time zone is UTC
        pairs = [("id", event_id), ("ce_id", event_id), ("ce_subject", key), ("ce_time", time), *constant]
        return Message(topic, key, payload, pairs if headers is None else _merge(pairs, headers))

    def _learn(self, aggregate: str, kind: str) -> None:
        _check_name("aggregatetype", aggregate)
        _check_name("type", kind)
        constant = (("ce_specversion", b"1.0"), ("ce_type", kind.encode()), ("ce_source", f"/{aggregate}".encode()),
                    ("content-type", b"application/json"))  # fmt: skip
        self._constant[(aggregate, kind)] = self._route.format(aggregatetype=aggregate), constant


class Page(Sequence[Message]):
    """The messages of checked rows, each built when it is asked for and then forgotten.

    A page built at once would be tens of thousands of live objects for the garbage collector to walk, again and again:
    that alone halves the relay's throughput.
    """

    def __init__(self, envelope: Envelope, rows: Sequence[tuple[Any, ...]]) -> None:
        self._message, self._rows = envelope.message, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Message]:
        return map(self._message, self._rows)

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Message]: ...
    def __getitem__(self, index: int | slice) -> Message | Sequence[Message]:
        return list(map(self._message, self._rows[index])) if isinstance(index, slice) else self._message(self._rows[index])


def _check_name(column: str, value: str) -> None:
    size = len(value.encode())
    if not 0 < size <= MAX_NAME_BYTES:
        raise InvalidRow(f"{column} must be 1 to {MAX_NAME_BYTES} bytes long, it is {size}")


def _extra(headers: str) -> dict[str, str]:
    extra = json.loads(headers)
    if not isinstance(extra, dict) or not all(isinstance(value, str) for value in extra.values()):
        raise InvalidRow(f"headers must be a JSON object of texts, it is {headers[:80]}")
    return extra


def _merge(pairs: list[tuple[str, str | bytes]], headers: str) -> list[tuple[str, str | bytes]]:
    extra = _extra(headers)
    return [pair for pair in pairs if pair[0] not in extra] + list(extra.items())
