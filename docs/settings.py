"""``make docs``: docs/settings.md, written anew from the settings themselves. ``--check`` only compares."""

from __future__ import annotations

import inspect
import sys
from datetime import timedelta
from pathlib import Path
from types import ModuleType

from reference.brokers.kafka import settings as kafka
from reference.brokers.pubsub import settings as pubsub
from reference.brokers.rabbitmq import settings as rabbitmq
from reference.brokers.settings import NotTaken, Setting, Settings

PAGE = Path(__file__).parent / "settings.md"
BROKERS = {"Kafka": kafka, "RabbitMQ": rabbitmq, "Pub/Sub": pubsub}
INTRODUCTION = """\
# Settings to start from

Every value below can be imported, has been given to the real client or broker by a test, and says why it is what it is.
A group is a mapping: `{**PRODUCER, "linger.ms": 20}` is yours, `PRODUCER.why("linger.ms")` is the reason. The guide is the
text on event-driven architecture that the labs follow, its sections named by their titles. It is not part of this repository,
and nothing here needs it: where it says something else, what it says stands beside.

Each broker's second table is what does not do what it reads: refused, ignored, renamed, needless or harmful. What it says is
shown by a test, or has its source beside it.

This page is written by `make docs`.
"""


def page() -> str:
    return "\n".join([INTRODUCTION, *(_chapter(name, module) for name, module in BROKERS.items())])


def _chapter(name: str, module: ModuleType) -> str:
    groups = {key: value for key, value in vars(module).items() if isinstance(value, Settings)}
    about = (inspect.getdoc(module) or "").partition("\n\n")[2].replace("``", "`")
    sections = [_group(module.__name__, key, group) for key, group in groups.items()]
    return "\n".join(
        [f"## {name}\n", about, "", *sections, f"### {name}: what does not work as it reads\n", _known(module.NOT_TAKEN)]
    )


def _group(module: str, name: str, group: Settings) -> str:
    rows = [[f"`{s.name}`", f"`{_value(s)}`", s.reason, s.guide, s.guide_says] for s in group.settings]
    heading = f"### {group.title}\n\n`from {module} import {name}`, then `{group.call}`\n"
    return "\n".join([heading, _table(["setting", "value", "why", "guide", "the guide says"], rows)])


def _known(entries: tuple[NotTaken, ...]) -> str:
    columns = ["setting", "often said", "", "what happens", "write instead", "guide"]
    return _table(columns, [[e.name, e.says, e.outcome, _happens(e), e.instead, e.guide] for e in entries])


def _happens(entry: NotTaken) -> str:
    said = f" (“{entry.error}”)" if entry.error else ""
    source = f" ([source]({entry.source}))" if entry.source else ""
    return f"{entry.happens}{said}{source}"


def _value(setting: Setting) -> str:
    if not isinstance(setting.value, timedelta):
        return str(setting.value)
    days, seconds = setting.value.days, setting.value.seconds
    return f"{days} days" if days else f"{seconds} s"


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    if "--check" not in sys.argv:
        PAGE.write_text(page())
    elif not PAGE.exists() or PAGE.read_text() != page():
        sys.exit(f"{PAGE.name} is not what the settings say: make docs")
