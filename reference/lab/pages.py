"""The web pages of what runs, as links that open wherever the notebook does.

The stack's states enter, links leave. In JupyterLab they lead through jupyter-server-proxy, since on Binder and JupyterHub the
services listen where the browser is not; as text they are addresses on this machine. A password travels to the browser when
somebody asks for it there, and is in nothing that a notebook keeps: neither in its outputs nor in the state of its widgets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

import anywidget
import traitlets

from reference.stack import Page, State, status
from reference.stack.catalog import SERVICES
from reference.stack.verbs import Where

__all__ = ["Pages"]

PATIENCE_S: Final = 5.0
UNKNOWN: Final = "-"  # stands where a password will
HERE: Final = {"127.0.0.1", "localhost"}  # what jupyter-server-proxy reaches unless it is told more
_OPENER: Final = build_opener(ProxyHandler({}))  # a proxy would ask its own loopback


class Pages(anywidget.AnyWidget):
    """Use :meth:`of_stack`. ``pages`` by service; ``missing`` says of each other service that has a page why it is left out."""

    _esm = Path(__file__).with_name("pages.js")
    _css = Path(__file__).with_name("pages.css")
    links = traitlets.List(traitlets.Dict()).tag(sync=True)
    missing = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(self, pages: Mapping[str, Page], missing: Sequence[str] = ()) -> None:
        self._pages = dict(pages)
        links = [
            {"name": name, "address": page.address, "port": _port(page.address), "user": page.user}
            for name, page in self._pages.items()
        ]
        super().__init__(links=links, missing=list(missing))
        self.on_msg(self._on_message)

    @classmethod
    def of_stack(cls, *, home: Where = None) -> Self:
        """Of the services that run now, each asked for its page once."""
        pages, missing = dict[str, Page](), list[str]()
        for state in status(home=home):
            if state.page is None:
                missing += [f"{state.name} is {_how(state)}: eda up {state.name}"] if _would_have_one(state) else []
            elif silence := _silence(state.page.address):
                missing.append(f"{state.name} has no page that answers at {state.page.address}: {silence}")
            else:
                pages[state.name] = state.page
        return cls(pages, missing)

    def __repr__(self) -> str:
        """What a terminal, GitHub and a saved notebook show."""
        where = "whose password is in the URL of: eda status --json"
        shown = [f"{name}: {page.address} as {page.user}, {where}" for name, page in self._pages.items()]
        return "\n".join([*shown, *self.missing]) or "nothing that runs has a web page"

    def _on_message(self, _: object, content: dict[str, Any], __: object) -> None:
        page = self._pages.get(content.get("show", ""))
        if page is not None:
            self.send({"show": content["show"], "password": page.password})


def _would_have_one(state: State) -> bool:
    service = SERVICES[state.name]
    return not state.is_ready and service.page(service.url(ports=service.ports, password=UNKNOWN)) is not None


def _how(state: State) -> str:
    return state.state if state.state in {"frozen", "starting"} else "not running"


def _silence(address: str) -> str:
    """Why nobody answers there, or the empty string."""
    try:
        _OPENER.open(address, timeout=PATIENCE_S).close()
    except (OSError, HTTPException) as error:
        return str(error)
    return ""


def _port(address: str) -> int | None:
    """The port to ask jupyter-server-proxy for; ``None`` for a page elsewhere, which the browser has to reach itself."""
    parts = urlsplit(address)
    return parts.port if parts.scheme == "http" and parts.hostname in HERE else None
