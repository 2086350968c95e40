"""RabbitMQ: what a connection, a channel, a queue and a message are set to, and what does not work as it reads.

Tried on RabbitMQ 3.10.8 with pika 1.4.4, whose names these are; written so that 4.x means the same. RabbitMQ accepts queue
arguments it has never heard of without a word: only reading back what a queue does shows a misspelt one.
"""

from __future__ import annotations

from typing import Any, Final

from reference.brokers.rabbitmq.not_taken import NOT_TAKEN
from reference.brokers.settings import Setting, Settings

__all__ = [
    "CHANNEL",
    "CONNECTION",
    "MESSAGE",
    "NOT_TAKEN",
    "ORDERED_ARGUMENTS",
    "PUBLISH",
    "QUEUE",
    "QUORUM_ARGUMENTS",
    "quorum_queue",
]

_ESSENTIALS = "RabbitMQ Essentials"
_TUNING = "Broker Tuning Cheat-Sheet"
_FLOW = "Backpressure and Flow Control"
_RETRIES = "Retries, Backoff, and DLQs"

CONNECTION: Final = Settings(
    "A connection; one for each thread, since pika is not thread-safe. An amqps:// address brings TLS",
    Setting(
        "heartbeat", 20,
        "seconds: a peer that vanished is noticed within two of these, and so is a thread that does not serve its connection for"
        " as long; the client's value wins over the broker's 60", _TUNING, "configured",
    ),
    Setting(
        "blocked_connection_timeout", 60.0,
        "a broker short of memory or disk blocks its publishers: without this, for ever and in silence",
        _FLOW,
    ),
    Setting("socket_timeout", 5.0, "seconds to reach the port: a wrong address fails soon"),
    Setting(
        "stack_timeout", 10.0, "seconds for TCP, TLS and the AMQP greeting together: something else may listen on that port",
    ),
    call="pika.ConnectionParameters(host, port, **CONNECTION)",
)  # fmt: skip

CHANNEL: Final = Settings(
    "What one consumer may hold unacked; a channel for each consumer",
    Setting(
        "prefetch_count", 500,
        "enough to keep a consumer busy over the network, little enough to share, and to return after a crash; 0, the default,"
        " sends the whole queue to whoever comes first", f"{_TUNING}; {_FLOW}", "prefetch per consumer",
    ),
    Setting(
        "global_qos", False, "for each consumer; True, for the whole channel, is refused by quorum queues and by RabbitMQ 4.3",
    ),
    call="channel.basic_qos(**CHANNEL)",
)  # fmt: skip

PUBLISH: Final = Settings(
    "Publishing, on a channel that channel.confirm_delivery() has put into confirm mode",
    Setting(
        "mandatory", True,
        "the broker returns what no queue takes; without it the confirm of a message that went nowhere says yes",
        f"{_ESSENTIALS}; {_TUNING}", "publisher confirms",
    ),
    call="channel.basic_publish(exchange, key, body, properties, **PUBLISH)",
)  # fmt: skip

MESSAGE: Final = Settings(
    "A message's properties",
    Setting(
        "delivery_mode", 2,
        "persistent: a classic queue loses anything else at a restart; a quorum queue writes every message anyway", _TUNING,
    ),
    call="pika.BasicProperties(**MESSAGE, message_id=…, headers=…)",
)  # fmt: skip

QUEUE: Final = Settings(
    "A queue that survives",
    Setting(
        "durable", True, "the queue is there after a restart; quorum queues can be nothing else", f"{_ESSENTIALS}; {_TUNING}",
    ),
    Setting("exclusive", False, "it belongs to the group, not to the connection that declared it"),
    Setting("auto_delete", False, "a group whose last member leaves for a moment must not lose what arrives meanwhile"),
    call='channel.queue_declare(name, **QUEUE, arguments={**QUORUM_ARGUMENTS, "x-dead-letter-exchange": …})',
)  # fmt: skip

QUORUM_ARGUMENTS: Final = Settings(
    "A queue's arguments: fixed when it is declared, and compared by every later declaration",
    Setting(
        "x-queue-type", "quorum",
        "replicated by Raft and on disk before a confirm; counts deliveries; a classic queue has one copy",
        f"{_ESSENTIALS}; {_TUNING}",
    ),
    Setting(
        "x-delivery-limit", 20,
        "returns before a message is a dead letter; written down since 3.x has no limit of its own and 4.x has 20", _RETRIES,
        "cap attempts",
    ),
    Setting(
        "x-dead-letter-strategy", "at-least-once",
        "a dead letter leaves this queue when the next has confirmed it; at-most-once, the default, may lose it on the way",
        f"{_ESSENTIALS}; {_RETRIES}", "queues with DLX",
    ),
    Setting(
        "x-overflow", "reject-publish",
        "a full queue refuses, and the confirm says so, where the default drops its oldest message; at-least-once dead letters"
        " need it", _FLOW, "reject on breach",
    ),
    call='quorum_queue(dead_letters_to="orders.dlx")',
)  # fmt: skip

ORDERED_ARGUMENTS: Final = Settings(
    "What a queue whose order matters adds",
    Setting(
        "x-single-active-consumer", True,
        "one consumer at a time, and the next one gets what the last had not acked; with two at once, order ends at the prefetch",
        "Ordering, Keys, and Partitions; Ordering Guarantees and Aggregates", "single partition per aggregate",
    ),
    call='quorum_queue(dead_letters_to="orders.dlx", ordered=True)',
)  # fmt: skip


def quorum_queue(*, dead_letters_to: str = "", key: str | None = None, ordered: bool = False) -> dict[str, Any]:
    """What ``channel.queue_declare(name, **…)`` takes; dead letters go to that exchange, with their own ``key`` if given."""
    arguments = {**QUORUM_ARGUMENTS, **(ORDERED_ARGUMENTS if ordered else {})}
    if dead_letters_to or key is not None:
        arguments["x-dead-letter-exchange"] = dead_letters_to
    if key is not None:
        arguments["x-dead-letter-routing-key"] = key
    return {**QUEUE, "arguments": arguments}
