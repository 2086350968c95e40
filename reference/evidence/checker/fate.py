"""One event's story, in counts: how the attempts to write it ended, and who was given it, applied it, acked it."""

from __future__ import annotations

from dataclasses import dataclass, field

from reference.evidence.history import Record

__all__ = ["Fate", "Write"]


@dataclass(slots=True)
class Write:
    """How the attempts to commit, or to publish, one event ended."""

    attempts: int = 0
    open: int = 0
    ok: bool = False
    failed: bool = False
    unanswered: bool = False

    def note(self, phase: str) -> None:
        if phase == "invoke":
            self.attempts += 1
            self.open += 1
            return
        self.attempts += not self.open
        self.open -= self.open > 0
        self.ok |= phase == "ok"
        self.failed |= phase == "fail"
        self.unanswered |= phase == "info"

    @property
    def unknown(self) -> bool:
        """Nobody can say whether it happened: an attempt has no end, or its end was that nobody knows."""
        return not self.ok and (self.open > 0 or self.unanswered)


@dataclass(slots=True)
class Fate:
    """One event's story in counts. ``first`` is the place in the history of its first write."""

    key: str = ""
    first: int | None = None
    topics: tuple[str, ...] = ()
    commit: Write | None = None
    publish: Write | None = None
    delivered: dict[str, int] = field(default_factory=dict)
    applied: dict[str, int] | None = None
    applying: dict[tuple[str, str], int] | None = None  # effects begun and not yet ended, by group and process
    unsure: tuple[str, ...] = ()  # groups whose effect may have happened
    passed_over: tuple[str, ...] = ()  # groups that decided against the effect
    acked: dict[str, None] | None = None

    def end(self, record: Record, *, sure: bool = True) -> None:
        """A process ends what it began itself: what a killed one began stays open, and may have happened."""
        at = (record.group, record.process)
        if sure and self.applying and at in self.applying:
            self.applying[at] -= 1
            if not self.applying[at]:
                del self.applying[at]

    def forgotten(self, group: str) -> bool:
        """By all that is known, this group neither applied it nor passed it over on purpose."""
        known = (*(self.applied or ()), *self.unsure, *self.passed_over)
        return group not in known and not any(name == group for name, _ in self.applying or ())
