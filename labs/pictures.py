"""``make pictures``: the pictures in README and labs, drawn from a real run and from nothing else."""

from __future__ import annotations

from pathlib import Path

from reference.lab import Lab, scenes
from reference.orders.writing import commit_with_outbox

DOCS = Path(__file__).parent.parent / "docs"


def board() -> None:
    """A relay is killed between publish and delete, the consumer is paused and goes on: every panel has something to show."""
    lab = Lab.open(1)
    lab.backlog(changes=4)
    with lab.board(faults={"pause consumer": lab.pause, "resume": lab.resume}) as shown, lab.warehouse():
        scenes.killed_relay(lab, "published")
        with lab.relay():
            lab.settle()
            for changes in (8, 12):
                lab.write(commit_with_outbox, changes=changes)
                if changes == 8:
                    lab.settle()
                    shown.press("pause consumer")
            lab.wait_for_lag(240)
            shown.press("resume")
            lab.settle()
    (DOCS / "board.svg").write_text(shown.snapshot().svg)


if __name__ == "__main__":
    DOCS.mkdir(exist_ok=True)
    board()
