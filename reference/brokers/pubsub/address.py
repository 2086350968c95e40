"""``pubsub://`` addresses: a project, and where an emulator of it is, if it is one."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import parse_qsl, urlsplit

__all__ = ["PubSubAddress"]

PROJECT: Final = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
OPTIONS: Final = {"exactly_once": False, "ordered": True}


@dataclass(frozen=True, slots=True)
class PubSubAddress:
    """``emulator`` is ``HOST:PORT``, or ``None`` for the real service. Nothing in it is secret."""

    project: str
    emulator: str | None = None
    exactly_once: bool = False
    ordered: bool = True

    @classmethod
    def parse(cls, url: str) -> Self:
        """``pubsub://PROJECT``, or ``pubsub://PROJECT@HOST:PORT`` for an emulator.

        Without a host, ``PUBSUB_EMULATOR_HOST`` is honoured, as by every client of Google's. ``?exactly_once=true`` makes
        subscriptions whose acks are confirmed; ``?ordered=false`` makes them without order per key. Raises
        :class:`ValueError` that says what a right address looks like.
        """
        parts = urlsplit(url)
        project, _, host = parts.netloc.partition("@")
        if parts.scheme != "pubsub" or parts.path.strip("/") or (host and not _is_host_and_port(host)):
            raise ValueError(
                f"not a Pub/Sub address: {url!r}; write pubsub://PROJECT, or pubsub://PROJECT@HOST:PORT for an emulator"
            )
        if not PROJECT.fullmatch(project):
            raise ValueError(
                f"{project!r} is no project id: it has 6 to 30 lower-case letters, digits and hyphens, begins with a letter"
                " and does not end with a hyphen"
            )
        options = OPTIONS | {name: _is_true(name, text) for name, text in parse_qsl(parts.query, keep_blank_values=True)}
        return cls(project, host or os.environ.get("PUBSUB_EMULATOR_HOST") or None, **options)

    @property
    def url(self) -> str:
        """Safe to print; it names the emulator even when the environment did."""
        changed = [
            f"{name}={str(getattr(self, name)).lower()}" for name, usual in OPTIONS.items() if getattr(self, name) != usual
        ]
        at = f"@{self.emulator}" if self.emulator else ""
        return f"pubsub://{self.project}{at}" + ("?" + "&".join(changed) if changed else "")


def _is_host_and_port(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdigit()


def _is_true(name: str, text: str) -> bool:
    if name not in OPTIONS:
        raise ValueError(f"a Pub/Sub address has no option {name!r}: there are {' and '.join(OPTIONS)}")
    if text not in {"true", "false"}:
        raise ValueError(f"option {name!r} of a Pub/Sub address is true or false, not {text!r}")
    return text == "true"
