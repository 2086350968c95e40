"""What can be wrong with a history: the classes of anomaly, each with a sentence that a learner understands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from reference.evidence.history import Record

__all__ = ["OF_ONE_EVENT", "SENTENCES", "Anomaly", "Finding", "Violation"]


class Anomaly(StrEnum):
    """A broken promise. Duplicate deliveries are none: at least once is what brokers promise."""

    LOST = "lost"
    UNEXPECTED = "unexpected"
    ABORTED_READ = "aborted read"
    APPLIED_TWICE = "applied twice"
    UNAPPLIED = "unapplied"
    OUT_OF_ORDER = "out of order"
    OFFSET_INCONSISTENT = "offset inconsistent"
    NONMONOTONIC_POLL = "nonmonotonic poll"
    SKIPPED_POLL = "skipped poll"
    UNSEEN_TAIL = "unseen tail"


SENTENCES: Final = {
    Anomaly.LOST: "{event} was committed, and {who} never received it",
    Anomaly.UNEXPECTED: "{event} was delivered to {who} although nobody ever committed it: it tells of nothing that happened",
    Anomaly.ABORTED_READ: "{event} was delivered to {who} although its commit was rolled back",
    Anomaly.APPLIED_TWICE: "{who} applied {event} more than once: its effect is there twice",
    Anomaly.UNAPPLIED: "{who} acked {event} and never applied it, and what was acked does not come again",
    Anomaly.OUT_OF_ORDER: "{who} {verb} {event} after {other}, which was committed later under the same key",
    Anomaly.OFFSET_INCONSISTENT: "{where} was seen to hold {event} and also {other}: one place in a log holds one event",
    Anomaly.NONMONOTONIC_POLL: "{who} was handed {event} at {where} after {other}, which stands at or behind it, and nothing"
    " had sent the reader back",
    Anomaly.SKIPPED_POLL: "{who} was handed {other} and was never handed {event} at {where}, which stands before it",
    Anomaly.UNSEEN_TAIL: "{event} stands at {where}, behind the last that {who} was handed: nobody read to the end",
}

OF_ONE_EVENT: Final = SENTENCES | {  # where both events are the same one, as an event that was published twice makes them
    Anomaly.NONMONOTONIC_POLL: "{who} was handed {event} at {where} after it had been handed it there, or behind there, and"
    " nothing had sent the reader back",
    Anomaly.SKIPPED_POLL: "{who} was handed {event} and was never handed what stands before it at {where}: {event} once more",
}
NAMELESS: Final = "an event without an id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One anomaly as the judges report it: the ``event``, and by class the ``group``, the ``other`` event, and where."""

    anomaly: Anomaly
    event: str
    group: str = ""
    other: str = ""
    where: str = ""
    verb: str = ""

    @property
    def sentence(self) -> str:
        """What went wrong, in words."""
        who = f"group {self.group}" if self.group else "whoever read"
        sentences = OF_ONE_EVENT if self.event and self.event == self.other else SENTENCES
        return sentences[self.anomaly].format(
            event=self.event or NAMELESS, other=self.other or NAMELESS, who=who, where=self.where, verb=self.verb
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation(Finding):
    """A finding with the ``records`` that show it, in time order; of a long story the first and the last."""

    records: tuple[Record, ...] = ()

    def __str__(self) -> str:
        return self.sentence
