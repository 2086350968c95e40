"""Why a line is no record, in one line that names the field and what stands there.

pydantic's first complaint enters, a sentence leaves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError

__all__ = ["reason"]

MUST_BE: Final = {
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
}
SHOWN: Final = 40  # letters of what stands there
PLACE: Final = re.compile(r" at line (\d+) column (\d+)$")


def reason(error: ValidationError, names: Sequence[str]) -> str:
    """``names`` are those that a record's fields may have."""
    first: Any = error.errors(include_url=False)[0]
    kind, found = first["type"], first["input"]
    if kind == "json_invalid":
        return f"it is no JSON: {PLACE.sub(_column, first['ctx']['error'])}"
    if not first["loc"]:
        return f"it must be a JSON object, and is {_shown(found)}"
    name = ".".join(map(str, first["loc"]))
    field = name if name in names else _named(name)
    if kind == "missing":
        return f"{field}: missing, and every record needs it"
    if kind == "unexpected_keyword_argument":
        return f"{field}: no field is called that{_instead(name, names)}"
    if kind == "literal_error":
        allowed = first["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return f"{field}: {_shown(found)} is none that is known{_instead(found, allowed)}"
    return f"{field}: must be {MUST_BE[kind]}, and is {_shown(found)}" if kind in MUST_BE else f"{field}: {first['msg']}"


def _instead(found: object, known: Sequence[str]) -> str:
    near = get_close_matches(str(found), known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"


def _column(place: re.Match[str]) -> str:
    """Of the one line there is, whose number in the file is told already; its end has no column worth telling."""
    return f" at column {place[2]}" if place[1] == "1" else ""


def _named(name: str) -> str:
    """A name that nobody knows: as it stands where that is a word, and else as a value is shown."""
    return name if len(name) <= SHOWN and name.isidentifier() else _shown(name)


def _shown(found: object) -> str:
    """In one line, whatever is in it: letters that end a line, steer a terminal or turn the writing around are escaped."""
    words = json.dumps(found, ensure_ascii=False)
    words = words if len(words) <= SHOWN else f"{words[:SHOWN]}…"
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in words)
