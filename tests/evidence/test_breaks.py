"""Whether the proof proves anything: of a checker that is broken in any one way it falls."""

from __future__ import annotations

import pytest

from tests.evidence.breaks import BREAKS, Break, broken, fallen


@pytest.mark.parametrize("wrong", BREAKS, ids=lambda wrong: wrong.says)
def test_every_break_is_noticed(wrong: Break) -> None:
    """By a clean history that is called wrong, by an edit that is not named, or by a second opinion."""
    with broken(wrong) as checker:
        assert fallen(checker)


def test_a_copy_without_a_break_holds() -> None:
    """So it is the break that is noticed, and not the copying."""
    with broken(None) as checker:
        assert not fallen(checker, worlds=20, histories=50)


def test_a_break_that_breaks_nothing_any_more_is_told() -> None:
    """The checker's text moves on; a break that is not made proves nothing."""
    with pytest.raises(ValueError, match="stands 0 times in log"), broken(Break("gone", "log", "no such text", "")):
        pass
