"""Pub/Sub: what a topic, a subscription, a publisher and a subscriber are set to, and what does not work as it reads.

Tried on the emulator 0.8.20 with google-cloud-pubsub 2.44.0, whose names these are. Where the service is known to be stricter
than the emulator, the value obeys the service.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from reference.brokers.pubsub.not_taken import NOT_TAKEN
from reference.brokers.settings import Setting, Settings

if TYPE_CHECKING:  # the client is slow to import, and values are wanted without it
    from google.cloud.pubsub_v1 import types

__all__ = [
    "BATCH",
    "DEAD_LETTERS",
    "NOT_TAKEN",
    "PUBLISHER",
    "PUBLISHER_FLOW",
    "RETRY",
    "SUBSCRIBER_FLOW",
    "SUBSCRIPTION",
    "TOPIC",
    "publisher_options",
    "subscription",
]

_CLOUD = "Cloud-Native: Pub/Sub, Event Hubs, SNS/SQS"
_TUNING = "Broker Tuning Cheat-Sheet"
_FLOW = "Backpressure and Flow Control"
_RETRIES = "Retries, Backoff, and DLQs"

TOPIC: Final = Settings(
    "A topic",
    Setting(
        "message_retention_duration", timedelta(days=7),
        "kept once for all subscriptions: a new one can be set back to a time before it was made. None by default",
        f"{_TUNING}; Replay Strategies", "message retention policies",
    ),
    call="types.Topic(name=name, **TOPIC)",
)  # fmt: skip

SUBSCRIPTION: Final = Settings(
    "A subscription; the first two cannot be changed later",
    Setting(
        "enable_message_ordering", True,
        "a key's messages come in the order of their publishing; without it ordering keys are carried and mean nothing",
        _TUNING,
    ),
    Setting(
        "enable_exactly_once_delivery", False,
        "costs latency and holds within one region; a crash between effect and ack still repeats, so the inbox is needed"
        " anyway", _CLOUD, "exactly-once delivery",
    ),
    Setting(
        "ack_deadline_seconds", 20,
        "longer than the slowest handler: what is not acked by then comes again. Streaming clients set their own: see below",
        f"IaC Examples; {_TUNING}",
    ),
    Setting(
        "message_retention_duration", timedelta(days=7),
        "how long what is not acked stays; the most the emulator takes, while the service takes 31 days", _TUNING,
    ),
    Setting(
        "retain_acked_messages", True,
        "what was acked can be set back to as well: without it a seek to a time brings only the rest",
        "Replay Strategies; Cloud-Native: Pub/Sub, Event Hubs, SNS/SQS", "snapshots",
    ),
    call="subscription(name, topic, dead_letter_topic)",
)  # fmt: skip

RETRY: Final = Settings(
    "How soon what was nacked, or not acked in time, comes again",
    Setting(
        "minimum_backoff", timedelta(seconds=1), "without a policy it comes at once: a failing handler then spins", _RETRIES,
        "exponential backoff",
    ),
    Setting(
        "maximum_backoff", timedelta(seconds=60), "a dependency that is back is noticed within a minute; 600 s is the most",
        _RETRIES, "exponential backoff",
    ),
    call="types.RetryPolicy(**RETRY)",
)  # fmt: skip

DEAD_LETTERS: Final = Settings(
    "When the broker gives a message up",
    Setting(
        "max_delivery_attempts", 5,
        "the fewest the service allows; with ordering, every attempt holds up what is behind it in its key", _TUNING,
        "maxDeliveryAttempts",
    ),
    call="types.DeadLetterPolicy(dead_letter_topic=topic, **DEAD_LETTERS)",
)  # fmt: skip

BATCH: Final = Settings(
    "How a publisher collects messages into requests",
    Setting(
        "max_messages", 1000, "the most a request may carry: the client would send more, and the service refuse them all",
        _FLOW,
    ),
    Setting(
        "max_bytes", 1_000_000, "well under the 10 MB of a request; larger batches only wait longer", f"{_FLOW}; Cost Controls",
    ),
    Setting(
        "max_latency", 0.01, "seconds a lone message waits for company", "End-to-End Latency Budgeting",
        "under 10 ms on average",
    ),
    call="PublisherClient(types.BatchSettings(**BATCH), publisher_options())",
)  # fmt: skip

PUBLISHER: Final = Settings(
    "A publisher",
    Setting(
        "enable_message_ordering", True, "one request at a time for each key; without it the client refuses ordering keys",
        _TUNING,
    ),
    call="publisher_options()",
)  # fmt: skip

PUBLISHER_FLOW: Final = Settings(
    "How much a publisher may have under way",
    Setting("message_limit", 10_000, "bounds memory when the service is slower than the service that publishes", _FLOW),
    Setting("byte_limit", 64_000_000, "the same for large messages", _FLOW),
    Setting(
        "limit_exceeded_behavior", "block",
        "publish() waits, so pressure reaches the caller; the default, ignore, makes both limits mean nothing",
        f"{_CLOUD}; {_FLOW}",
    ),
    call="publisher_options()",
)  # fmt: skip

SUBSCRIBER_FLOW: Final = Settings(
    "What one streaming subscriber may hold, and for how long",
    Setting(
        "max_messages", 1000, "what is being handled and what waits in memory; a crash returns all of it", f"{_CLOUD}; {_FLOW}",
    ),
    Setting("max_bytes", 64_000_000, "the same for large messages: 1,000 of 10 MB would be 10 GB", _FLOW),
    Setting(
        "max_lease_duration", 600,
        "a handler that hangs keeps its messages, and their keys, no longer than ten minutes; the default is an hour",
        f"{_TUNING}; Handler Reliability Patterns", "tune ack deadlines",
    ),
    Setting(
        "max_duration_per_lease_extension", 20,
        "seconds that a killed subscriber's messages stay away; by default the client asks for 60, whatever the subscription"
        " says; an int, though the type says float", f"IaC Examples; {_TUNING}",
    ),
    call="subscriber.subscribe(path, handle, flow_control=types.FlowControl(**SUBSCRIBER_FLOW))",
)  # fmt: skip


def subscription(name: str, topic: str, dead_letter_topic: str = "") -> types.Subscription:
    """What ``create_subscription(request=…)`` takes, by full names; it never expires. Dead letters only with their topic."""
    from google.cloud.pubsub_v1 import types

    more: dict[str, Any] = {"retry_policy": dict(RETRY), "expiration_policy": {}}
    if dead_letter_topic:
        more["dead_letter_policy"] = {"dead_letter_topic": dead_letter_topic, **DEAD_LETTERS}
    return types.Subscription(name=name, topic=topic, **SUBSCRIPTION, **more)


def publisher_options() -> types.PublisherOptions:
    """What a ``PublisherClient`` takes as its second argument."""
    from google.cloud.pubsub_v1 import types

    behavior = types.LimitExceededBehavior(PUBLISHER_FLOW["limit_exceeded_behavior"])
    flow = types.PublishFlowControl(**{**PUBLISHER_FLOW, "limit_exceeded_behavior": behavior})
    return types.PublisherOptions(**PUBLISHER, flow_control=flow)
