"""Whether this is a notebook's program, and which."""

from __future__ import annotations

from typing import Any

from IPython.core.getipython import get_ipython

__all__ = ["kernel"]


def kernel() -> Any:
    """The kernel that runs this, or ``None`` where none does: in a script, in a test, in a terminal's IPython."""
    return getattr(get_ipython(), "kernel", None)
