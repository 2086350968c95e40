"""Show the code a cell is about to run, from the module it lives in: nothing is pasted, so nothing can drift."""

from __future__ import annotations

import inspect
import textwrap
from types import CodeType, FrameType, FunctionType, MethodType, ModuleType

from IPython.display import Markdown

__all__ = ["show"]


def show(thing: ModuleType | type | FunctionType | MethodType | CodeType | FrameType) -> Markdown:
    """The source of a function, class or module, where it stands, for a notebook to render."""
    module = inspect.getmodule(thing)
    code = textwrap.dedent(inspect.getsource(thing)).rstrip()
    return Markdown(  # type: ignore[no-untyped-call]
        f"`{module.__name__ if module else '?'}`\n\n```python\n{code}\n```"
    )
