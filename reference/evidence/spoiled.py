"""Messages that should have been events: good ones, each spoiled in one way, drawn by Hypothesis.

A seed enters and messages leave, the same for the same seed. Whether what was made is still an event is
known from the way in which it was made, where that can be known, and not from the code that is to find it out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC
from functools import lru_cache
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from reference.event import MAX_ATTRIBUTE_BYTES, MAX_DEPTH, PREFIXES, STRUCTURED, Event

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["WAYS", "Spoiled", "drawn"]

NEEDED: Final = ("ce_id", "ce_type", "ce_source", "ce_subject")
Pairs = list[tuple[str, bytes]]


class Spoiled(NamedTuple):
    """A message's headers and body, and ``how`` it was made; ``event`` where that says whether it still is an event."""

    how: str
    headers: tuple[tuple[str, bytes], ...]
    value: bytes
    event: bool | None


@lru_cache(maxsize=2)  # several brokers are given the same ones
def drawn(count: int, *, seed: int) -> tuple[Spoiled, ...]:
    """``count`` of them, each good event spoiled in every way there is.

    Hypothesis also tries constants of the code that is loaded, so that it draws in a process of its own, where that is always
    the same. Raises :class:`ImportError` that says what to install where Hypothesis is not there.
    """
    if find_spec("hypothesis") is None:
        raise ImportError("malformed messages are drawn by Hypothesis, which is not installed: pip install hypothesis")
    with TemporaryDirectory(prefix="eda-drawn-") as storage:
        said = subprocess.run(
            [sys.executable, "-m", __name__, str(count), str(seed)],
            env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": storage}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            check=True, process_group=0,  # Ctrl-C reaches us alone, and we end it: it would answer with a traceback of its own
        ).stdout  # fmt: skip
    return tuple(
        Spoiled(how, tuple((name, text.encode("latin-1")) for name, text in headers), value.encode("latin-1"), event)
        for how, headers, value, event in json.loads(said)
    )


def _drawn_here(count: int, seed: int) -> list[Spoiled]:
    import hypothesis

    found: list[Spoiled] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=-(-count // len(WAYS)), database=None, deadline=None, phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(_messages())
    def draw(messages: list[Spoiled]) -> None:
        found.extend(messages)

    draw()
    return found[:count]


def _messages() -> SearchStrategy[list[Spoiled]]:
    from hypothesis import strategies as st

    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
    numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    values = st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=4,
    )
    beside = names.filter(lambda name: not name.startswith((*PREFIXES, "goog")) and name.lower() not in {"id", "content-type"})
    events = st.builds(
        Event, id=st.uuids(version=4).map(str), type=st.sampled_from(["OrderAmended", "OrderPlaced"]) | names, source=names,
        subject=names, data=st.dictionaries(texts, values, max_size=3), sequence=st.none() | st.integers(1),
        headers=st.dictionaries(beside, names, max_size=2), time=st.datetimes(timezones=st.just(UTC)),
    )  # fmt: skip

    @st.composite
    def messages(draw: Callable[[SearchStrategy[Any]], Any]) -> list[Spoiled]:
        good = draw(events)
        noise = st.binary(max_size=40)
        choose = _Choice(lambda low, high: draw(st.integers(low, high)), lambda: draw(texts), lambda: draw(noise))
        found = []
        for how, (spoil, event) in WAYS.items():
            own = replace(good, id=f"{good.id}-{how}")
            headers, value = spoil(choose, [(name, text.encode()) for name, text in own.to_headers()], own.to_value())
            found.append(Spoiled(how, tuple(headers), value, event))
        return found

    return messages()


@dataclass(frozen=True, slots=True)
class _Choice:
    """What a way of spoiling has to choose with: a number from here to there, a text, some bytes."""

    number: Callable[[int, int], int]
    text: Callable[[], str]
    noise: Callable[[], bytes]

    def of(self, *these: Any) -> Any:
        return these[self.number(0, len(these) - 1)]


Spoil = Callable[[_Choice, Pairs, bytes], tuple[Pairs, bytes]]


def _headers(change: Callable[[_Choice, Pairs], Iterable[tuple[str, bytes]]]) -> Spoil:
    return lambda choose, headers, value: (list(change(choose, headers)), value)


def _attribute(name: str, worth: Callable[[_Choice], str | bytes]) -> Spoil:
    """One of the attributes has another value; without a ``name`` one of those that every event needs."""

    def change(choose: _Choice, headers: Pairs) -> Pairs:
        which, text = name or choose.of(*NEEDED), worth(choose)
        return [*(pair for pair in headers if pair[0] != which), (which, text.encode() if isinstance(text, str) else text)]

    return _headers(change)


def _body(change: Callable[[_Choice, bytes], bytes]) -> Spoil:
    return lambda choose, headers, value: (headers, change(choose, value))


def _structured(change: Callable[[_Choice, dict[str, Any]], dict[str, Any]], *, cut: bool = False) -> Spoil:
    """All of the event in its body, and what ``change`` makes of that."""

    def spoil(choose: _Choice, headers: Pairs, value: bytes) -> tuple[Pairs, bytes]:
        whole = {name.removeprefix("ce_"): text.decode() for name, text in headers if name.startswith("ce_")}
        body = json.dumps(change(choose, whole | {"data": json.loads(value)})).encode()
        content = choose.of(STRUCTURED, STRUCTURED.upper(), f"{STRUCTURED}; charset=utf-8")
        return [("content-type", content.encode())], _cut(choose, body) if cut else body

    return spoil


def _cut(choose: _Choice, value: bytes) -> bytes:
    return value[: choose.number(0, len(value) - 1)]


def _flipped(choose: _Choice, value: bytes) -> bytes:
    at = choose.number(0, len(value) - 1)
    return value[:at] + bytes([choose.number(0, 255)]) + value[at + 1 :]


def _of_another_binding(choose: _Choice, headers: Pairs) -> Pairs:
    prefix = choose.of(*PREFIXES)
    return [(prefix + name.removeprefix("ce_") if name.startswith("ce_") else name, text) for name, text in headers]


def _rotated(choose: _Choice, headers: Pairs) -> Pairs:
    at = choose.number(0, len(headers))
    return headers[at:] + headers[:at]


def _jumbled(choose: _Choice, headers: Pairs) -> Iterable[tuple[str, bytes]]:
    names = [*dict(headers), "ce_time", "ce_partitionkey", "ce_dataschema", "ce_sequence", *PREFIXES]
    for _ in range(choose.number(0, 6)):
        name = choose.text() if choose.number(0, 3) == 0 else choose.of(*names)
        yield name, choose.of(dict(headers).get(name, b"1"), choose.text().encode(), choose.noise())


def _without(choose: _Choice, headers: Pairs) -> Pairs:
    gone = choose.of(*NEEDED)
    return [pair for pair in headers if pair[0] != gone]


def _without_one(choose: _Choice, whole: dict[str, Any]) -> dict[str, Any]:
    gone = choose.of("id", "type", "source", "subject", "data")
    return {name: worth for name, worth in whole.items() if name != gone}


def _not_as_text(choose: _Choice, whole: dict[str, Any]) -> dict[str, Any]:
    return whole | {choose.of("id", "type", "source", "subject"): choose.of(17, [], {}, True, None)}


def _extended(choose: _Choice, whole: dict[str, Any]) -> dict[str, Any]:
    prefixed = choose.of(*PREFIXES) + choose.of("id", "subject", "tenant", "")
    name = choose.of(choose.text(), prefixed, "dataschema", "partitionkey", "Content-Type")
    return whole | {name: choose.of(1, "\ud800", choose.text(), None)}


def _at_the_end_of_time(choose: _Choice) -> str:
    day, hour, sign = choose.of("0001-01-01", "9999-12-31"), choose.of("00", "23"), choose.of("+", "-")
    return f"{day}T{hour}:59:00{sign}{choose.number(10, 23)}:00"


def _of_no_zone(choose: _Choice) -> str:
    return f"20{choose.number(10, 99)}-02-0{choose.number(1, 9)}T10:00:00"


def _too_deep(choose: _Choice, _: bytes) -> bytes:
    depth = choose.number(MAX_DEPTH + 1, 2_000)
    return b'{"d":' * depth + b"1" + b"}" * depth


def _with_halves(choose: _Choice, _: bytes) -> bytes:
    return rb'{"\ud8%02x": "\udc%02x"}' % (choose.number(0, 255), choose.number(0, 255))


_ANY: Final = ""
NO_EVENT: Final[Mapping[str, Spoil]] = {
    "attribute missing": _headers(_without),
    "attribute empty": _attribute(_ANY, lambda choose: ""),
    "attribute not UTF-8": _attribute(_ANY, lambda choose: choose.noise() + b"\xff"),
    "attribute with a zero byte": _attribute(_ANY, lambda choose: f"{choose.text()}\0"),
    "attribute too long": _attribute(_ANY, lambda choose: "x" * choose.number(MAX_ATTRIBUTE_BYTES + 1, 2_000)),
    "no headers": _headers(lambda choose, headers: []),
    "not 1.x": _attribute("ce_specversion", lambda choose: f"{choose.of(0, 2, 'x')}.{choose.text()}"),
    "time unreadable": _attribute("ce_time", lambda choose: f"at {choose.text()}"),
    "time of no zone": _attribute("ce_time", _of_no_zone),
    "sequence no number": _attribute("ce_sequence", lambda choose: f"{choose.text()}x"),
    "body cut": _body(_cut),
    "body no object": _body(lambda choose, value: choose.of(b"[%b]" % value, b"null", b"17", b'"text"', b"[]")),
    "body with no number": _body(lambda choose, value: b'{"n": %b}' % choose.of(b"NaN", b"Infinity", b"-Infinity")),
    "body with too large a number": _body(lambda choose, value: b'{"n": %b}' % choose.of(b"1e999", b"-1e999", b"9" * 5_000)),
    "body with half a character": _body(_with_halves),
    "body too deep": _body(_too_deep),
    "structured, attribute missing": _structured(_without_one),
    "structured, attribute no text": _structured(_not_as_text),
    "structured, data in base64": _structured(lambda choose, whole: whole | {"data_base64": "e30="}),
    "structured, cut": _structured(lambda choose, whole: whole, cut=True),
}
STILL_AN_EVENT: Final[Mapping[str, Spoil]] = {
    "untouched": _headers(lambda choose, headers: headers),
    "structured": _structured(lambda choose, whole: whole),
    "another binding's prefix": _headers(_of_another_binding),
    "headers in another order": _headers(_rotated),
    "a header of noise": _headers(lambda choose, headers: [*headers, ("signature", choose.noise())]),
}
PERHAPS: Final[Mapping[str, Spoil]] = {
    "headers jumbled": _headers(_jumbled),
    "time at the end of all": _attribute("ce_time", _at_the_end_of_time),
    "sequence of any size": _attribute("ce_sequence", lambda choose: "9" * choose.number(1, 6_000)),
    "body of noise": _body(lambda choose, value: choose.noise()),
    "body with a byte changed": _body(_flipped),
    "body in UTF-16": _body(lambda choose, value: value.decode().encode(choose.of("utf-16", "utf-16-le", "utf-32"))),
    "structured, an extension of any kind": _structured(_extended),
}
WAYS: Final[Mapping[str, tuple[Spoil, bool | None]]] = {
    how: (spoil, event)
    for ways, event in ((NO_EVENT, False), (STILL_AN_EVENT, True), (PERHAPS, None))
    for how, spoil in ways.items()
}


if __name__ == "__main__":
    json.dump(
        [(one.how, [(name, text.decode("latin-1")) for name, text in one.headers], one.value.decode("latin-1"), one.event)
         for one in _drawn_here(int(sys.argv[1]), int(sys.argv[2]))],
        sys.stdout,
    )  # fmt: skip
