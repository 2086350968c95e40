"""Pub/Sub: what is often set, and is refused, ignored, renamed, needless or harmful.

The versions are those of :mod:`reference.brokers.pubsub.settings`; what has no ``source`` is shown by a test.
"""

from __future__ import annotations

from typing import Final

from reference.brokers.settings import NotTaken

__all__ = ["NOT_TAKEN"]

_CLOUD = "Cloud-Native: Pub/Sub, Event Hubs, SNS/SQS"
_TUNING = "Broker Tuning Cheat-Sheet"
_FLOW = "Backpressure and Flow Control"
_RETRIES = "Retries, Backoff, and DLQs"

NOT_TAKEN: Final = (
    NotTaken(
        name="exactly-once with ordering as one feature", says="exactly-once delivery (ordered keys)", outcome="harmful",
        happens="two flags, each without the other: exactly-once alone keeps no order, ordering alone repeats",
        instead="enable_message_ordering; an inbox for the effect", guide=_CLOUD,
    ),
    NotTaken(
        name="ack_deadline_seconds with a streaming client", says="ack_deadline_seconds = 20", outcome="ignored",
        happens="each stream asks for its own: 60 s, or what its flow control says, between 10 and 600",
        instead="FlowControl(max_duration_per_lease_extension=20)", guide=f"IaC Examples; {_TUNING}",
    ),
    NotTaken(
        name="max_duration_per_lease_extension=20.0", says="a float, as its annotation says", outcome="harmful",
        happens="the stream is never opened: the error is raised in a thread of the client's and logged at most, and no"
        " message comes", error="'float' object cannot be interpreted as an integer", instead="an int", guide=_FLOW,
    ),
    NotTaken(
        name="ack_deadline_seconds over 600", says="tune ack deadlines", outcome="refused", happens="600 is the most",
        error="ack_deadline_secs out of bounds", instead="a lease that the client extends", guide=_TUNING,
    ),
    NotTaken(
        name="ack_deadline_seconds under 10", says="tune ack deadlines", outcome="refused",
        happens="by the service; the emulator takes it", instead="10 or more", guide=_TUNING,
        source="https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.subscriptions",
    ),
    NotTaken(
        name="max_delivery_attempts under 5 or over 100", says="dead letters after 3 attempts", outcome="refused",
        happens="the subscription is not made", error="the minimum value is 5", instead="5 to 100, or count in the consumer",
        guide=f"{_TUNING}; {_RETRIES}",
    ),
    NotTaken(
        name="limits without limit_exceeded_behavior", says="flow control", outcome="ignored",
        happens="PublishFlowControl(message_limit=…) alone lets everything through", instead="LimitExceededBehavior.BLOCK",
        guide=f"{_CLOUD}; {_FLOW}",
    ),
    NotTaken(
        name="BatchSettings(max_messages=5000)", says="batch aggressively", outcome="refused",
        happens="the client sends what the service refuses, and every message of the batch fails",
        error="Too many messages to publish", instead="1000", guide="Cost Controls and Budgets",
    ),
    NotTaken(
        name="an ordering key without enable_message_ordering in the publisher", says="enable ordering keys", outcome="refused",
        happens="by the client, when it publishes",
        error="Cannot publish a message with an ordering key when message ordering is not enabled",
        instead="publisher_options()", guide=_TUNING,
    ),
    NotTaken(
        name="enable_message_ordering later", says="enable ordering keys if needed", outcome="refused",
        happens="fixed when the subscription is made", error="enable_message_ordering field in the Subscription is not mutable",
        instead="a new subscription, set back to the time of the change", guide=_TUNING,
    ),
    NotTaken(
        name="message_retention_duration out of bounds", says="message retention policies", outcome="refused",
        happens="10 minutes at least; at most 31 days, of which the emulator gives a subscription 7",
        error="message_retention_duration out of bounds", instead="7 days, and an archive for longer", guide=_TUNING,
    ),
    NotTaken(
        name="filter on the emulator", says="filters", outcome="ignored",
        happens="taken, whatever it says, and every message is delivered: a gap of the emulator, not of the service",
        instead="test filters on the service",
    ),
    NotTaken(
        name="a subscription without an expiration policy", says="name, topic, ack_deadline_seconds", outcome="harmful",
        happens="the service deletes it, with all it holds, after 31 days without a consumer",
        instead="expiration_policy={}: never", guide="IaC Examples",
        source="https://cloud.google.com/pubsub/docs/subscription-properties",
    ),
    NotTaken(
        name="several arguments of a Terraform block on one line", says='{ name = "orders-sub" topic = … }', outcome="refused",
        happens="HCL takes one argument in a block of one line", error="Invalid single-argument block definition",
        instead="a line for each argument", guide="IaC Examples",
        source="https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md",
    ),
)  # fmt: skip
