"""How fast the relay is, as a ratio to contestants that drain the same rows to the same topic in the same run.

``raw`` reads key and payload and produces them as they come, without headers and without marking anything. ``raw with
headers`` sends the relay's headers too. ``batch`` is the usual relay: 500 rows, publish, ``UPDATE … = ANY``. Each
contestant, connected before its clock starts, drains the whole table alone, in turn, ``runs`` times; medians are
compared.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from statistics import median
from typing import Any, Final

import psycopg
from confluent_kafka import Producer

from reference.brokers import Broker
from reference.brokers.kafka import KafkaBroker
from reference.brokers.kafka.publisher import PRODUCER
from reference.delivery import outbox
from reference.delivery.relay import Relay
from reference.delivery.rows import COLUMNS, Envelope, Page

__all__ = ["compare"]

KEYS: Final = 500
AGGREGATE: Final = "orders"


def compare(dsn: str, broker_url: str, *, events: int = 40_000, runs: int = 5) -> dict[str, Any]:
    """Events a second of each contestant (medians), the ratios, and what the relay's topic showed: lost, out of order.

    ``dsn`` must be a database of its own: its outbox is emptied.
    """
    rates: dict[str, list[float]] = defaultdict(list)
    lost = out_of_order = 0
    with psycopg.connect(dsn, autocommit=True) as conn, KafkaBroker(broker_url) as broker:
        conn.execute(outbox.schema())
        conn.execute("ALTER TABLE outbox ADD COLUMN IF NOT EXISTS published_at timestamptz")  # for the batch relay
        for _ in range(runs):
            for name, contestant in CONTESTANTS.items():
                topic = f"bench-{time.time_ns()}"
                broker.create_topic(topic, partitions=4)
                _fill(conn, events)
                with contestant(dsn, broker, topic) as drain:
                    started = time.perf_counter()
                    drain()
                rates[name].append(events / (time.perf_counter() - started))
                if name == "relay":
                    missing, late = _judge(broker, topic, events)
                    lost, out_of_order = lost + missing, out_of_order + late
    figures = {name: round(median(values)) for name, values in rates.items()}
    return {
        "events": events,
        "runs": runs,
        "events_per_s": figures,
        "relay ÷ raw": round(figures["relay"] / figures["raw"], 2),
        "relay ÷ raw with headers": round(figures["relay"] / figures["raw with headers"], 2),
        "relay ÷ batch": round(figures["relay"] / figures["batch"], 2),
        "lost": lost,
        "out of order": out_of_order,
    }


@contextmanager
def _raw(dsn: str, broker: KafkaBroker, topic: str, *, headers: bool = False) -> Iterator[Callable[[], None]]:
    producer = Producer({**broker.client, **PRODUCER})
    producer.list_topics(topic, 10)
    envelope = Envelope(topic)

    def drain() -> None:
        with conn.cursor(name="raw") as cursor:
            cursor.itersize = 2_000
            if headers:
                for row in cursor.execute(f"SELECT {COLUMNS} FROM outbox ORDER BY position"):
                    envelope.check(row)
                    message = envelope.message(row)
                    producer.produce(topic, message.value, message.key, headers=message.headers)  # type: ignore[arg-type]
            else:
                for key, payload in cursor.execute("SELECT aggregateid, payload::text FROM outbox ORDER BY position"):
                    producer.produce(topic, payload, key)
        producer.flush()

    with psycopg.connect(dsn) as conn:
        conn.execute("SET timezone = 'UTC'")
        yield drain


@contextmanager
def _batch(dsn: str, broker: KafkaBroker, topic: str) -> Iterator[Callable[[], None]]:
    envelope = Envelope(topic)
    query = f"SELECT {COLUMNS} FROM outbox WHERE published_at IS NULL ORDER BY position LIMIT 500"

    def drain() -> None:
        while rows := conn.execute(query).fetchall():
            for row in rows:
                envelope.check(row)
            broker.publish(Page(envelope, rows))
            conn.execute("UPDATE outbox SET published_at = now() WHERE position = ANY(%s)", ([row[0] for row in rows],))

    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("SET timezone = 'UTC'")
        yield drain


@contextmanager
def _relay(dsn: str, broker: KafkaBroker, topic: str) -> Iterator[Callable[[], None]]:
    def drain() -> None:
        while relay.run_once():
            pass

    with Relay(dsn, broker, route=topic) as relay:
        relay.connect()
        yield drain


Contestant = Callable[[str, KafkaBroker, str], AbstractContextManager[Callable[[], None]]]
CONTESTANTS: Final[dict[str, Contestant]] = {
    "raw": _raw,
    "raw with headers": partial(_raw, headers=True),
    "batch": _batch,
    "relay": _relay,
}


def _fill(conn: psycopg.Connection[Any], events: int) -> None:
    conn.execute("TRUNCATE outbox RESTART IDENTITY")
    conn.execute(
        "INSERT INTO outbox (aggregatetype, aggregateid, type, payload) SELECT %s, 'order-' || n %% %s, 'OrderPlaced',"
        " jsonb_build_object('n', n, 'note', repeat('x', 180)) FROM generate_series(1, %s) AS n ORDER BY n",
        (AGGREGATE, KEYS, events),
    )
    conn.execute("VACUUM ANALYZE outbox")
    conn.execute("CHECKPOINT")


def _judge(broker: Broker, topic: str, events: int) -> tuple[int, int]:
    """What the topic really holds: how many of the numbered events are missing, and how many follow a later one of their key."""
    last: dict[bytes | None, int] = {}
    seen: set[int] = set()
    late = 0
    for delivery in broker.replay(topic):
        n = json.loads(delivery.value or b"")["n"]
        late += n < last.get(delivery.key, 0)
        last[delivery.key] = max(n, last.get(delivery.key, 0))
        seen.add(n)
    return events - len(seen), late
