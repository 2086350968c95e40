"""Messages that should have been events: drawn the same for the same seed, and spoiled in the way they say."""

from __future__ import annotations

from collections import Counter

import pytest

from reference.event import Event, InvalidEvent
from reference.evidence import spoiled
from reference.evidence.spoiled import WAYS, Spoiled, drawn

SOME = 10 * len(WAYS)


@pytest.fixture(scope="module")
def some() -> tuple[Spoiled, ...]:
    return drawn(SOME, seed=1)


def reads(message: Spoiled) -> bool:
    try:
        return bool(Event.from_wire(message.headers, message.value))
    except InvalidEvent:
        return False


def test_every_way_to_spoil_an_event_is_drawn(some: tuple[Spoiled, ...]) -> None:
    """As often as every other one."""
    assert Counter(message.how for message in some) == dict.fromkeys(WAYS, 10)


def test_the_same_seed_draws_the_same_messages(some: tuple[Spoiled, ...]) -> None:
    """To the last byte, in another process; another seed draws others."""
    drawn.cache_clear()
    assert drawn(SOME, seed=1) == some
    assert drawn(SOME, seed=2) != some


def test_what_is_known_of_a_message_is_so(some: tuple[Spoiled, ...]) -> None:
    """Where it says that a message is an event, it is read as one, and where it says that it is none, it is not."""
    wrong = [message for message in some if message.event is not None and reads(message) != message.event]
    assert (wrong, {message.event for message in some}) == ([], {True, False, None})


def test_without_hypothesis_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this needs it."""
    monkeypatch.setattr(spoiled, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install hypothesis"):
        drawn(1, seed=3)
