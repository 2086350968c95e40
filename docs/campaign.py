"""``python docs/campaign.py ROWS.jsonl``: the table in docs/campaign.md, from what ``eda campaign --json`` printed.

Rows of an experiment and a broker that are not in the file stay as they are, so that one can be run again by itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from build import with_block

PAGE = Path(__file__).with_name("campaign.md")
NAMES = {"kafka": "Kafka", "amqp": "RabbitMQ", "pubsub": "Pub/Sub emulator", "memory": "none"}
COLUMNS = (
    "experiment", "broker", "faults", "events", "lost", "duplicates", "applied twice", "out of order", "recovery s", "control",
    "outcome",
)  # fmt: skip


def line(row: dict[str, Any]) -> str:
    """One row of the table; what else was found, and why, stands with the outcome."""
    recovery = row.get("recovery s") or {}
    controls = [f"{name.removeprefix('control: ')}: {said}" for name, said in row.items() if name.startswith("control: ")]
    shown = row | {
        "broker": NAMES.get(row["broker"].partition(":")[0], row["broker"]),
        "recovery s": f"{recovery['median']} / {recovery['longest']}" if recovery else "–",
        "control": "; ".join(controls) or "–",
    }
    known = {*COLUMNS, "name", "seed", "planned", "seconds", "because", "shown", "tolerated", "note"}
    found = [f"{name} {count}" for name, count in row.items() if name not in known and not name.startswith("control: ")]
    shown["outcome"] = ". ".join(filter(None, [row["outcome"], row.get("because", ""), ", ".join(found), row.get("note", "")]))
    return "| " + " | ".join(f"{shown[name]:,}" if isinstance(shown[name], int) else str(shown[name]) for name in COLUMNS) + " |"


def table(rows: list[dict[str, Any]], old: list[str]) -> str:
    """The table, with ``old`` lines kept where nothing newer is known; an experiment's lines stand together."""
    lines = {tuple(text.removeprefix("| ").split(" | ")[:2]): text for text in (*old, *map(line, rows))}
    experiments, brokers = list(dict.fromkeys(name for name, _ in lines)), list(NAMES.values())
    lines = dict(sorted(lines.items(), key=lambda one: (experiments.index(one[0][0]), brokers.index(one[0][1]))))
    head = ["| " + " | ".join(COLUMNS) + " |", "| " + " | ".join("---" for _ in COLUMNS) + " |"]
    return "\n".join([*head, *lines.values()])


if __name__ == "__main__":
    page = PAGE.read_text()
    kept = [text for text in page.splitlines() if text.startswith("| ") and not text.startswith(("| experiment", "| ---"))]
    rows = [json.loads(text) for path in sys.argv[1:] for text in Path(path).read_text().splitlines() if text.startswith("{")]
    PAGE.write_text(with_block(page, "figures", table(rows, kept)))
