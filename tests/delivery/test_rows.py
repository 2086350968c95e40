from __future__ import annotations

import pytest

from reference.delivery.rows import Envelope, InvalidRow, Page

ROW = (1, "3f5b", "orders", "order-1", "OrderPlaced", '{"n": 1}', None, "2026-01-31 10:00:00.5+00")


def test_a_row_becomes_the_message_debezium_would_send() -> None:
    """Topic by aggregate type, key by aggregate id, the id header, and CloudEvents' own."""
    envelope = Envelope()
    envelope.check(ROW)
    topic, key, value, headers = envelope.message(ROW)
    assert (topic, key, value) == ("outbox.event.orders", "order-1", '{"n": 1}')
    assert dict(headers) == {
        "id": "3f5b", "ce_id": "3f5b", "ce_subject": "order-1", "ce_time": "2026-01-31T10:00:00.5Z", "ce_specversion": b"1.0",
        "ce_type": b"OrderPlaced", "ce_source": b"/orders", "content-type": b"application/json",
    }  # fmt: skip


def test_a_row_s_own_headers_win() -> None:
    """A writer that knows the source better says so."""
    envelope, row = Envelope(), (*ROW[:6], '{"ce_source": "/eu/orders", "traceparent": "00-1-2-03"}', ROW[7])
    envelope.check(row)
    headers = dict(envelope.message(row).headers)
    assert (headers["ce_source"], headers["traceparent"]) == ("/eu/orders", "00-1-2-03")


@pytest.mark.parametrize("route", ["{type}", "{}", "{aggregatetype", "{0}"])
def test_a_route_with_another_placeholder_is_refused(route: str) -> None:
    """At the start, not at the first event."""
    with pytest.raises(ValueError, match=r"only \{aggregatetype\} may stand in braces"):
        Envelope(route)


def test_a_route_may_be_one_topic_for_all() -> None:
    """Nothing has to be replaced."""
    envelope = Envelope("events")
    envelope.check(ROW)
    assert envelope.message(ROW).topic == "events"


def test_a_page_is_a_sequence_of_messages() -> None:
    """Built when asked for, by index and by slice."""
    envelope = Envelope()
    envelope.check(ROW)
    page = Page(envelope, [ROW, ROW, ROW])
    assert (len(page), page[1].key, [m.key for m in page[1:]]) == (3, "order-1", ["order-1"] * 2)


@pytest.mark.parametrize(("index", "value"), [(2, ""), (3, ""), (3, "ü" * 513), (4, ""), (5, "[]"), (6, "{}x"), (6, '{"a": {}}')])
def test_a_row_that_is_no_event_is_refused(index: int, value: str) -> None:
    """Whatever stands in the column."""
    row = (*ROW[:index], value, *ROW[index + 1 :])
    with pytest.raises((InvalidRow, ValueError)):
        Envelope().check(row)
