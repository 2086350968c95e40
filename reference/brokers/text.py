"""Text as a wire can carry it."""

from __future__ import annotations

__all__ = ["is_utf8"]


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can write it: a file name or broken JSON may leave half of a character, a lone surrogate, behind."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
