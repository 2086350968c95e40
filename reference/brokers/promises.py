"""The promises of :mod:`reference.brokers.protocol` by name, and which broker keeps which: the table that README shows.

Every promise is held by tests on the real brokers that carry its name, for each broker whose capabilities include it; so
when they pass, the table is true.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from reference.brokers.protocol import Capabilities

__all__ = ["EMULATOR_GAP", "HELD", "NOT_OFFERED", "PROMISES", "Promise", "Standing", "standing", "table"]

Standing = Literal["held", "not offered", "emulator gap"]
HELD: Final = "held"
NOT_OFFERED: Final = "not offered"
EMULATOR_GAP: Final = "emulator gap"


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise. ``needs`` names the capability it hangs on; empty when every broker has to keep it."""

    name: str
    sentence: str
    needs: str = ""


_ALL: Final = (
    Promise("confirmed", "`publish` returns when the broker has confirmed every message"),
    Promise("durable", "what was confirmed survives a kill of the broker, and clients go on afterwards", "durable"),
    Promise("named", "what was refused is named, and its neighbours are there"),
    Promise("oversize", "a message over the limit is refused before it is sent"),
    Promise("redelivered", "a delivery without an ack comes back"),
    Promise("nacked", "a nacked delivery comes back to its member, not too early, and before what stood behind it"),
    Promise("ordered", "a key's messages come in order, also to concurrent consumers", "ordered_by_key"),
    Promise("shared", "the members of a group share the work, and one takes over from another"),
    Promise("fanned out", "two groups both receive everything"),
    Promise("whole", "5,000 messages with 50 keys: all arrive"),
    Promise("exact", "keys, bodies and text headers survive byte for byte"),
    Promise("binary headers", "so do headers that are not text", "binary_headers"),
    Promise("repeated headers", "and a header given twice", "repeated_headers"),
    Promise("closing", "closing ends a waiting `receive`"),
    Promise("lag", "the broker tells how far a group is behind", "lag"),
    Promise("counted", "a delivery says which attempt it is", "redelivery_count"),
    Promise("dead letters", "the broker itself moves what failed too often", "dead_letters"),
    Promise("from the start", "a new group begins at the beginning; a topic can be read again", "replay_by_offset"),
    Promise("rewound", "a group can be set back to a time", "replay_by_time"),
    Promise("filtered", "a group can ask for some messages only", "filters"),
    Promise("delayed", "a message can be published for later", "delayed_delivery"),
    Promise("transactions", "what an aborted transaction wrote is never delivered", "transactions"),
    Promise("exactly once", "an acked delivery is never repeated", "exactly_once_delivery"),
)
PROMISES: Final[Mapping[str, Promise]] = {promise.name: promise for promise in _ALL}


def standing(promise: Promise, capabilities: Capabilities) -> Standing:
    """Whether a broker with these capabilities keeps the promise."""
    if not promise.needs or getattr(capabilities, promise.needs):
        return HELD
    return EMULATOR_GAP if promise.needs in capabilities.emulator_gaps else NOT_OFFERED


def table(brokers: Mapping[str, Capabilities], promises: Iterable[Promise] = _ALL) -> str:
    """The table as Markdown: a row a promise, a column a broker."""
    rows = [["promise", *brokers], ["---", *("---" for _ in brokers)]]
    rows += [[promise.sentence, *(standing(promise, able) for able in brokers.values())] for promise in promises]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
