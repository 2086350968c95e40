"""The options of a group's subscription: its filter in Pub/Sub's language, and in what two subscriptions differ. Nothing here
waits or asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.pubsub_v1 import types

from reference.brokers.protocol import NotOffered

__all__ = ["differences", "filter_text"]

FILTER_BYTES: Final = 256


def filter_text(only: Mapping[str, str]) -> str:
    text = " AND ".join(f"attributes.{_quoted(name)} = {_quoted(value)}" for name, value in sorted(only.items()))
    if len(text.encode()) > FILTER_BYTES:
        raise NotOffered(f"Pub/Sub takes a filter of {FILTER_BYTES} bytes, and {text[:60]}… has {len(text.encode())}")
    return text


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def differences(found: types.Subscription, wanted: types.Subscription) -> list[str]:
    return [
        f"{what} is {is_now!r}, and {asked!r} was asked for"
        for what, is_now, asked in (
            ("its topic", found.topic, wanted.topic),
            ("its dead letter topic", found.dead_letter_policy.dead_letter_topic, wanted.dead_letter_policy.dead_letter_topic),
            ("its number of attempts", found.dead_letter_policy.max_delivery_attempts,
             wanted.dead_letter_policy.max_delivery_attempts),
            ("its filter", found.filter, wanted.filter),
            ("order per key", found.enable_message_ordering, wanted.enable_message_ordering),
            ("exactly-once delivery", found.enable_exactly_once_delivery, wanted.enable_exactly_once_delivery),
        )
        if is_now != asked
    ]  # fmt: skip
