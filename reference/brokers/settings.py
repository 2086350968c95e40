"""Reference configurations: a value, why it is that value, where the guide speaks of it, and where it says otherwise.

Each broker has its own in ``reference.brokers.<broker>.settings``, beside the adapter that uses them: groups of
:class:`Setting`, and ``NOT_TAKEN``, what a client or broker refuses, ignores or calls by another name. Pure data: nothing
connects, and every value has been given to the real client or broker by a test. "Guide" is the subject guide these labs
follow; its sections are named by their titles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal, TypeAlias

__all__ = ["NotTaken", "Outcome", "Setting", "Settings", "Value"]

Value: TypeAlias = str | int | float | bool | timedelta
Outcome = Literal["refused", "ignored", "renamed", "needless", "harmful"]


@dataclass(frozen=True, slots=True)
class Setting:
    """One value under the name its client gives it.

    ``reason`` says why this value and what breaks with another; ``guide`` names sections of the guide, and
    ``guide_says`` its value where that is another one.
    """

    name: str
    value: Value
    reason: str
    guide: str = ""
    guide_says: str = ""


class Settings(Mapping[str, Any]):
    """A group of settings that one call takes: ``f(**GROUP)`` or ``{**GROUP, "name": mine}``; ``call`` shows that call."""

    def __init__(self, title: str, *settings: Setting, call: str) -> None:
        self.title: Final = title
        self.call: Final = call
        self.settings: Final = settings
        self._by_name: Final = {setting.name: setting for setting in settings}
        if len(self._by_name) < len(settings):
            raise ValueError(f"a setting is twice in the group {title!r}")

    def __getitem__(self, name: str) -> Any:
        return self._by_name[name].value

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"Settings({self.title!r}, {dict(self)})"

    def why(self, name: str) -> str:
        """The reason for one value; raises :class:`KeyError` for a name that is not in the group."""
        return self._by_name[name].reason

    def as_text(self) -> dict[str, str]:
        """The values as text, as configurations of topics and brokers are sent: ``true``, not ``True``."""
        return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in self.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class NotTaken:
    """A setting that does not do what it was set for.

    ``says`` is what the guide, or a widespread habit, sets; ``happens`` what comes of it, on the versions named in the
    broker's module. ``error`` is part of the refusal's own words. ``source`` is an address for what no test here can show;
    everything else is shown by a test on the real client or broker.
    """

    name: str
    says: str
    outcome: Outcome
    happens: str
    instead: str
    guide: str = ""
    error: str = ""
    source: str = ""
