"""``make docs``: what the code knows better than we do, written anew in README and docs. ``--check`` only compares."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from reference.brokers import connect
from reference.brokers.promises import table
from reference.evidence.campaign import EXPERIMENTS

README = Path(__file__).parent.parent / "README.md"
CAMPAIGN = Path(__file__).with_name("campaign.md")
# Adapters connect at their first request: their capabilities can be asked of an address where nobody is.
ADDRESSES = {
    "Kafka": "kafka://127.0.0.1:9",
    "RabbitMQ": "amqp://127.0.0.1:9",
    "Pub/Sub emulator": "pubsub://lab-project@127.0.0.1:9",
    "the same with `?ordered=false`": "pubsub://lab-project@127.0.0.1:9?ordered=false",
}


def promises() -> str:
    """Broker × promise, from the adapters' own capabilities."""
    brokers = {name: connect(url) for name, url in ADDRESSES.items()}
    found = table({name: broker.capabilities for name, broker in brokers.items()})
    for broker in brokers.values():
        broker.close()
    return found


def with_block(text: str, name: str, content: str) -> str:
    """``text`` with what stands between the two marks of ``name`` replaced. Raises :class:`ValueError` without the marks."""
    pattern = re.compile(f"(<!-- {name}: [^>]* -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"no marks for {name!r} in the text")
    return pattern.sub(lambda marks: f"{marks[1]}{content}\n{marks[2]}", text)


def experiments() -> str:
    """Every experiment in the words of its module, each said once."""
    names: dict[str, list[str]] = {}
    for experiment in EXPERIMENTS.values():
        names.setdefault(experiment.run.__module__, []).append(f"`{experiment.name}`")
    said = {", ".join(named): (sys.modules[module].__doc__ or "").strip() for module, named in names.items()}
    return "\n\n".join(f"**{named}** · {text.replace('``', '`')}" for named, text in said.items())


PAGES = {README: {"promises": promises}, CAMPAIGN: {"experiments": experiments}}

if __name__ == "__main__":
    for page, blocks in PAGES.items():
        old = new = page.read_text()
        for name, written in blocks.items():
            new = with_block(new, name, written())
        if "--check" not in sys.argv:
            page.write_text(new)
        elif old != new:
            sys.exit(f"{page.name} is not what the code says: make docs")
