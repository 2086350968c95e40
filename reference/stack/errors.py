"""What can go wrong with a stack, said in one line that a person can act on."""

from __future__ import annotations

__all__ = ["StackDown", "StackError"]


class StackError(RuntimeError):
    """The stack could not do what was asked; the message says what, and what to do about it."""


class StackDown(StackError):
    """What was asked for is not running, or frozen; the message says which, and names the command that ends it."""
