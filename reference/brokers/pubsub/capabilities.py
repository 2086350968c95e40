"""What Pub/Sub does, what its emulator (0.8.20) does not, and what people do instead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from reference.brokers.protocol import Capabilities
from reference.brokers.pubsub.address import PubSubAddress

__all__ = ["capabilities"]

NOTES: Final = {
    "redelivery_count": "it counts only for groups with dead letters; there every delivery carries its attempt",
    "replay_by_offset": "a subscription has no positions; rewind it to a time, or archive the topic by a group of its own",
    "transactions": "publish through an outbox, and apply through an inbox",
    "delayed_delivery": "hand the publish to Cloud Tasks or Cloud Scheduler with the time it is due",
    "lag": "the backlog is told by Cloud Monitoring (num_undelivered_messages), minutes late, and by the emulator not at all",
    "binary_headers": "attributes are UTF-8 text; encode what is binary, or put it into the value",
    "repeated_headers": "attributes are a map; number the names, or join the values",
    "exactly_once_delivery": "add ?exactly_once=true to the address, or make repeats harmless with an inbox",
    "dead_letters": "the service's own agent needs the publisher role on the dead letter topic and the subscriber role on the"
    " subscription, and its count is approximate; every giving back counts as an attempt, a member's leaving included",
}  # fmt: skip
EMULATOR_NOTES: Final = {
    "filters": "it stores a filter and delivers everything; filter in the handler here",
    "durable": "it keeps everything in memory; a restart loses topics, groups and messages, and members get UnknownTopic",
    "exactly_once_delivery": "it refuses only an ack that a redelivery has overtaken; an inbox makes repeats harmless",
}  # fmt: skip
SERVICE_NOTES: Final = {
    "nack": "what waits behind one counts against the member's window of 1,000 messages or 100 MB per topic (100 messages in a"
    " group with dead letters); once the window is full of it, other partitions wait as well: delay briefly, and let what must"
    " wait longer be published again to a topic for retries",
}  # fmt: skip
UNORDERED: Final = {"ordered_by_key": "?ordered=false in the address switches it off"}
ORDERED_EMULATOR: Final = {
    "ordered_by_key": "it keeps a key's order only while the group has one member, the same all the time; when one leaves or dies"
    " with messages in its hands, the next has later ones first",
    "dead_letters": "it stops delivering an ordered subscription for good when a message has used up its attempts;"
    " add ?ordered=false to the address to see dead letters here",
    "replay_by_time": "it does not seek an ordered subscription to a time; restore a snapshot, or add ?ordered=false",
}  # fmt: skip
SERVICE: Final = Capabilities(
    ordered_by_key=True,
    redelivery_count=False,
    dead_letters=True,
    replay_by_offset=False,
    replay_by_time=True,
    transactions=False,
    filters=True,
    delayed_delivery=False,
    lag=False,
    binary_headers=False,
    repeated_headers=False,
    max_message_bytes=10_000_000,
    max_header_bytes=1024,
    notes=NOTES,
)


def capabilities(address: PubSubAddress) -> Capabilities:
    """Of this address: the service or an emulator, with its options."""
    able = replace(SERVICE, ordered_by_key=address.ordered, exactly_once_delivery=address.exactly_once)
    notes = NOTES | ({} if address.ordered else UNORDERED)
    if address.emulator is None:
        return replace(able, notes=notes | SERVICE_NOTES)
    gaps = EMULATOR_NOTES | (ORDERED_EMULATOR if address.ordered else {})
    missing: dict[str, Any] = dict.fromkeys(gaps, False)
    return replace(able, **missing, notes=notes | gaps, emulator_gaps=frozenset(gaps))
