"""How long from a commit until a consumer has the event, and what an idle relay costs.

Open loop: a writer commits at a fixed rate whether or not the relay keeps up, the relay runs in a process of its own
(``eda relay``), and a consumer here notes when each event arrives. Times are of one machine's monotonic clock.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from statistics import quantiles
from typing import Any, Final

import psutil
import psycopg

from reference.brokers import Broker, connect
from reference.delivery import outbox

__all__ = ["measure"]

KEYS: Final = 50
WARM_UP_S: Final = 3.0


def measure(dsn: str, broker_url: str, *, rate: int = 200, seconds: float = 15.0, idle_s: float = 10.0) -> dict[str, Any]:
    """Milliseconds from commit to consumed (p50, p95, p99), how many arrived, and the idle relay's share of a core in %.

    ``dsn`` must be a database of its own. The first three seconds are a warm-up and do not count.
    """
    topic = f"bench-latency-{time.time_ns()}"
    with connect(broker_url) as broker:
        broker.create_topic(topic)
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(outbox.schema())
        command = [sys.executable, "-m", "reference.cli", "relay", "--dsn", dsn, "--broker", broker_url, "--route", topic]
        relay = subprocess.Popen(command)
        try:
            committed, consumed = _drive(dsn, broker, topic, rate=rate, seconds=seconds)
            idle = psutil.Process(relay.pid)
            idle.cpu_percent()
            time.sleep(idle_s)  # the measurement itself: how much CPU is used while nothing happens
            idle_percent = idle.cpu_percent()
        finally:
            relay.terminate()
            relay.wait(30)
    first = min(committed.values()) + WARM_UP_S
    times = [1000 * (consumed[e] - at) for e, at in committed.items() if at >= first and e in consumed]
    cuts = quantiles(times, n=100, method="inclusive")
    return {
        "rate_per_s": rate,
        "events": len(committed),
        "arrived": len(consumed),
        "p50_ms": round(cuts[49], 1),
        "p95_ms": round(cuts[94], 1),
        "p99_ms": round(cuts[98], 1),
        "idle_relay_percent_of_a_core": round(idle_percent, 2),
    }


def _drive(dsn: str, broker: Broker, topic: str, *, rate: int, seconds: float) -> tuple[dict[str, float], dict[str, float]]:
    committed: dict[str, float] = {}
    consumed: dict[str, float] = {}
    wanted = round(rate * (seconds + WARM_UP_S))
    writer = threading.Thread(target=_write, args=(dsn, committed, rate, wanted))
    subscription = broker.subscribe([topic], group=f"{topic}-consumer")
    try:
        subscription.receive(1, 5.0)  # joined before the first event is written
        writer.start()
        deadline = time.monotonic() + seconds + WARM_UP_S + 60
        while len(consumed) < wanted and time.monotonic() < deadline:
            for delivery in subscription.receive(100, 0.5):
                consumed.setdefault((delivery.key or b"").decode(), time.monotonic())
                subscription.ack(delivery)
        writer.join()
    finally:
        subscription.close()
    return committed, consumed


def _write(dsn: str, committed: dict[str, float], rate: int, events: int) -> None:
    """Commit on a fixed schedule; a commit that is late does not move the ones after it."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        start = time.monotonic()
        for n in range(events):
            time.sleep(max(0.0, start + n / rate - time.monotonic()))
            key = f"{n % KEYS}-{n}"
            conn.execute(
                "INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES ('orders', %s, 'OrderPlaced', '{}')",
                (key,),
            )
            committed[key] = time.monotonic()
