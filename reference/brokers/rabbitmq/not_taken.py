"""RabbitMQ: what is often set, and is refused, ignored, renamed, needless or harmful.

The versions are those of :mod:`reference.brokers.rabbitmq.settings`; what has no ``source`` is shown by a test.
"""

from __future__ import annotations

from typing import Final

from reference.brokers.settings import NotTaken

__all__ = ["NOT_TAKEN"]

_ESSENTIALS = "RabbitMQ Essentials"
_TUNING = "Broker Tuning Cheat-Sheet"
_RETRIES = "Retries, Backoff, and DLQs"

NOT_TAKEN: Final = (
    NotTaken(
        name="x-queue-mode=lazy on a quorum queue", says="lazy queues for bulk", outcome="refused",
        happens="the declaration fails", error="invalid arg 'x-queue-mode'",
        instead="nothing: a quorum queue keeps its messages on disk", guide=_TUNING,
    ),
    NotTaken(
        name="x-queue-mode=lazy on a classic queue", says="lazy queues for bulk", outcome="ignored",
        happens="ignored since 3.12, which writes to disk by itself; 3.10 still reads it", instead="a quorum queue",
        guide=_TUNING, source="https://www.rabbitmq.com/docs/lazy-queues",
    ),
    NotTaken(
        name="an argument the broker does not know", says="x-message-deduplication, x-consumer-timeout, any typing error",
        outcome="ignored", happens="the queue is declared, and shows the argument, which does nothing",
        instead="test what the queue does, not that it was declared",
    ),
    NotTaken(
        name="x-message-deduplication", says="duplicates filtered by the broker", outcome="ignored",
        happens="a plugin's argument: without the plugin both copies are delivered, and no error says so",
        instead="an inbox in the consumer's own transaction", guide="Idempotency and the Outbox Pattern",
    ),
    NotTaken(
        name="x-consumer-timeout", says="a longer time for slow handlers", outcome="ignored",
        happens="a queue argument only since 3.11.15; before that accepted, and 30 minutes without an ack still close the"
        " channel", instead="consumer_timeout in rabbitmq.conf; better, shorter handlers",
        source="https://github.com/rabbitmq/rabbitmq-server/issues/5437",
    ),
    NotTaken(
        name="prefetch for the whole channel (global_qos=True)", says="prefetch", outcome="refused",
        happens="quorum queues close the connection, at the consume and not at the qos; 4.3 refuses it for every queue",
        error="does not support global qos", instead="global_qos=False, a channel for each consumer", guide=_TUNING,
    ),
    NotTaken(
        name="basic_get with x-single-active-consumer", says="polling a queue that is kept in order", outcome="refused",
        happens="a queue with one active consumer at a time is for consumers alone, on a quorum queue",
        error="basic.get operations are not supported by quorum queues with single active consumer",
        instead="basic_consume, with a prefetch", guide="Ordering, Keys, and Partitions",
    ),
    NotTaken(
        name="a transient queue", says="durable=False", outcome="refused",
        happens="no quorum queue; classic ones, unless exclusive, go the same way in 4.3",
        error="invalid property 'non-durable'", instead="durable=True, with x-expires if it shall vanish", guide=_ESSENTIALS,
    ),
    NotTaken(
        name="exclusive or auto_delete on a quorum queue", says="auto_delete=True", outcome="refused",
        happens="no quorum queue", error="invalid property 'auto-delete'", instead="x-expires",
    ),
    NotTaken(
        name="x-max-priority on a quorum queue", says="priorities", outcome="refused",
        happens="the declaration fails in 3.10; 4.x has two priorities of its own, without an argument",
        error="invalid arg 'x-max-priority'", instead="a queue for each priority",
    ),
    NotTaken(
        name="x-delivery-limit on a classic queue", says="cap attempts", outcome="refused",
        happens="classic queues do not count deliveries", error="invalid arg 'x-delivery-limit'", instead="a quorum queue",
        guide=_RETRIES,
    ),
    NotTaken(
        name="x-delivery-limit=3 for three attempts", says="DLQ after N retries", outcome="harmful",
        happens="the limit counts returns: the message is delivered 4 times", instead="one less than the attempts you want",
        guide="Mega FAQ: poison-pill messages",
    ),
    NotTaken(
        name="at-least-once dead letters without x-overflow=reject-publish", says="queues with DLX", outcome="ignored",
        happens="the queue falls back to at-most-once, with a warning in the broker's log alone: a dead letter no queue takes"
        " is gone", instead="both arguments together (QUORUM_ARGUMENTS)", guide=_ESSENTIALS,
    ),
    NotTaken(
        name="publisher confirms without mandatory", says="publisher confirms enabled", outcome="harmful",
        happens="a message that no queue is bound for is confirmed, and dropped", instead="mandatory=True",
        guide=f"{_ESSENTIALS}; {_TUNING}",
    ),
    NotTaken(
        name="a time to live for each message (expiration)", says="delays by expiration", outcome="harmful",
        happens="only the head of a queue expires: a short one behind a long one waits for the long one",
        instead="a queue for each delay, with x-message-ttl", guide=_RETRIES,
    ),
    NotTaken(
        name="mirrored classic queues (ha-mode)", says="HA", outcome="ignored",
        happens="a quorum queue takes no notice of the policy; 4.0 has removed mirroring", instead="quorum queues",
        guide=_ESSENTIALS, source="https://www.rabbitmq.com/docs/3.13/ha",
    ),
    NotTaken(
        name="channel_tick_interval in rabbitmq.conf", says="quicker consumer timeouts", outcome="refused",
        happens="the broker does not start", error="Conf file attempted to set unknown variable: channel_tick_interval",
        instead="advanced.config: [{rabbit, [{channel_tick_interval, 1000}]}]",
    ),
)  # fmt: skip
