"""Idempotency keys as objects in S3, or in whatever speaks its protocol with conditional writes.

Killed at any line: a change is one conditional PUT, which happens whole or not at all: ``If-None-Match: *`` creates,
``If-Match`` changes what was read and nothing else. Source: guide, Idempotency Storage Patterns, whose HEAD before PUT lets
two through; Amazon S3 user guide, Conditional requests.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, Protocol

import stamina

from reference.delivery.idempotency.protocol import Answer, Begun, Busy, Done, LeaseLost

__all__ = ["ObjectStore"]

# Both dates that a lease is judged by are whole seconds, so their difference may be one too long.
ROUNDING: Final = timedelta(seconds=1)
_CONTENDED: Final = {404, 409, 412}


class S3(Protocol):
    """What is used of boto3's S3 client. Buckets must honour ``If-None-Match`` and ``If-Match`` when objects are put."""

    @property
    def exceptions(self) -> Any: ...
    def put_object(self, **wanted: Any) -> Any: ...
    def get_object(self, **wanted: Any) -> Any: ...


class _Contended(Exception):
    """Another was faster: look again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What an object holds. The nonce makes each write differ from all others, and so the ETag, which is but a checksum."""

    key: str
    status: Literal["started", "done", "abandoned"]
    owner: str
    lease_s: float = 0.0
    result: str = ""
    nonce: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, slots=True)
class _Found:
    """A record as it was read: its ETag, and when it was written and read by the store's own clock."""

    record: _Record
    etag: str
    written: datetime
    read: datetime

    @property
    def until(self) -> datetime:
        return self.written + timedelta(seconds=self.record.lease_s) + ROUNDING


# Whoever loses a race looks again at once: somebody else has got further, so the answer is another one now.
_again: Final = stamina.retry(on=_Contended, attempts=20, timeout=30.0, wait_initial=0.01, wait_max=0.5, wait_jitter=0.05)


class ObjectStore:
    """Keys in ``bucket``, under ``prefix`` and the key's SHA-256: any text may be a key. ``client`` is boto3's.

    Leases are judged by the store's clock alone, in whole seconds: a key is free up to two seconds after its lease. Nothing is
    ever deleted here: let a lifecycle rule of the bucket do it, later than the longest redelivery, replay or redrive. The
    client needs ``s3:ListBucket`` beside get and put: without it Amazon says "denied" of a key that is not there.
    """

    def __init__(self, client: S3, bucket: str, *, prefix: str = "idempotency/") -> None:
        self._client, self._bucket, self._prefix = client, bucket, prefix

    @_again
    def begin(self, key: str, owner: str, *, lease: timedelta) -> Answer:
        started = _Record(key=key, status="started", owner=owner, lease_s=lease.total_seconds())
        found = self._get(key)
        if found is None:
            return Begun(self._put(started, IfNoneMatch="*") + lease)
        record = found.record
        if record.status == "done":
            return Done(record.result)
        if record.status == "started" and record.owner != owner and found.read < found.until:
            return Busy(found.until)
        return Begun(self._put(started, IfMatch=found.etag) + lease)

    @_again
    def finish(self, key: str, owner: str, *, result: str) -> None:
        found = self._get(key)
        if found is None or found.record.owner != owner or found.record.status == "abandoned":
            raise LeaseLost(key, owner)
        if found.record.status == "started":
            self._put(_Record(key=key, status="done", owner=owner, result=result), IfMatch=found.etag)

    @_again
    def abandon(self, key: str, owner: str) -> None:
        found = self._get(key)
        if found is not None and found.record.owner == owner and found.record.status == "started":
            # Not a DELETE: few stores can make that conditional.
            self._put(_Record(key=key, status="abandoned", owner=owner), IfMatch=found.etag)

    def _get(self, key: str) -> _Found | None:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._name(key))
        except self._client.exceptions.NoSuchKey:
            return None
        record = _Record(**json.loads(answer["Body"].read()))
        return _Found(record, answer["ETag"], answer["LastModified"], _date(answer))

    def _put(self, record: _Record, **condition: str) -> datetime:
        """Write if the condition holds; returns when. Raises :class:`_Contended` when it does not, or another is writing."""
        body = json.dumps(asdict(record)).encode()
        try:
            answer = self._client.put_object(
                Bucket=self._bucket, Key=self._name(record.key), Body=body, ContentType="application/json", **condition
            )
        except self._client.exceptions.ClientError as error:
            code = error.response["Error"]["Code"]
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in _CONTENDED and code != "NoSuchBucket":
                raise _Contended(f"idempotency key {record.key!r}: {code}") from error
            raise
        return _date(answer)

    def _name(self, key: str) -> str:
        return self._prefix + hashlib.sha256(key.encode()).hexdigest()


def _date(answer: Any) -> datetime:
    """When the store answered, by its own clock."""
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).astimezone(UTC)
