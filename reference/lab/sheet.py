"""How a notebook breaks lines that are too long for its place beside the board: between words, and not within them.

JupyterLab breaks printed lines, and code that is shown, at any letter, and has no setting for that.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["Sheet"]

RULES: Final = ".jp-OutputArea-output pre { word-break: normal; overflow-wrap: anywhere; }"


class Sheet:
    """Shown once in a notebook, it holds for all of it. GitHub and a terminal show nothing in its place."""

    def __repr__(self) -> str:
        return ""

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/html": f"<style>{RULES}</style>", "text/plain": repr(self)}
