"""The plugin's bytes, written here by hand from the documentation, become what they say; anything else is named or skipped."""

from __future__ import annotations

import struct

import pytest

from reference.delivery.pgoutput import Begin, Commit, Insert, Relation, UnreadableMessage, lsn, parse


def column(name: str) -> bytes:
    return b"\1" + name.encode() + b"\0" + struct.pack("!Ii", 25, -1)


def relation(*names: str) -> bytes:
    return (
        b"R"
        + struct.pack("!I", 7)
        + "öffentlich\0outbox\0d".encode()
        + struct.pack("!h", len(names))
        + b"".join(map(column, names))
    )


def text(value: str) -> bytes:
    return b"t" + struct.pack("!i", len(value.encode())) + value.encode()


def insert(*values: bytes) -> bytes:
    return b"I" + struct.pack("!I", 7) + b"N" + struct.pack("!h", len(values)) + b"".join(values)


def test_a_transaction_begins_and_is_whole() -> None:
    """Its number at the start, and at the end the place to which a slot may advance."""
    begin = b"B" + struct.pack("!qqi", 10, 20, 741)
    commit = b"C" + struct.pack("!bqqq", 0, 10, 0x5_0000_00FF, 20)
    assert (parse(begin), parse(commit)) == (Begin(741), Commit(0x5_0000_00FF))


def test_a_table_tells_its_columns_in_order() -> None:
    """Names of any script, types left out."""
    assert parse(relation("position", "größe")) == Relation(7, "öffentlich", "outbox", ("position", "größe"))


def test_a_row_is_text_and_null() -> None:
    """An empty text is not null, and length counts bytes, not letters."""
    values = ("1", "", "naïve 東京 🚚")
    assert parse(insert(*map(text, values), b"n")) == Insert(7, (*values, None))


def test_a_large_value_comes_whole() -> None:
    """What Postgres stores out of line is text like any other when it is inserted."""
    assert parse(insert(text("ü" * 1_000_000), text("x"))) == Insert(7, ("ü" * 1_000_000, "x"))


@pytest.mark.parametrize("kind", [b"U", b"D", b"T", b"O", b"Y", b"M", b"S", b"?"])
def test_other_kinds_are_skipped(kind: bytes) -> None:
    """Also kinds that do not exist yet."""
    assert parse(kind + b"whatever stands behind it") is None


@pytest.mark.parametrize("kind", [b"u", b"b" + struct.pack("!i", 1) + b"x"])
def test_a_value_that_is_not_there_as_text_is_refused(kind: bytes) -> None:
    """Large values that an update left alone have no bytes in the log: nothing is made up for them."""
    with pytest.raises(UnreadableMessage, match="column 1 of a row of relation 7"):
        parse(insert(text("1"), kind))


WHOLE = [insert(text("größe"), b"n"), relation("position", "id"), b"B" + bytes(20), b"C" + bytes(25)]


@pytest.mark.parametrize("whole", WHOLE, ids=["insert", "relation", "begin", "commit"])
def test_a_message_cut_anywhere_is_refused(whole: bytes) -> None:
    """Never half a row."""
    for length in range(len(whole)):
        with pytest.raises(UnreadableMessage):
            parse(whole[:length])


def test_bytes_that_are_no_text_are_refused() -> None:
    """The session asks for UTF-8."""
    with pytest.raises(UnreadableMessage, match="utf-8"):
        parse(insert(b"t" + struct.pack("!i", 1) + b"\xff"))


@pytest.mark.parametrize(("position", "written"), [(0, "0/0"), (0x16_B374_D848, "16/B374D848"), (255, "0/FF")])
def test_a_place_in_the_log_is_written_as_postgres_writes_it(position: int, written: str) -> None:
    """Two hexadecimal halves."""
    assert lsn(position) == written
