"""Waiting for an answer, whoever runs the service: what ends it, and what is said then."""

from __future__ import annotations

import pytest

from reference.stack import StackError, answering
from reference.stack.answering import await_answer
from reference.stack.catalog import SERVICES
from reference.stack.postgres import Postgres

POSTGRES = SERVICES["postgres"]


def asked_of(monkeypatch: pytest.MonkeyPatch, *answers: Exception | None) -> list[str]:
    """Postgres answers with these, one after the other, and with the last for ever. Returns where it was asked."""
    asked = list[str]()

    def probe(_: Postgres, url: str) -> None:
        asked.append(url)
        if (answer := answers[min(len(asked), len(answers)) - 1]) is not None:
            raise answer

    monkeypatch.setattr(Postgres, "probe", probe)
    return asked


def test_it_returns_with_the_first_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the client raised before."""
    asked = asked_of(monkeypatch, OSError("refused"), ValueError("not yet"), None)
    await_answer(POSTGRES, "postgresql://here", hint=lambda: "")
    assert asked == 3 * ["postgresql://here"]


def test_what_has_stopped_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error ends with where to look."""
    asked_of(monkeypatch, OSError("refused"))
    with pytest.raises(StackError, match=r"^postgres stopped while it was starting\. See the log$"):
        await_answer(POSTGRES, "postgresql://here", hint=lambda: "See the log", runs=lambda: False)


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the client said last, and where to look."""
    asked_of(monkeypatch, OSError("refused"))
    monkeypatch.setattr(answering, "PATIENCE_S", 0)
    with pytest.raises(StackError, match=r"^postgres did not answer in 0 s: refused\. See the log$"):
        await_answer(POSTGRES, "postgresql://here", hint=lambda: "See the log")


def test_what_cannot_be_asked_is_not_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is not installed will not be there in a minute either."""
    asked = asked_of(monkeypatch, StackError("pip install it"))
    with pytest.raises(StackError, match="pip install it"):
        await_answer(POSTGRES, "postgresql://here", hint=lambda: "")
    assert len(asked) == 1
