"""How a lab answers: cards of checks and predictions, in words that need no colour."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reference.evidence.checker import Verdict
from reference.lab.card import COLOURS, Card
from reference.lab.predictions import Predictions, compared


class Words(HTMLParser):
    """What is left when a page takes all styles away, as GitHub does."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self.folded: list[str] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, _: object) -> None:
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            (self.folded if "details" in self._open and "summary" not in self._open else self.said).append(data.strip())


def predicted(**counts: int) -> Card | None:
    predictions = Predictions()
    predictions.make(counts)
    return predictions.compare(Verdict(acknowledged=180, lost=20))


def test_a_guess_stands_beside_what_happened() -> None:
    """What was said, what it was, and whether that is right: as a table, and in as many lines of text."""
    card = predicted(lost=0, committed=180, applied_twice=0)
    assert card is not None
    assert Words(card.html).said == [
        "your guess", "· 2 of 3 right", "you said", "it was",
        "lost", "0", "20", "not so", "committed", "180", "180", "right", "applied twice", "0", "0", "right",
    ]  # fmt: skip
    assert repr(card) == "you said 0 lost; it was 20\nyou said 180 committed: right\nyou said 0 applied twice: right"


def test_a_guess_is_compared_once() -> None:
    """The next run has guesses of its own, or none."""
    predictions = Predictions()
    predictions.make({"lost": 0})
    assert (predictions.compare(Verdict()) is None, predictions.compare(Verdict())) == (False, None)


def test_a_guess_of_nothing_known_says_what_can_be_guessed() -> None:
    """By the names that the verdict uses."""
    with pytest.raises(ValueError, match=r"cannot predict losses; choose from applied, applied_twice, .*committed"):
        predicted(losses=1)
    with pytest.raises(ValueError, match="nothing was found out about soonest; there is lost"):
        compared({"soonest": "kafka"}, {"lost": 0})


def test_right_and_wrong_differ_in_words_and_in_tone() -> None:
    """A wrong guess is no fault: it has the tone of a hint."""
    cards = {name: compared({"lost": 0}, {"lost": found}) for name, found in {"right": 0, "wrong": 1}.items()}
    assert {name: card.tone for name, card in cards.items()} == {"right": "good", "wrong": "hint"}
    assert Words(cards["right"].html).said != Words(cards["wrong"].html).said


def test_a_failed_check_folds_its_hint_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without styles too: what was found is said, the hint is inside ``details``; as text both are there."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "labs"), *sys.path])
    from checks.report import Report

    told = Report(False, "lost 3 & more", "read <first>")._repr_mimebundle_()
    words = Words(told["text/html"])
    assert (words.said, words.folded) == (["not yet", "· lost 3 & more", "Hint"], ["read <first>"])
    assert told["text/plain"] == "not yet · lost 3 & more\nhint: read <first>"
    passed = Report(True, "lost 0", "read <first>")
    assert (repr(passed), Words(passed.card.html).folded) == ("passed · lost 0", [])


def test_a_card_depends_on_no_style_sheet_and_no_theme() -> None:
    """No class, script or identifier, no colour of ink: it reads on a dark page as on a light one."""
    for tone in COLOURS:
        html = Card(tone=tone, title="t", plain="t", words="w", heads=("a",), rows=[("b",)], hint="h").html
        assert not re.search(r"<(script|style)|class=|\bid=|[^-]color:", html)
        assert html == Card(tone=tone, title="t", plain="t", words="w", heads=("a",), rows=[("b",)], hint="h").html
