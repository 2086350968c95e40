"""Idempotency keys: for effects outside the database whose transaction the inbox would share. See :mod:`.protocol`.

The caller brings the connection or client, so that importing this needs neither ``redis`` nor ``boto3``.
"""

from reference.delivery.idempotency.objects import ObjectStore
from reference.delivery.idempotency.once import InProgress, once
from reference.delivery.idempotency.protocol import Answer, Begun, Busy, Done, IdempotencyStore, LeaseLost
from reference.delivery.idempotency.redis import RedisStore
from reference.delivery.idempotency.sql import SqlStore

__all__ = [
    "Answer",
    "Begun",
    "Busy",
    "Done",
    "IdempotencyStore",
    "InProgress",
    "LeaseLost",
    "ObjectStore",
    "RedisStore",
    "SqlStore",
    "once",
]
