"""``make docs``: the parts of README that the code knows better than we do, written anew. ``--check`` only compares."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from reference.brokers import connect
from reference.brokers.promises import table

README = Path(__file__).parent.parent / "README.md"
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
    pattern = re.compile(f"(<!-- {name}: make docs -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"no marks for {name!r} in the text")
    return pattern.sub(lambda marks: f"{marks[1]}{content}\n{marks[2]}", text)


if __name__ == "__main__":
    old = README.read_text()
    new = with_block(old, "promises", promises())
    if "--check" in sys.argv:
        sys.exit("README.md is not what the code says: make docs" if old != new else 0)
    README.write_text(new)
