"""Idempotency keys in Redis: a hash of status, owner, lease and result for each.

Killed at any line: each call is one script, which Redis runs whole or not at all. It promises what that Redis does: with
eviction, without ``appendfsync always``, or after a failover to a replica that lagged, a key may be gone, and its effect
runs again. Source: guide, Idempotency Storage Patterns, whose ``SET NX EX`` alone loses the event of a killed consumer.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from reference.delivery.idempotency.protocol import Answer, Begun, Busy, Done, LeaseLost

__all__ = ["RedisStore"]

KEEP: Final = timedelta(days=7)

# The lease is judged by Redis's clock, and does not remove the record: who finishes late, but untaken, still may.
_BEGIN: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local status, owner, lease, result = unpack(redis.call('HMGET', KEYS[1], 'status', 'owner', 'until', 'result'))
if status == 'done' then return {'done', result} end
if status and owner ~= ARGV[1] and tonumber(lease) > now then return {'busy', lease} end
lease = string.format('%.0f', now + ARGV[2])
redis.call('HSET', KEYS[1], 'status', 'started', 'owner', ARGV[1], 'until', lease)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {'begun', lease}
"""
_FINISH: Final = """
local status, owner = unpack(redis.call('HMGET', KEYS[1], 'status', 'owner'))
if owner ~= ARGV[1] then return 0 end
if status == 'started' then
  redis.call('HSET', KEYS[1], 'status', 'done', 'result', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
"""
_ABANDON: Final = """
local status, owner = unpack(redis.call('HMGET', KEYS[1], 'status', 'owner'))
if status == 'started' and owner == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""


class Scripting(Protocol):
    """What is used of ``redis.Redis``, with or without ``decode_responses``."""

    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Any: ...


class RedisStore:
    """Keys in the Redis behind ``client``, each forgotten ``keep`` after its last change.

    ``keep`` must outlast the longest redelivery, replay or redrive, and any lease: a forgotten key's effect runs again.
    """

    def __init__(self, client: Scripting, *, keep: timedelta = KEEP, prefix: str = "idempotency:") -> None:
        self._client, self._keep, self._prefix = client, keep, prefix

    def begin(self, key: str, owner: str, *, lease: timedelta) -> Answer:
        if lease >= self._keep:
            raise ValueError(f"a lease must be shorter than the {self._keep} for which keys are kept, got {lease}")
        status, value = self._eval(_BEGIN, key, owner, _ms(lease), _ms(self._keep))
        if _text(status) == "done":
            return Done(_text(value))
        until = datetime.fromtimestamp(int(value) / 1000, UTC)
        return Begun(until) if _text(status) == "begun" else Busy(until)

    def finish(self, key: str, owner: str, *, result: str) -> None:
        if not self._eval(_FINISH, key, owner, result, _ms(self._keep)):
            raise LeaseLost(key, owner)

    def abandon(self, key: str, owner: str) -> None:
        self._eval(_ABANDON, key, owner)

    def _eval(self, script: str, key: str, *arguments: str | int) -> Any:
        return self._client.eval(script, 1, self._prefix + key, *arguments)


def _ms(duration: timedelta) -> int:
    return round(duration / timedelta(milliseconds=1))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
