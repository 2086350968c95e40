"""Kafka: what a producer, a consumer and a topic are set to, and what does not work as it reads.

Tried on Kafka 4.3.1 with confluent-kafka 2.16.1 (librdkafka 2.16.0), whose names these are. librdkafka refuses a name it does
not know; a name that belongs to the other kind of client it ignores, and says so only in its log (``CONFWARN``).
"""

from __future__ import annotations

from typing import Final

from reference.brokers.kafka.not_taken import NOT_TAKEN
from reference.brokers.settings import Setting, Settings

__all__ = ["BATCH_BYTES", "CONSUMER", "CONSUMER_LIMITS", "EVENT_TOPIC", "NOT_TAKEN", "PRODUCER", "STATE_TOPIC", "TOPIC_SIZE"]

BATCH_BYTES: Final = 1_000_000

_ESSENTIALS = "Kafka Essentials"
_DEEP_DIVE = "Kafka Deep Dive"
_TUNING = "Broker Tuning Cheat-Sheet"

PRODUCER: Final = Settings(
    "A producer that loses nothing and keeps each key's order",
    Setting(
        "acks", "all",
        "confirmed means that every in-sync replica has it; with 1, a leader that dies takes confirmed events with it",
        f"{_ESSENTIALS}; {_DEEP_DIVE}; Reference Configs; {_TUNING}",
    ),
    Setting(
        "enable.idempotence", True,
        "the broker drops what a retry repeats and refuses what would overtake it, so retries neither duplicate nor reorder",
        f"{_ESSENTIALS}; {_DEEP_DIVE}; Reference Configs",
    ),
    Setting(
        "max.in.flight.requests.per.connection", 5,
        "the most that keeps order under idempotence, five requests under way instead of one; six are refused",
        f"{_ESSENTIALS}; {_DEEP_DIVE}; {_TUNING}", "1",
    ),
    Setting(
        "enable.gapless.guarantee", True,
        "when the broker refuses one event for good, nothing queued behind it goes before the caller knows",
    ),
    Setting(
        "compression.type", "zstd", "the smallest batches for little CPU; the consumer, not the broker, unpacks them",
        f"{_ESSENTIALS}; {_DEEP_DIVE}; Reference Configs; Cost Controls; {_TUNING}",
    ),
    Setting(
        "partitioner", "murmur2_random",
        "Java clients place keys so; with librdkafka's own default, two services put the same key on different partitions",
        "Ordering, Keys, and Partitions",
    ),
    Setting(
        "linger.ms", 5,
        "long enough to fill batches under load; a flush ends it early, while 20 ms alone would break a budget of 10 ms to the"
        " ack", f"{_ESSENTIALS}; {_DEEP_DIVE}; {_TUNING}; End-to-End Latency Budgeting", "10; 20; 5 to 20",
    ),
    Setting(
        "batch.size", BATCH_BYTES,
        "as much as a topic's default max.message.bytes takes: a relay's pages go in few requests, and zstd packs large"
        " batches better", f"{_DEEP_DIVE}; {_TUNING}", "32768; 64 to 256 KB",
    ),
    Setting(
        "message.max.bytes", 64 * BATCH_BYTES,
        "out of the way: the topic's own max.message.bytes is what counts, and it can be raised without touching producers",
        f"{_TUNING}", "tuned to payload sizes",
    ),
    Setting(
        "message.timeout.ms", 0,
        "never: the client must not give up one event of a key and send the next; whoever flushes bounds the wait. Java's"
        " name, delivery.timeout.ms, is an alias", f"{_ESSENTIALS}; {_DEEP_DIVE}", "retries=10",
    ),
    Setting(
        "delivery.report.only.error", True,
        "no callback for what went well: a Python call an event costs a tenth of the throughput",
    ),
    Setting(
        "queue.buffering.max.messages", 1_000_000,
        "room for whole pages of small events; with the default of 100,000, produce() refuses in mid-page",
        "Backpressure and Flow Control",
    ),
    call="Producer({**address, **PRODUCER})",
)  # fmt: skip

CONSUMER: Final = Settings(
    "A consumer that acks what it applied",
    Setting(
        "group.protocol", "consumer",
        "the broker assigns partitions one by one, so a member that comes or goes does not stop the others",
        "Partitioning Strategies and Rebalancing", "cooperative protocols",
    ),
    Setting(
        "enable.auto.commit", False,
        "acked has to mean applied: auto-commit acks what was handed out, and a crash then loses what was not applied yet",
        "Delivery Semantics; Backpressure and Flow Control",
    ),
    Setting(
        "auto.offset.reset", "earliest",
        "a new group begins at the beginning; with the default, latest, it misses all that was published before its first poll",
        "Replay Strategies",
    ),
    Setting(
        "isolation.level", "read_committed",
        "what an aborted transaction wrote is never delivered; librdkafka's default, but not Java's",
        "Exactly-Once Semantics (EOS)",
    ),
    Setting(
        "fetch.wait.max.ms", 100,
        "how long an idle fetch waits at the broker: the default of 500 delays a close, a pause and a rewind by half a second",
        "End-to-End Latency Budgeting", "fetch under 50 ms on average",
    ),
    call='Consumer({**address, **CONSUMER, "group.id": group})',
)  # fmt: skip

CONSUMER_LIMITS: Final = Settings(
    "What one consumer may hold, and how long a batch may take; the adapter leaves these to its address",
    Setting(
        "max.poll.interval.ms", 300_000,
        "longer than the slowest batch takes to apply: a member that does not poll for so long loses its partitions",
        f"{_DEEP_DIVE}; Reference Configs",
    ),
    Setting(
        "fetch.max.bytes", 10_485_760,
        "one answer of the broker, of which there may be one a broker in memory; a bigger batch still comes, alone",
        f"{_DEEP_DIVE}; {_TUNING}",
    ),
    Setting(
        "queued.max.messages.kbytes", 16_384,
        "what librdkafka reads ahead while the handler works, 64 MB by default: the real limit on a consumer's memory",
        "Backpressure and Flow Control", "max in-flight",
    ),
    call='Consumer({**address, **CONSUMER_LIMITS, **CONSUMER, "group.id": group})',
)  # fmt: skip

TOPIC_SIZE: Final = Settings(
    "How large a topic is made",
    Setting(
        "num_partitions", 12,
        "shared evenly by 1, 2, 3, 4, 6 or 12 members; adding partitions later moves keys, so take what the peak will need: 48"
        " only where so many members will ever work", "CI/CD and IaC; Partition Management", "48",
    ),
    Setting(
        "replication_factor", 3,
        "with min.insync.replicas=2 one broker may be away and writing goes on; a cluster of one broker takes only 1", _TUNING,
    ),
    call="NewTopic(name, **TOPIC_SIZE, config=EVENT_TOPIC.as_text())",
)  # fmt: skip

EVENT_TOPIC: Final = Settings(
    "A topic of events",
    Setting(
        "cleanup.policy", "delete",
        "every event counts until it expires: compaction keeps the last event of a key and removes the history before it",
        "CI/CD and IaC; Compaction and Retention Patterns", "compact,delete",
    ),
    Setting(
        "retention.ms", 604_800_000,
        "seven days: a consumer that is down over a weekend still finds everything, and the inbox has to remember as long",
        "CI/CD and IaC",
    ),
    Setting(
        "min.insync.replicas", 2,
        "acks=all waits for the replicas that are in sync, however few; with 1 that may be the leader alone",
        f"{_ESSENTIALS}; CI/CD and IaC; {_TUNING}",
    ),
    Setting(
        "max.message.bytes", 1_048_588,
        "Kafka's default, written down because producers are checked against it; larger payloads go to an object store",
        f"{_TUNING}; Cost Controls", "tuned to payload sizes",
    ),
    Setting(
        "unclean.leader.election.enable", False, "a replica that missed confirmed events must not become leader and lose them",
        "Delivery Semantics",
    ),
    Setting(
        "compression.type", "producer", "what the producer packed is stored as it came: anything else has the broker repack it",
        _TUNING,
    ),
    call="NewTopic(name, **TOPIC_SIZE, config=EVENT_TOPIC.as_text())",
)  # fmt: skip

STATE_TOPIC: Final = Settings(
    "A topic of states: the latest value of each key, for tables and joins",
    Setting(
        "cleanup.policy", "compact",
        "the latest value of each key for good; with delete added, a key that has not changed for seven days would vanish",
        "Compaction and Retention Patterns; CI/CD and IaC", "compact,delete",
    ),
    Setting(
        "delete.retention.ms", 86_400_000,
        "a reader that takes longer than this for the whole topic may miss a deletion and keep the key for ever",
        "Data Governance and PII",
    ),
    Setting(
        "max.compaction.lag.ms", 86_400_000,
        "a deleted person's earlier values are gone within about a day; without it they may stay in the open segment for ever",
        "Data Governance and PII",
    ),
    Setting("min.insync.replicas", 2, "as for events", f"{_ESSENTIALS}; CI/CD and IaC; {_TUNING}"),
    call="NewTopic(name, **TOPIC_SIZE, config=STATE_TOPIC.as_text())",
)  # fmt: skip
