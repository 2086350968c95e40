"""Malformed bytes, headers and JSON among good events, drawn by Hypothesis: on each broker, and without one.

Promise: every good event is applied once and in order, every message that is no event is put aside with its reason and
acked, and nothing stands still behind it. What is read as an event can be written again and is read the same. Whether a
message is an event is known from how it was made; where it is not, it must come to the same behind the broker as before it.
What a broker does not carry, and says so, is counted apart. The control acks what it cannot read and tells nobody.

On ``memory://`` the same consumer runs without a network: that is where the most are tried.
"""

from __future__ import annotations

import time
from typing import Final

from reference.brokers import connect
from reference.evidence.campaign.addresses import Addresses
from reference.evidence.campaign.bursts import Tell
from reference.evidence.campaign.mixture import Mixture
from reference.evidence.campaign.row import Control, Row
from reference.evidence.checker import Anomaly

__all__ = ["malformed"]

FEW: Final = 20


def malformed(
    at: Addresses, *, events: int = 10_000, faults: int = 10_000, seed: int = 1, tell: Tell = lambda number: None
) -> Row:
    """Until ``faults`` messages that are no events have been carried, among ``events`` good ones."""
    started = time.monotonic()
    with connect(at.broker) as broker, Mixture(broker, at, seed=seed) as mixture:
        mixture.pour(faults=faults, events=events, tell=tell)
        verdict, wrong, note = mixture.verdict(), mixture.wrong(), mixture.words()
        where, ordered = broker.url, broker.capabilities.ordered_by_key
    return Row(
        experiment="malformed bytes, headers and JSON", broker=where, faults=mixture.put_aside,
        seconds=time.monotonic() - started, verdict=verdict, wrong=wrong, duplicates_expected=False, note=note,
        controls={"acked in silence": in_silence(at, faults=min(faults, FEW), seed=seed)},
        tolerated=frozenset() if ordered else frozenset({Anomaly.OUT_OF_ORDER}),
    )  # fmt: skip


def in_silence(at: Addresses, *, faults: int, seed: int) -> Control:
    """A consumer that acks what it cannot read: it goes on as if nothing had been there."""
    with connect(at.broker) as broker, Mixture(broker, at, seed=seed, silent=True) as mixture:
        mixture.pour(faults=faults, events=faults)
        return Control(verdict=mixture.verdict(), must=Anomaly.UNAPPLIED)
