"""What topics and their parts are called in RabbitMQ, and what nothing can be called.

A part is called its topic, a ``#``, and what it is: ``orders#0``, ``orders#0#billing``, ``orders#groups``. No topic's name has
a ``#``, so no topic can be taken for a part of another.
"""

from __future__ import annotations

import unicodedata
import uuid

from reference.brokers.text import is_utf8

__all__ = [
    "check_group",
    "check_topic",
    "groups_exchange",
    "lane_exchange",
    "lane_queue",
    "making_queue",
    "members_queue",
    "passing_queue",
    "topic_of",
    "waiting_queue",
]


def check_topic(name: str) -> None:
    """Raise :class:`ValueError` for a name that no topic can have."""
    reason = _unwritable(name)
    if not reason and "#" in name:
        reason = "'#' divides a topic from its parts"
    if not reason and (not name or name.startswith("amq.") or len(name.encode()) > 200):
        reason = "RabbitMQ takes 1 to 200 bytes that do not begin with 'amq.'"
    if reason:
        raise ValueError(f"no name for a topic: {name[:80]!r}; {reason}")


def check_group(name: str) -> None:
    """Raise :class:`ValueError` for a name that no group can have."""
    if reason := _unwritable(name):
        raise ValueError(f"no name for a group: {name[:80]!r}; {reason}")


def lane_exchange(topic: str, partition: int) -> str:
    """The exchange of this partition, to publish to."""
    return f"{topic}#{partition}"


def lane_queue(topic: str, partition: int, group: str) -> str:
    """The queue of ``group`` for this partition."""
    return f"{topic}#{partition}#{group}"


def groups_exchange(topic: str) -> str:
    """It lists the groups: each is a binding."""
    return f"{topic}#groups"


def members_queue(topic: str, group: str) -> str:
    """A queue that never has a message: its consumers are the group's living members."""
    return f"{topic}#members#{group}"


def making_queue(topic: str) -> str:
    """It belongs to whoever makes the topic just now."""
    return f"{topic}#making"


def waiting_queue(topic: str, delay_ms: int) -> str:
    """Where messages wait for so long, and the exchange that leads there."""
    return f"{topic}#delay#{delay_ms}"


def passing_queue(part: str) -> str:
    """A queue that is deleted at once, of the same topic as ``part``."""
    return f"{topic_of(part)}#passing#{uuid.uuid4().hex[:8]}"


def topic_of(part: str) -> str:
    """The topic that this is, or is a part of."""
    return part.partition("#")[0]


def _unwritable(name: str) -> str:
    if not is_utf8(name):
        return "it has half a character (a lone surrogate), which UTF-8 cannot write"
    if any(unicodedata.category(one) == "Cc" for one in name):  # RabbitMQ takes line ends out, and makes another name of it
        return "it has a control character"
    return ""
