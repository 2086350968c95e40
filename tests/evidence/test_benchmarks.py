"""The figures of ``eda bench``, in small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from reference.evidence.benchmarks import brokers, latency, relay
from reference.stack import Endpoints

EDA = Path(sys.executable).with_name("eda")


def eda(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([EDA, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=240)


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
