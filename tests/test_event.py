"""The envelope keeps what it was given, and says what it will not take."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.event import MAX_DEPTH, PREFIXES, Event, InvalidEvent

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=10,
)
offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
envelope_names = {"id", "content-type"}
events = st.builds(
    Event,
    type=names,
    source=names,
    subject=names,
    data=st.dictionaries(texts, values),
    id=names,
    time=st.datetimes(datetime(1970, 1, 2), datetime(2999, 1, 1), timezones=offsets),  # noqa: DTZ001 - hypothesis adds the zone
    dataschema=st.none() | texts,
    partitionkey=st.none() | names,
    sequence=st.none() | st.integers(),
    headers=st.dictionaries(texts.filter(lambda n: n.lower() not in envelope_names and not n.startswith(PREFIXES)), texts),
)
ENVELOPE = {"ce_id": b"e1", "ce_type": b"OrderPlaced", "ce_source": b"/orders", "ce_subject": b"order-1"}


def event(**attributes: Any) -> Event:
    return Event(**{"type": "OrderPlaced", "source": "/orders", "subject": "order-1", "data": {}, "id": "e1"} | attributes)


def wire(**changed: bytes | None) -> list[tuple[str, bytes | None]]:
    return [(name, value) for name, value in (ENVELOPE | changed).items() if value is not None]


@given(events)
def test_an_event_comes_back_from_the_wire_as_it_was_sent(sent: Event) -> None:
    """Every attribute, every header and the data survive, in any script."""
    headers = [(name, value.encode()) for name, value in sent.to_headers()]
    assert Event.from_wire(headers, sent.to_value()) == sent


@given(events)
def test_a_second_hop_sends_the_very_same_bytes(sent: Event) -> None:
    """Forwarding an event changes nothing, least of all its id."""
    headers = [(name, value.encode()) for name, value in sent.to_headers()]
    again = Event.from_wire(headers, sent.to_value())
    assert (again.to_headers(), again.to_value()) == (sent.to_headers(), sent.to_value())


def test_headers_are_those_of_cloudevents_and_debezium() -> None:
    """The names other libraries look for, and optional attributes only when set."""
    at = datetime(2026, 1, 31, 11, 0, 0, 500_000, tzinfo=timezone(timedelta(hours=1)))
    assert event(time=at, sequence=3, headers={"traceparent": "00-1-2-03"}).to_headers() == [
        ("id", "e1"), ("ce_specversion", "1.0"), ("ce_id", "e1"), ("ce_type", "OrderPlaced"), ("ce_source", "/orders"),
        ("ce_subject", "order-1"), ("ce_time", "2026-01-31T10:00:00.500000Z"), ("content-type", "application/json"),
        ("ce_sequence", "3"), ("traceparent", "00-1-2-03"),
    ]  # fmt: skip


def test_two_events_never_share_an_id() -> None:
    """An id is drawn for each event that is not given one."""
    assert Event(type="t", source="s", subject="x", data={}).id != Event(type="t", source="s", subject="x", data={}).id


def test_an_event_cannot_be_changed() -> None:
    """A fact stays what it was."""
    with pytest.raises(AttributeError):
        event().id = "e2"  # type: ignore[misc]


@pytest.mark.parametrize(("partitionkey", "key"), [(None, "order-1"), ("", "order-1"), ("customer-7", "customer-7")])
def test_the_key_is_the_partition_key_or_else_the_subject(partitionkey: str | None, key: str) -> None:
    """What keeps events in order is named in one place."""
    assert event(partitionkey=partitionkey).key == key


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, value) for name in ("id", "type", "source", "subject") for value in ("", None, 7)],
        ("data", []),
        ("data", None),
        ("time", datetime(2026, 1, 31)),  # noqa: DTZ001 - without an offset, which is the point
        ("time", "2026-01-31T10:00:00Z"),
        ("sequence", "3"),
        ("headers", {"header": 7}),
        ("headers", {"header": "x", "id": "e2"}),
        ("headers", {"header": "x", "ce_id": "e2"}),
    ],
)
def test_a_bad_attribute_is_named(name: str, value: Any) -> None:
    """Whoever made the event finds the line."""
    with pytest.raises(InvalidEvent, match=name.removesuffix("s")):
        event(**{name: value})


@pytest.mark.parametrize(
    ("headers", "body", "named"),
    [
        *[(wire(**{name: gone}), b"{}", name) for name in ENVELOPE for gone in (None, b"")],
        (wire(ce_type=b"\xff"), b"{}", "ce_type"),
        (wire(ce_time=b"yesterday"), b"{}", "ce_time"),
        (wire(ce_time=b"2026-01-31T10:00:00"), b"{}", "time"),
        (wire(ce_sequence=b"third"), b"{}", "ce_sequence"),
        (wire(), None, "body"),
        (wire(), b"", "body"),
        (wire(), b"[1]", "body"),
        (wire(), b"\xff", "body"),
        (wire(), b"{", "body"),
        *[(wire(), b'{"n":%b}' % number, "body") for number in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999")],
        *[(wire(), b'{"half":"%b"}' % half, "body") for half in (b"\\ud800", b"\\uDC00", b"\xed\xa0\x80")],
        (wire(), b'{"\\udfff":1}', "body"),
        *[(wire(ce_time=time), b"{}", "time") for time in (b"0001-01-01T00:59:00+10:00", b"9999-12-31T23:59:00-10:00")],
        ([("ce_specversion", b"1.0")], b"{}", "ce_id, ce_type, ce_source, ce_subject"),
    ],
)
def test_bytes_that_are_no_event_are_refused_by_name(
    headers: list[tuple[str, bytes | None]], body: bytes | None, named: str
) -> None:
    """Poison is told apart from a bug in a handler, and says what it lacks."""
    with pytest.raises(InvalidEvent, match=named):
        Event.from_wire(headers, body)


def test_the_relays_shortened_time_is_read() -> None:
    """Postgres leaves trailing zeros of a second away."""
    assert Event.from_wire(wire(ce_time=b"2026-01-31T10:00:00.5Z"), b"{}").time == datetime(2026, 1, 31, 10, 0, 0, 500_000, UTC)


def test_extension_attributes_travel_as_headers() -> None:
    """What the envelope does not know is not lost."""
    read = Event.from_wire([*wire(), ("ce_tenant", b"north"), ("traceparent", b"00-1-2-03")], b"{}")
    assert read.headers == {"ce_tenant": "north", "traceparent": "00-1-2-03"}


def test_a_header_that_is_no_text_is_left_out() -> None:
    """Bytes beside the envelope are no reason to refuse an event."""
    assert Event.from_wire([*wire(), ("blob", b"\xff\xfe")], b"{}").headers == {}


# -- what other producers send -----------------------------------------------------------------------------------------

STRUCTURED = ("content-type", b"application/cloudevents+json; charset=UTF-8")


@pytest.mark.parametrize("prefix", ["ce_", "ce-", "cloudEvents:", "cloudEvents_"])
def test_every_bindings_prefix_is_read(prefix: str) -> None:
    """Kafka, HTTP and Pub/Sub, AMQP: the attributes are the same."""
    headers = [(name.replace("ce_", prefix), value) for name, value in wire()]
    read = Event.from_wire(headers, b'{"n":1}')
    assert (read.id, read.type, read.source, read.subject, read.data) == ("e1", "OrderPlaced", "/orders", "order-1", {"n": 1})


@given(events)
def test_structured_mode_is_read(sent: Event) -> None:
    """One JSON body with everything in it, as some producers write and all may."""
    optional = {"dataschema": sent.dataschema, "partitionkey": sent.partitionkey, "sequence": sent.sequence}
    whole = {
        "specversion": "1.0", "id": sent.id, "type": sent.type, "source": sent.source, "subject": sent.subject,
        "time": sent.time.isoformat(), "data": dict(sent.data), **optional,
    }  # fmt: skip
    headers = [STRUCTURED, *((name, text.encode()) for name, text in sent.headers.items())]
    assert Event.from_wire(headers, json.dumps(whole).encode()) == sent


def test_a_structured_events_extensions_travel_as_headers() -> None:
    """A trace goes on, whichever mode its producer chose."""
    body = b'{"specversion":"1.0","id":"e1","type":"T","source":"/s","subject":"x","data":{},"traceparent":"00-1-2-03"}'
    assert Event.from_wire([STRUCTURED], body).headers == {"traceparent": "00-1-2-03"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"not JSON", "body is not JSON"),
        (b"[1]", "must be a JSON object, got list"),
        (b"\xff", "body is not JSON"),
        (b'{"id":"e1","type":"T","source":"/s","data":{}}', "ce_subject missing"),
        (b'{"id":"e1","type":"T","source":"/s","subject":"x","data":[1]}', "must be a JSON object, got list"),
        (b'{"id":"e1","type":"T","source":"/s","subject":"x"}', "must be a JSON object, got NoneType"),
        (b'{"id":"e1","type":"T","source":"/s","subject":"x","data_base64":"AAA="}', "got data_base64"),
        (b'{"id":"e1","type":"T","source":"/s","subject":"x","data":{},"time":"noon"}', "ce_time"),
        (b'{"id":7,"type":"T","source":"/s","subject":"x","data":{}}', "'id' must be a string, got 7"),
        (b'{"id":"e1","type":"T","source":"/s","subject":"x","data":{},"specversion":"2.0"}', "'2.0' is not 1.x"),
        (b'{"id":"\\ud800","type":"T","source":"/s","subject":"x","data":{}}', "'id' must be text that UTF-8"),
        (b"[" * 100_000, "body is not JSON"),
        (b'{"id":"e1","type":"T","source":"/s","subject":"x","data":{"n":NaN}}', "body is not JSON"),
    ],
)
def test_a_bad_structured_event_is_refused_by_name(body: bytes, reason: str) -> None:
    """Never half of it."""
    with pytest.raises(InvalidEvent, match=reason):
        Event.from_wire([STRUCTURED], body)


def test_a_strangers_plain_json_is_refused_with_both_ways_to_write_it() -> None:
    """Whoever reads the dead letter knows what was missing."""
    with pytest.raises(InvalidEvent, match=r"no ce_… header \(binary mode\), no content-type application/cloudevents\+json"):
        Event.from_wire([("content-type", b"application/json")], b'{"order":1}')


@pytest.mark.parametrize("value", ["a\0b", "\ud800", "x" * 1025])
@pytest.mark.parametrize("name", ["id", "type", "source", "subject", "partitionkey"])
def test_what_no_inbox_could_hold_is_refused(name: str, value: str) -> None:
    """Before it reaches a database that would refuse it, over and over."""
    with pytest.raises(InvalidEvent, match=name):
        event(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("dataschema", "\ud800"), ("headers", {"trace": "\ud800"}), ("headers", {"\ud800": "trace"})]
)
def test_what_no_header_could_carry_is_refused(name: str, value: Any) -> None:
    """A structured event brings such text as an escape, and the next hop could not write it."""
    with pytest.raises(InvalidEvent, match=name.removesuffix("s")):
        event(**{name: value})


@pytest.mark.parametrize(("depth", "reads"), [(MAX_DEPTH, True), (MAX_DEPTH + 1, False), (900, False), (100_000, False)])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"d":', b"}")])
def test_how_deep_a_body_may_be_does_not_hang_on_who_reads_it(opening: bytes, closing: bytes, depth: int, reads: bool) -> None:
    """Nor does how many lie side by side: else an event of one hop would be poison to the next, deeper in its stack."""
    inner = depth - 1
    body = b'{"side by side": [%b], "deep": %b1%b}' % (b",".join([b"{}"] * 300), opening * inner, closing * inner)
    with nullcontext() if reads else pytest.raises(InvalidEvent, match="body is not JSON"):
        assert Event.from_wire(wire(), body).id == "e1"


@pytest.mark.parametrize(
    "name", ["ce-id", "cloudEvents:subject", "cloudEvents_type", "Content-Type", "ce-tenant", "cloudEvents:"]
)
def test_a_header_that_the_next_hop_would_read_as_another_is_refused(name: str) -> None:
    """Another binding's prefix before an attribute's name would make another event of it, there."""
    with pytest.raises(InvalidEvent, match=re.escape(name)):
        event(headers={name: "other"})


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("ce-id", {}), ("cloudEvents:subject", {}), ("Content-Type", {}), ("ce-tenant", {"ce_tenant": "other"}),
        ("ce-", {"ce_": "other"}),
    ],
)
def test_a_structured_events_extension_does_not_change_the_event_on_the_next_hop(name: str, headers: dict[str, str]) -> None:
    """It is read by the one name that it will have there, and an attribute is not overwritten by it."""
    whole = {"specversion": "1.0", "id": "e1", "type": "T", "source": "/s", "subject": "x", "data": {}, name: "other"}
    read = Event.from_wire([STRUCTURED], json.dumps(whole).encode())
    again = Event.from_wire([(header, text.encode()) for header, text in read.to_headers()], read.to_value())
    assert (read.id, read.subject, read.headers, again == read) == ("e1", "x", headers, True)


def test_a_whole_character_may_be_written_as_two_escapes() -> None:
    """Only half of one is refused; and the farthest times are read as long as UTC has them."""
    read = Event.from_wire(wire(ce_time=b"0001-01-01T10:00:00+10:00"), rb'{"\ud83d\ude00": 1e308}')
    assert (read.data, Event.from_wire(wire(), read.to_value()).data) == ({"😀": 1e308}, {"😀": 1e308})


def test_the_media_types_case_does_not_matter() -> None:
    """Neither does the header's: RFC 9110."""
    body = b'{"specversion":"1.0","id":"e1","type":"T","source":"/s","subject":"x","data":{}}'
    assert Event.from_wire([("Content-Type", b"application/CloudEvents+json")], body).id == "e1"
