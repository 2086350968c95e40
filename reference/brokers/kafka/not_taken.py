"""Kafka: what is often set, and is refused, ignored, renamed, needless or harmful.

The versions are those of :mod:`reference.brokers.kafka.settings`; what has no ``source`` is shown by a test.
"""

from __future__ import annotations

from typing import Final

from reference.brokers.settings import NotTaken

__all__ = ["NOT_TAKEN"]

_ESSENTIALS = "Kafka Essentials"
_DEEP_DIVE = "Kafka Deep Dive"
_TUNING = "Broker Tuning Cheat-Sheet"

NOT_TAKEN: Final = (
    NotTaken(
        name="min.insync.replicas in a producer", says="min.insync.replicas=2", outcome="refused",
        happens="the client does not know it: it belongs to a topic or a broker",
        error='No such configuration property: "min.insync.replicas"', instead="set it on the topic (EVENT_TOPIC)",
        guide=_ESSENTIALS,
    ),
    NotTaken(
        name="min.insync.replicas above the replication factor", says="min.insync.replicas=2 on one broker", outcome="ignored",
        happens="Kafka 4 counts no more than there are replicas: with one replica the setting reads 2 and acks=all is one"
        " copy; earlier versions refused every write instead", instead="replication_factor=3 wherever it shall mean something",
        guide=_TUNING,
    ),
    NotTaken(
        name="replication.factor as a topic's configuration", says="replication.factor=3", outcome="refused",
        happens="no configuration but an argument of the topic's creation",
        error="Unknown topic config name: replication.factor", instead="NewTopic(replication_factor=3)",
        guide=f"{_TUNING}; Kafka Streams Reference Settings",
    ),
    NotTaken(
        name="replication_factor=3 on one broker", says="replication.factor=3", outcome="refused",
        happens="the topic is not created", error="The target replication factor of 3 cannot be reached",
        instead="1 on a laptop, or -1 for the cluster's own default", guide=_TUNING,
    ),
    NotTaken(
        name="message.max.bytes on a topic", says="message.max.bytes", outcome="renamed",
        happens="that is the broker's and the producer's name; a topic refuses it",
        error="Unknown topic config name: message.max.bytes", instead="max.message.bytes on a topic", guide=_TUNING,
    ),
    NotTaken(
        name="max.in.flight.requests.per.connection=1", says="1, for idempotence and EOS", outcome="needless",
        happens="taken, but idempotence keeps order with up to 5, and one request at a time waits a round trip for each batch",
        instead="5", guide=f"{_ESSENTIALS}; {_DEEP_DIVE}; {_TUNING}",
    ),
    NotTaken(
        name="max.in.flight.requests.per.connection=6", says="more, for throughput", outcome="refused",
        happens="not with idempotence", error="`max.in.flight` must be set <= 5 when `enable.idempotence` is true",
        instead="5 and larger batches",
    ),
    NotTaken(
        name="acks=1 with idempotence", says="acks=1, for latency", outcome="refused", happens="not with idempotence",
        error="`acks` must be set to `all` when `enable.idempotence` is true",
        instead="acks=all; a smaller linger.ms if it must be quicker", guide="Delivery Semantics",
    ),
    NotTaken(
        name="retries=10", says="retries=10", outcome="harmful",
        happens="counts refusals, not time: ten quick ones can be over before a new leader is elected, and the event is given"
        " up; a silent broker counts none. What is meant is a bound on time: message.timeout.ms, alias delivery.timeout.ms",
        instead="leave retries alone and bound the time", guide=f"{_ESSENTIALS}; {_DEEP_DIVE}",
    ),
    NotTaken(
        name="max.poll.records", says="max.poll.records=1000", outcome="ignored",
        happens="accepted without a word, since librdkafka's share consumers know the name; an ordinary consumer returns as"
        " many as asked", instead="consumer.consume(num_messages=1000)", guide=f"{_DEEP_DIVE}; Reference Configs",
    ),
    NotTaken(
        name="a consumer's setting in a producer, or the reverse", says="one dictionary for both", outcome="ignored",
        happens="accepted, with a CONFWARN in the client's log and nowhere else",
        error="will be ignored by this producer instance", instead="a dictionary each; give the client a logger and read it",
    ),
    NotTaken(
        name="session.timeout.ms with group.protocol=consumer", says="increase session timeouts", outcome="refused",
        happens="the group's timeouts are the broker's",
        error="`session.timeout.ms` is not supported for `group.protocol=consumer`",
        instead="group.consumer.session.timeout.ms on the broker, or on the group",
        guide="Mega FAQ: consumer rebalances too frequent",
    ),
    NotTaken(
        name="heartbeat.interval.ms with group.protocol=consumer", says="heartbeat.interval.ms", outcome="refused",
        happens="as above", error="`heartbeat.interval.ms` is not supported for `group.protocol=consumer`",
        instead="group.consumer.heartbeat.interval.ms on the broker, or on the group",
    ),
    NotTaken(
        name="partition.assignment.strategy with group.protocol=consumer", says="cooperative and sticky assignment",
        outcome="refused", happens="the broker assigns, sticky and one by one already",
        error="`partition.assignment.strategy` is not supported for `group.protocol=consumer`",
        instead="nothing, or group.remote.assignor=uniform", guide="Partitioning Strategies and Rebalancing",
    ),
    NotTaken(
        name="cleanup.policy=compact,delete for events", says='cleanup.policy = "compact,delete"', outcome="harmful",
        happens="taken; once the cleaner has run, only the last event of each key is left in closed segments, and whoever"
        " replays misses the others", instead="delete for events, compact for states", guide="CI/CD and IaC",
    ),
    NotTaken(
        name="retention.ms and the like in a client", says="cleanup.policy, retention.ms in the client's configuration",
        outcome="refused", happens="a topic's settings are not a client's",
        error='No such configuration property: "retention.ms"', instead="set them on the topic", guide="CI/CD and IaC",
    ),
    NotTaken(
        name="quota per topic, reject on breach", says="quota per client/topic; reject on quota breach", outcome="ignored",
        happens="Kafka's quotas are per user and client id, and it delays the answer (throttle_cb hears of it) instead of"
        " refusing; the Python AdminClient cannot set any",
        instead="kafka.admin.ConfigCommand, per user or client id; refuse in the service itself",
        guide="Backpressure and Flow Control",
    ),
    NotTaken(
        name="zookeeper.connect", says="KAFKA_ZOOKEEPER_CONNECT and a zookeeper service", outcome="refused",
        happens="Kafka 4 has only KRaft: a broker configured for ZooKeeper does not start",
        error='Missing required configuration "process.roles"',
        instead="process.roles=broker,controller on one node, and controller.quorum.voters",
        guide="Local Stack (Compose Snippet)",
    ),
    NotTaken(
        name="cache.max.bytes.buffering", says="cache.max.bytes.buffering=10485760", outcome="renamed",
        happens="Kafka Streams has called it statestore.cache.max.bytes since 3.4; a Python client knows neither",
        error='No such configuration property: "cache.max.bytes.buffering"',
        instead="statestore.cache.max.bytes=10485760, in Kafka Streams", guide="Kafka Streams Reference Settings",
        source="https://cwiki.apache.org/confluence/pages/viewpage.action?pageId=186878390",
    ),
    NotTaken(
        name="processing.guarantee, commit.interval.ms, num.stream.threads in a client", says="exactly_once_v2; 100; 3",
        outcome="refused", happens="Kafka Streams' own: a plain client has transactions instead",
        error="No such configuration property", instead="transactional.id and send_offsets_to_transaction",
        guide="Kafka Streams Reference Settings",
    ),
    NotTaken(
        name="unquoted names in Terraform", says="config = { cleanup.policy = … }", outcome="refused",
        happens="a key with a dot has to be quoted in HCL", error="Ambiguous attribute key",
        instead='"cleanup.policy" = "delete"', guide="CI/CD and IaC",
        source="https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md",
    ),
)  # fmt: skip
