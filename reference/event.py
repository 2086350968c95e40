"""The envelope: one frozen :class:`Event` with CloudEvents 1.0 attribute names.

What enters is a fact in the past tense (``OrderPlaced``) about one aggregate; what leaves is the same fact, with the same
``id``, on every hop and every broker. The module holds no state and opens nothing, so a kill cannot hurt it.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import Any, Self, TypeVar

__all__ = ["Event", "InvalidEvent"]

SPEC_VERSION = "1.0"
CONTENT = "content-type"
CONTENT_TYPE = "application/json"
STRUCTURED = "application/cloudevents+json"
PREFIXES = ("ce_", "ce-", "cloudEvents:", "cloudEvents_")  # Kafka's binding; HTTP's and Pub/Sub's; AMQP's two
_ATTRIBUTES = frozenset({"id", "specversion", "type", "source", "subject", "time", "dataschema", "partitionkey", "sequence"})
MAX_ATTRIBUTE_BYTES = 1024
MAX_DEPTH = 200  # objects and arrays in one another: else it hangs on the caller's stack whether Python reads a body
_SURROGATES = re.compile("[\ud800-\udfff]")
_EDGES = frozenset({MINYEAR, MAXYEAR})
_T = TypeVar("_T")


class InvalidEvent(ValueError):
    """An event, or the bytes that should have been one, breaks the envelope; the message names the attribute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened to one aggregate.

    ``data`` is a JSON object. ``subject`` is the aggregate's id and, unless ``partitionkey`` says otherwise, the key
    that keeps its events in order. ``sequence`` counts the aggregate's events from 1 when the writer numbers them.
    ``headers`` carries what travels beside the event, such as ``traceparent``.

    Source: CloudEvents 1.0 core, its partitioning and sequence extensions, and its Kafka binding (binary mode).
    """

    type: str
    source: str
    subject: str
    data: Mapping[str, Any]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    dataschema: str | None = None
    partitionkey: str | None = None
    sequence: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("id", "type", "source", "subject"):
            _check_text(name, getattr(self, name))
        if self.partitionkey:
            _check_text("partitionkey", self.partitionkey)
        if not isinstance(self.data, Mapping):
            raise InvalidEvent(f"event {self.id}: data must be a JSON object, got {type(self.data).__name__}")
        if not isinstance(self.time, datetime) or self.time.tzinfo is None:
            raise InvalidEvent(f"event {self.id}: time must be a datetime that carries its UTC offset, got {self.time}")
        if self.sequence is not None and not isinstance(self.sequence, int):
            raise InvalidEvent(f"event {self.id}: sequence must be a whole number, got {self.sequence!r}")
        if self.time.year in _EDGES:
            _check_in_utc(self.id, self.time)
        if self.dataschema and _SURROGATES.search(self.dataschema):
            raise InvalidEvent(f"event {self.id}: dataschema must be text that UTF-8 can hold, got {self.dataschema[:80]!r}")
        for name, value in self.headers.items():
            if _is_envelope(read := _read_as(name)) or not isinstance(value, str):
                raise InvalidEvent(f"event {self.id}: header {name!r} must be a text, and its name not one of the envelope's own")
            if read != name:  # on the next hop it would not be the same event
                raise InvalidEvent(f"event {self.id}: header {name!r} would be read as {read!r}: call it that")
            if _SURROGATES.search(name) or _SURROGATES.search(value):
                raise InvalidEvent(f"event {self.id}: header {name!r} must be text that UTF-8 can hold, got {value[:80]!r}")

    @property
    def key(self) -> str:
        """What keeps this event in order with its neighbours: ``partitionkey``, else ``subject``."""
        return self.partitionkey or self.subject

    def to_headers(self) -> list[tuple[str, str]]:
        """The ``ce_*`` headers of CloudEvents' Kafka binding, Debezium's ``id`` header, then ``headers``."""
        out = [("id", self.id), ("ce_specversion", SPEC_VERSION), ("ce_id", self.id), ("ce_type", self.type),
               ("ce_source", self.source), ("ce_subject", self.subject), ("ce_time", _rfc3339(self.time)),
               (CONTENT, CONTENT_TYPE)]  # fmt: skip
        optional = (("dataschema", self.dataschema), ("partitionkey", self.partitionkey), ("sequence", self.sequence))
        out += [(f"ce_{name}", str(value)) for name, value in optional if value is not None]
        return out + list(self.headers.items())

    def to_value(self) -> bytes:
        """``data`` as UTF-8 JSON."""
        return json.dumps(self.data, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def from_wire(cls, headers: Iterable[tuple[str, bytes | None]], value: bytes | None) -> Self:
        """Read an event from a delivery's headers and body; raises :class:`InvalidEvent` that names what is wrong.

        Both modes of CloudEvents are read: binary, with the attributes in headers under any of the bindings' prefixes, and
        structured, with all of it in a JSON body. What is sent, by :meth:`to_headers`, is binary with Kafka's prefix.
        """
        texts = _texts(headers)
        if texts.get(CONTENT, "").lower().startswith(STRUCTURED):
            texts, value = _opened(texts, value)
        ce = {name.removeprefix("ce_"): text for name, text in texts.items() if name.startswith("ce_")}
        missing = [f"ce_{name}" for name in ("id", "type", "source", "subject") if not ce.get(name)]
        if missing and not ce:
            raise InvalidEvent(f"not a CloudEvent: no ce_… header (binary mode), no content-type {STRUCTURED} (structured mode)")
        if not ce.get("specversion", SPEC_VERSION).startswith("1."):
            raise InvalidEvent(f"event {ce.get('id')}: specversion {ce['specversion']!r} is not 1.x")
        if missing:
            raise InvalidEvent(f"not a CloudEvent in binary mode: header {', '.join(missing)} missing or empty")
        return cls(
            id=ce["id"], type=ce["type"], source=ce["source"], subject=ce["subject"], data=_object(ce["id"], value),
            time=_read(ce, "time", datetime.fromisoformat) or datetime.now(UTC),
            dataschema=ce.get("dataschema"), partitionkey=ce.get("partitionkey"), sequence=_read(ce, "sequence", int),
            headers={n: t for n, t in texts.items() if not _is_envelope(n)},
        )  # fmt: skip


def _check_text(name: str, value: object) -> None:
    """What an inbox's index, a broker's key and every header can hold."""
    if not isinstance(value, str) or not value:
        raise InvalidEvent(f"event attribute {name!r} must be a non-empty string, got {value!r}")
    if "\0" in value or _SURROGATES.search(value):
        raise InvalidEvent(f"event attribute {name!r} must be text that UTF-8 and Postgres can hold, got {value[:80]!r}")
    if len(value.encode()) > MAX_ATTRIBUTE_BYTES:
        raise InvalidEvent(f"event attribute {name!r} must be at most {MAX_ATTRIBUTE_BYTES} bytes, it is {len(value.encode())}")


def _check_in_utc(event_id: str, time: datetime) -> None:
    """Within a day of the calendar's two ends an offset may lead beyond them, and no header could be written."""
    try:
        time.astimezone(UTC)
    except OverflowError:
        raise InvalidEvent(f"event {event_id}: time {time} is outside the years 1 to 9999 in UTC") from None


def _read(ce: Mapping[str, str], name: str, parse: Callable[[str], _T]) -> _T | None:
    if name not in ce:
        return None
    try:
        return parse(ce[name])
    except ValueError as error:
        raise InvalidEvent(f"event {ce['id']}: header ce_{name}: {error}") from error


def _read_as(given: str) -> str:
    """The one name of a header that every binding writes with a prefix of its own."""
    prefix = next((prefix for prefix in PREFIXES if given.startswith(prefix)), "")
    return f"ce_{given.removeprefix(prefix)}" if prefix else CONTENT if given.lower() == CONTENT else given


def _is_envelope(name: str) -> bool:
    return name in {"id", CONTENT} or (name.startswith("ce_") and name.removeprefix("ce_") in _ATTRIBUTES)


def _texts(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    out: dict[str, str] = {}
    for given, value in headers:
        name = _read_as(given)
        try:
            out[name] = (value or b"").decode()
        except UnicodeDecodeError as error:
            if name.startswith("ce_"):
                raise InvalidEvent(f"header {given} is not UTF-8: {error}") from error
    return out


def _opened(beside: Mapping[str, str], value: bytes | None) -> tuple[dict[str, str], bytes]:
    """A structured event as the headers and the body it would have had in binary mode; what travels beside it stays."""
    whole = _object("in structured mode", value, halves=True)  # whichever attribute holds it is named later
    for name in _ATTRIBUTES - {"sequence"}:
        if not isinstance(whole.get(name), str | None):
            raise InvalidEvent(f"event {whole.get('id')}: attribute {name!r} must be a string, got {whole[name]!r}")
    if "data_base64" in whole:
        raise InvalidEvent(f"event {whole.get('id')}: data must be a JSON object, got data_base64")
    attributes = {f"ce_{name}": str(text) for name, text in whole.items() if name in _ATTRIBUTES and text is not None}
    extensions = {_read_as(name): str(text) for name, text in whole.items()
                  if name not in _ATTRIBUTES | {"data", "datacontenttype"} and not _is_envelope(_read_as(name))}  # fmt: skip
    headers = {name: text for name, text in beside.items() if not _is_envelope(name)}
    return {**headers, **extensions, **attributes}, json.dumps(whole.get("data")).encode()


def _object(event_id: str, value: bytes | None, *, halves: bool = False) -> Mapping[str, Any]:
    """What can be written again, for the next hop; with ``halves``, but for text that holds half of a character."""
    try:
        text = (value or b"").decode(json.detect_encoding(value or b""))
        data = _DECODER.decode(text)
        if "\\u" in text and not halves:  # raw, UTF-8 has refused it
            json.dumps(data, ensure_ascii=False).encode()
        if text.count("{") + text.count("[") > MAX_DEPTH:
            _check_depth(data)
    except (ValueError, RecursionError) as error:
        raise InvalidEvent(f"event {event_id}: body is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise InvalidEvent(f"event {event_id}: body must be a JSON object, got {type(data).__name__}")
    return data


def _check_depth(data: Any) -> None:
    level = [data]
    for _ in range(MAX_DEPTH + 1):
        inner = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = [value for values in inner for value in values]
    if level:
        raise ValueError(f"more than {MAX_DEPTH} objects and arrays in one another")


def _finite(text: str) -> float:
    """JSON knows no infinity, and Python would read one from too large a number."""
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is too large for a number")
    return number


def _no_number(text: str) -> float:
    """NaN and the like, which Python alone reads and writes."""
    raise ValueError(f"{text} is no number")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_no_number)


def _rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
