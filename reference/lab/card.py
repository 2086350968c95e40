"""A card: how a lab answers a learner, the same for checks, predictions and hints.

Words enter, HTML and plain text leave; the same words give the same text, letter by letter, so that nbval may compare it. The
words carry the meaning: GitHub takes the colours away, and a terminal has none. No style sheet, script or identifier is in it,
and the colours stand on a dark page as on a light one: the ground is a breath of the edge's colour, the ink the page's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final, Literal

from reference.live.palette import LIGHT

__all__ = ["Card", "Tone"]

Tone = Literal["good", "not yet", "hint"]
COLOURS: Final[dict[Tone, str]] = {"good": LIGHT["good"], "not yet": LIGHT["warn"], "hint": LIGHT["moving"]}
BREATH: Final = "1f"  # an eighth: enough to be seen on white and on black
BOX: Final = "border-left:5px solid {edge};background:{edge}{breath};padding:.5em .9em;margin:.3em 0;max-width:46em"
CELL: Final = "text-align:left;padding:.1em 1.5em .1em 0;background:none"
Rows = Sequence[Sequence[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """``title`` in a word or two, ``words`` beside it, a table of ``rows`` under its ``heads``, and a ``hint``, folded away.

    ``plain`` is the whole of it as text, for a terminal, for GitHub and for nbval.
    """

    tone: Tone
    title: str
    plain: str
    words: str = ""
    heads: Sequence[str] = ()
    rows: Rows = ()
    hint: str = ""

    def __repr__(self) -> str:
        return self.plain

    @property
    def html(self) -> str:
        box = BOX.format(edge=COLOURS[self.tone], breath=BREATH)
        parts = [f"<strong>{escape(self.title)}</strong>" + (f" · {escape(self.words)}" if self.words else "")]
        if self.rows:
            parts.append(_table(self.heads, self.rows))
        if self.hint:
            parts.append(f"<details><summary>Hint</summary>{escape(self.hint)}</details>")
        return "\n".join([f'<div role="note" style="{box}">', *parts, "</div>"])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.plain}


def _table(heads: Sequence[str], rows: Rows) -> str:
    lines = [_row("th", heads), *(_row("td", row) for row in rows)]
    return "\n".join(['<table style="margin:.3em 0 0">', *lines, "</table>"])


def _row(tag: str, cells: Sequence[object]) -> str:
    told = (f'<{tag} style="{CELL}">{escape(str(cell))}</{tag}>' for cell in cells)
    return f'<tr style="background:none">{"".join(told)}</tr>'
