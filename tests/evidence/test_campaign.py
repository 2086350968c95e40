"""The campaign in small, and the figures of ``eda bench`` and ``eda campaign``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reference.evidence.benchmarks import brokers, latency, relay
from reference.evidence.campaign import Row, relays_killed
from reference.evidence.checker import Verdict
from reference.stack import Endpoints

EDA = Path(sys.executable).with_name("eda")


def eda(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([EDA, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=240)


@pytest.mark.parametrize("broker", ["kafka", "rabbitmq", "pubsub"])
def test_killed_relays_lose_and_reorder_nothing_and_the_control_does(postgres: str, stack: Endpoints, broker: str) -> None:
    """Four kills amid 400 commits, on each broker; the design that looks right is seen failing beside it."""
    kills: list[int] = []
    row = relays_killed(postgres, getattr(stack, broker), events=400, kills=4, tell=kills.append)
    assert (row.outcome in {"held", "inconclusive"}, row.verdict.acknowledged >= 400, row.control.out_of_order > 0) == (True,) * 3
    assert kills == [1, 2, 3, 4]


def test_the_campaign_is_a_command(stack: Endpoints) -> None:
    """A JSON object a broker, and an exit code that says whether the promise held."""
    said = eda("campaign", "--broker", "kafka", "--events", "100", "--kills", "1", "--json")
    (figures,) = map(json.loads, said.stdout.splitlines())
    assert (figures["kills"], said.returncode) == (1, 0 if figures["outcome"] == "held" else 1)


def test_fewer_events_than_kills_are_refused(stack: Endpoints) -> None:
    """A kill follows something new, or it would hit nothing."""
    with pytest.raises(ValueError, match="5 kills need at least as many events, not 4"):
        relays_killed(stack.postgres, stack.kafka, events=4, kills=5)
    said = eda("campaign", "--events", "4", "--kills", "5")
    assert (said.returncode, "5 kills need at least as many events" in " ".join(said.stderr.split())) == (2, True)


def verdict(**counts: Any) -> Verdict:
    """Of three commits, all applied, some delivered again; unless ``counts`` say otherwise."""
    counted = {"attempted": 3, "acknowledged": 3, "delivered": 3, "applied": 3, "duplicates": 1, "recovered": 0, "max_lag": 0}
    return Verdict(**counted | counts)


def row(judged: Verdict, control: Verdict | None = None, *, ordered: bool = True) -> Row:
    control = control or verdict(out_of_order_ids=("b",))
    return Row(experiment="", broker="", faults=1, seconds=1.0, ordered=ordered, verdict=judged, control=control)


@pytest.mark.parametrize(
    ("judged", "outcome", "why"),
    [
        (row(verdict()), "held", ""),
        (row(verdict(lost_ids=("a",))), "broken", ""),
        (row(verdict(applied=2)), "broken", ""),
        (row(verdict(applied_twice_ids=("a",))), "broken", ""),
        (row(verdict(out_of_order_ids=("a",))), "broken", ""),
        (row(verdict(out_of_order_ids=("a",)), ordered=False), "held", ""),
        (row(verdict(duplicates=0)), "inconclusive", "no kill hit between publish and delete: more --kills"),
        (row(verdict(), verdict()), "inconclusive", "the control was not seen failing: more --events"),
    ],
)
def test_what_was_not_proved_is_not_called_held(judged: Row, outcome: str, why: str) -> None:
    """Nothing broke is one thing; that it could have broken, and did in the control, is the other."""
    assert (judged.outcome, judged.unproved) == (outcome, why)


@pytest.mark.parametrize("broker", ["rabbitmq", "pubsub"])
def test_the_adapters_are_measured_against_their_bare_clients(stack: Endpoints, broker: str) -> None:
    """Publishing and consuming, all messages of both; a broker without a bare client is refused."""
    figures = brokers.compare(getattr(stack, broker), messages=300, runs=1)
    assert {"publish ÷ bare", "consume ÷ bare"} <= set(figures)
    with pytest.raises(ValueError, match="no bare client for kafka://"):
        brokers.compare(stack.kafka)


def test_the_relay_benchmark_measures_every_contestant(postgres: str, stack: Endpoints) -> None:
    """Rates and ratios; and what it carried was complete and in order."""
    figures = relay.compare(postgres, stack.kafka, events=400, runs=1)
    assert set(figures["events_per_s"]) == {"raw", "raw with headers", "batch", "relay"}
    assert (figures["lost"], figures["out of order"]) == (0, 0)


def test_the_latency_benchmark_sees_every_event(postgres: str, stack: Endpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open loop: what was committed has arrived, and the percentiles rise."""
    monkeypatch.setattr(latency, "WARM_UP_S", 0.5)
    figures = latency.measure(postgres, stack.kafka, rate=50, seconds=1, idle_s=0.1)
    assert figures["arrived"] == figures["events"] == 75
    assert figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"]


def test_a_benchmark_is_a_command_and_leaves_no_database(stack: Endpoints) -> None:
    """It measures in one of its own."""
    said = eda("bench", "relay", "--events", "200", "--runs", "1")
    with psycopg.connect(stack.postgres) as conn:
        left = conn.execute("SELECT datname FROM pg_database WHERE datname LIKE 'scratch_%'").fetchall()
    assert (said.returncode, "relay ÷ raw" in said.stdout, left) == (0, True, [])
