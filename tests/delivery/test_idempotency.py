"""One promise, three stores, each a real one: Postgres, a Redis server, an S3 server over HTTP."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import boto3
import psycopg
import pytest
import redis
from botocore.config import Config
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from structlog.testing import capture_logs
from werkzeug.serving import make_server

from reference.delivery import outbox
from reference.delivery.idempotency import (
    Begun,
    Busy,
    Done,
    IdempotencyStore,
    InProgress,
    LeaseLost,
    ObjectStore,
    RedisStore,
    SqlStore,
    once,
)
from reference.stack import Endpoints

LONG = timedelta(minutes=5)
SHORT = timedelta(milliseconds=50)
THREADS = 8

NewStore = Callable[[], IdempotencyStore]
Eventually = Callable[..., Any]


# -- the servers -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Redis of this module's own, on loopback, that writes nothing down."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.fail("redis-server is missing; get it with: sudo apt-get install --no-install-recommends redis-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    setpriv = shutil.which("setpriv")
    tied = [setpriv, "--pdeathsig", "KILL"] if setpriv else []  # not even a killed test run leaves it behind
    command = [*tied, server, *settings, "--dir", str(tmp_path_factory.mktemp("redis"))]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            _answering(port, process)
            yield port
        finally:
            process.kill()


def _answering(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    with redis.Redis(port=port) as client:
        while True:
            try:
                client.ping()
                return
            except redis.ConnectionError:
                assert process.poll() is None, f"redis-server ended with {process.returncode}"
                assert time.monotonic() < deadline, "redis-server did not answer within 30 s"
                time.sleep(0.02)


class OneAtATime:
    """S3 compares and writes in one step. This server does so only if nobody else is served in between."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app, self._lock = app, threading.Lock()

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        with self._lock:
            return list(self._app(environ, start_response))


@pytest.fixture(scope="module")
def s3_port() -> Iterator[int]:
    """An S3 server in a thread, on loopback."""
    app = OneAtATime(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join(30)
    server.server_close()


@pytest.fixture(scope="module")
def s3(s3_port: int) -> Any:
    """boto3's client of it, with a bucket named ``keys``."""
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{s3_port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(max_pool_connections=2 * THREADS, s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket="keys")
    return client


@pytest.fixture(scope="module")
def keys_db(stack: Endpoints) -> Iterator[str]:
    """One database for all tests whose keys are their own; dropped after the module."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(stack.postgres, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        dsn = urlunsplit(urlsplit(stack.postgres)._replace(path=f"/{name}"))
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(outbox.schema())
        yield dsn
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sql_store(keys_db: str) -> Iterator[NewStore]:
    """Each with a connection of its own."""
    with ExitStack() as opened:
        yield lambda: SqlStore(opened.enter_context(psycopg.connect(keys_db, autocommit=True)))


@pytest.fixture
def redis_store(redis_port: int) -> NewStore:
    return lambda: RedisStore(redis.Redis(port=redis_port))


@pytest.fixture
def object_store(s3: Any) -> NewStore:
    return lambda: ObjectStore(s3, "keys")


@pytest.fixture(params=["sql", "redis", "object"])
def new_store(request: pytest.FixtureRequest) -> NewStore:
    """``new_store()``: another process's view of the same keys, in each of the three places."""
    made: NewStore = request.getfixturevalue(f"{request.param}_store")
    return made


@pytest.fixture
def store(new_store: NewStore) -> IdempotencyStore:
    return new_store()


@pytest.fixture
def key() -> str:
    return f"order-1/charge/{uuid.uuid4()}"


def at_once(new_store: NewStore, call: Callable[[IdempotencyStore, str], Any]) -> list[Any]:
    """``call(store, owner)`` in threads that start together, each with a store and an owner of its own."""
    stores, together = [new_store() for _ in range(THREADS)], threading.Barrier(THREADS, timeout=60)

    def work(number: int) -> Any:
        together.wait()
        return call(stores[number], f"owner-{number}")

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, range(THREADS)))


# -- the promise -------------------------------------------------------------------------------------------------------


def test_the_first_begins_and_the_second_is_told_until_when(store: IdempotencyStore, key: str) -> None:
    """The lease lasts as long as was asked for, give or take the store's rounding."""
    begun, busy = store.begin(key, "a", lease=LONG), store.begin(key, "b", lease=LONG)
    assert isinstance(begun, Begun)
    assert isinstance(busy, Busy)
    assert all(abs(answer.until - datetime.now(UTC) - LONG) < timedelta(seconds=30) for answer in (begun, busy))


@pytest.mark.parametrize("result", ["", '{"größe": "東京"}', "x" * 100_000])
def test_a_finished_key_gives_its_result_to_everybody(store: IdempotencyStore, key: str, result: str) -> None:
    """Byte for byte, to its owner too."""
    store.begin(key, "a", lease=LONG)
    store.finish(key, "a", result=result)
    assert [store.begin(key, owner, lease=LONG) for owner in ("a", "b")] == [Done(result), Done(result)]


def test_exactly_one_of_many_begins(new_store: NewStore) -> None:
    """Again and again, all at the same instant."""
    for _ in range(3):
        key = str(uuid.uuid4())
        answers = at_once(new_store, lambda store, owner, key=key: store.begin(key, owner, lease=LONG))  # type: ignore[misc]
        assert sorted(type(answer).__name__ for answer in answers) == ["Begun", *["Busy"] * (THREADS - 1)]


def test_a_key_whose_owner_died_is_free_after_its_lease(new_store: NewStore, key: str, eventually: Eventually) -> None:
    """Killed between begin and finish: another begins, once the lease is over and not before."""
    dead, heir = new_store(), new_store()
    lease = timedelta(seconds=0.5)
    started = time.monotonic()
    dead.begin(key, "dead", lease=lease)
    eventually(lambda: isinstance(heir.begin(key, "heir", lease=LONG), Begun))
    assert time.monotonic() - started >= lease.total_seconds()


def test_exactly_one_of_many_inherits(new_store: NewStore, key: str, eventually: Eventually) -> None:
    """All wait for the same lease to be over, and all ask at once; nobody else can finish."""
    new_store().begin(key, "dead", lease=SHORT)

    def inherit(store: IdempotencyStore, owner: str) -> bool:
        answer = eventually(lambda: a if (a := store.begin(key, owner, lease=LONG)) and _settled(a) else None)
        return isinstance(answer, Begun)

    def finish(store: IdempotencyStore, owner: str) -> bool:
        try:
            store.finish(key, owner, result=owner)
        except LeaseLost:
            return False
        return True

    begun = at_once(new_store, inherit)
    finished = at_once(new_store, finish)
    assert (sum(begun), finished) == (1, begun)


def _settled(answer: object) -> bool:
    """Begun, or busy with somebody's long lease."""
    return isinstance(answer, Begun) or (isinstance(answer, Busy) and answer.until > datetime.now(UTC) + LONG / 2)


def test_who_lost_the_lease_cannot_finish(new_store: NewStore, key: str, eventually: Eventually) -> None:
    """Neither before nor after the heir has; the one result kept is the heir's."""
    slow, heir = new_store(), new_store()
    slow.begin(key, "slow", lease=SHORT)
    eventually(lambda: isinstance(heir.begin(key, "heir", lease=LONG), Begun))
    with pytest.raises(LeaseLost, match="slow"):
        slow.finish(key, "slow", result="slow's")
    slow.abandon(key, "slow")
    heir.finish(key, "heir", result="heir's")
    with pytest.raises(LeaseLost):
        slow.finish(key, "slow", result="slow's")
    assert slow.begin(key, "slow", lease=LONG) == Done("heir's")


def test_late_but_not_taken_it_finishes(store: IdempotencyStore, key: str) -> None:
    """The effect was done, and nobody else began: to refuse would only run it again."""
    begun = store.begin(key, "late", lease=SHORT)
    assert isinstance(begun, Begun)
    while datetime.now(UTC) <= begun.until:
        time.sleep(0.02)
    store.finish(key, "late", result="r")
    assert store.begin(key, "b", lease=LONG) == Done("r")


def test_an_abandoned_key_is_free_at_once(store: IdempotencyStore, key: str) -> None:
    """A failed effect need not wait for its lease; the one who abandoned cannot finish."""
    store.begin(key, "a", lease=LONG)
    store.abandon(key, "a")
    with pytest.raises(LeaseLost):
        store.finish(key, "a", result="r")
    assert isinstance(store.begin(key, "b", lease=LONG), Begun)


def test_only_its_owner_abandons_a_key(store: IdempotencyStore, key: str) -> None:
    """And nobody one that is done, or was never begun."""
    store.abandon(key, "b")
    store.begin(key, "a", lease=LONG)
    store.abandon(key, "b")
    assert isinstance(store.begin(key, "b", lease=LONG), Busy)
    store.finish(key, "a", result="r")
    store.abandon(key, "a")
    assert store.begin(key, "b", lease=LONG) == Done("r")


def test_every_call_may_be_repeated(store: IdempotencyStore, key: str) -> None:
    """Clients repeat by themselves when an answer is lost: the owner's second call does as the first did."""
    assert [type(store.begin(key, "a", lease=LONG)) for _ in range(2)] == [Begun, Begun]
    store.finish(key, "a", result="r")
    store.finish(key, "a", result="another")
    assert store.begin(key, "b", lease=LONG) == Done("r")


def test_beginning_again_renews_the_lease(new_store: NewStore, key: str) -> None:
    """An effect that takes longer than it thought keeps its key."""
    owner, other = new_store(), new_store()
    first = owner.begin(key, "a", lease=SHORT)
    owner.begin(key, "a", lease=LONG)
    assert isinstance(first, Begun)
    while datetime.now(UTC) <= first.until + timedelta(seconds=0.1):
        time.sleep(0.02)
    assert isinstance(other.begin(key, "b", lease=LONG), Busy)


def test_a_key_never_begun_cannot_be_finished(store: IdempotencyStore, key: str) -> None:
    """There is no lease to have."""
    with pytest.raises(LeaseLost, match=key):
        store.finish(key, "a", result="r")


def test_any_text_is_a_key_of_its_own(store: IdempotencyStore, key: str) -> None:
    """However long, in any script, and whatever it would mean in a path."""
    keys = [key + end for end in ("", "/", "/..", "%2F", " ", "größe", "x" * 2_000)]
    assert all(isinstance(store.begin(each, "a", lease=LONG), Begun) for each in keys)


# -- once --------------------------------------------------------------------------------------------------------------


def test_an_effect_runs_once_and_its_result_is_replayed(store: IdempotencyStore, key: str) -> None:
    """However often the event is delivered."""
    ran: list[str] = []

    def charge() -> str:
        ran.append("charged")
        return f"receipt {len(ran)}"

    assert ([once(store, key, charge) for _ in range(3)], ran) == (["receipt 1"] * 3, ["charged"])


def test_of_many_at_once_one_runs_the_effect(new_store: NewStore, key: str) -> None:
    """The others are told that it is in progress, or what came of it."""
    ran: list[str] = []

    def deliver(store: IdempotencyStore, owner: str) -> str:
        try:
            return once(store, key, lambda: ran.append(owner) or "receipt")  # type: ignore[func-returns-value]
        except InProgress:
            return "in progress"

    answers = at_once(new_store, deliver)
    assert (len(ran), set(answers) <= {"receipt", "in progress"}, "receipt" in answers) == (1, True, True)


def test_an_effect_that_raises_may_run_again_at_once(store: IdempotencyStore, key: str) -> None:
    """Its error is the caller's to see."""
    with pytest.raises(ZeroDivisionError):
        once(store, key, lambda: str(1 / 0))
    assert once(store, key, lambda: "receipt") == "receipt"


def test_an_effect_in_progress_is_not_run_beside(store: IdempotencyStore, key: str) -> None:
    """From within itself, here; the redelivery is refused, with the time when to come again."""
    with pytest.raises(InProgress, match=key):
        once(store, key, lambda: once(store, key, lambda: "never"))


def test_an_effect_that_outlived_its_lease_says_so(new_store: NewStore, key: str, eventually: Eventually) -> None:
    """At least once between begin and finish: both ran, one result is kept, and the loser knows."""
    slow, heir = new_store(), new_store()

    def overtaken() -> str:
        eventually(lambda: isinstance(heir.begin(key, "heir", lease=LONG), Begun))
        heir.finish(key, "heir", result="heir's")
        return "slow's"

    with pytest.raises(LeaseLost):
        once(slow, key, overtaken, lease=SHORT)
    assert once(slow, key, lambda: "never") == "heir's"


def test_a_store_that_goes_away_does_not_hide_the_effect_s_error(redis_store: NewStore, key: str) -> None:
    """The key stays begun until its lease is over; that is said in the log."""

    class Away(RedisStore):
        def abandon(self, key: str, owner: str) -> None:  # noqa: ARG002
            raise ConnectionError("away")

    store = redis_store()
    assert isinstance(store, RedisStore)
    with capture_logs() as said, pytest.raises(ZeroDivisionError):
        once(Away(store._client), key, lambda: str(1 / 0))
    assert [(line["event"], line["key"]) for line in said] == [("idempotency.not_abandoned", key)]


# -- Postgres ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_key_is_not_begun_inside_a_transaction(
    connect: Callable[..., psycopg.Connection[Any]], key: str, autocommit: bool
) -> None:
    """Nobody else would see it before the effect is done."""
    conn = connect(autocommit=autocommit)
    with conn.transaction(), pytest.raises(psycopg.ProgrammingError, match="autocommit"):
        SqlStore(conn).begin(key, "a", lease=LONG)


def test_pruning_forgets_what_is_old_and_nobody_s(conn: psycopg.Connection[Any], eventually: Eventually) -> None:
    """Done or left behind; what is in progress stays, however old."""
    store = SqlStore(conn)
    for key, lease in (("done", LONG), ("left", SHORT), ("running", LONG)):
        store.begin(key, "a", lease=lease)
    store.finish("done", "a", result="r")
    assert store.prune(older_than=LONG) == 0
    eventually(lambda: store.prune(older_than=timedelta(0)) + 1 and _keys(conn) == ["running"])


def _keys(conn: psycopg.Connection[Any]) -> list[str]:
    return [key for (key,) in conn.execute("SELECT key FROM idempotency_keys ORDER BY key")]


# -- Redis -------------------------------------------------------------------------------------------------------------


def test_set_if_absent_alone_loses_the_event_of_a_killed_consumer(redis_port: int, key: str) -> None:
    """The control fails: killed after the SET and before the effect, every redelivery takes it for done."""
    with redis.Redis(port=redis_port) as client:
        assert client.set(key, "seen", nx=True, ex=3600)
        assert [client.set(key, "seen", nx=True, ex=3600) for _ in range(3)] == [None] * 3


def test_a_client_that_decodes_is_as_good(redis_port: int, key: str) -> None:
    """Texts or bytes: the caller's client, the caller's choice."""
    store = RedisStore(redis.Redis(port=redis_port, decode_responses=True))
    store.begin(key, "a", lease=LONG)
    assert isinstance(store.begin(key, "b", lease=LONG), Busy)
    store.finish(key, "a", result="größe")
    assert store.begin(key, "b", lease=LONG) == Done("größe")


def test_redis_forgets_after_the_time_it_was_told(redis_port: int, key: str) -> None:
    """Nothing stays for ever: begun or done, the record has an end."""
    with redis.Redis(port=redis_port) as client:
        store = RedisStore(client, keep=timedelta(hours=1))
        store.begin(key, "a", lease=LONG)
        begun = client.ttl(f"idempotency:{key}")
        store.finish(key, "a", result="r")
        assert [3500 < left <= 3600 for left in (begun, client.ttl(f"idempotency:{key}"))] == [True, True]


def test_a_lease_longer_than_the_memory_is_refused(redis_port: int, key: str) -> None:
    """The record would be gone while its owner is at work."""
    with redis.Redis(port=redis_port) as client, pytest.raises(ValueError, match="shorter"):
        RedisStore(client, keep=SHORT).begin(key, "a", lease=LONG)


# -- S3 ----------------------------------------------------------------------------------------------------------------


def test_head_before_put_lets_two_through(s3: Any, key: str) -> None:
    """The control fails: both look before either writes."""
    looked = threading.Barrier(2, timeout=60)

    def claim(_: int) -> bool:
        absent = not s3.list_objects_v2(Bucket="keys", Prefix=key).get("KeyCount")
        looked.wait()
        s3.put_object(Bucket="keys", Key=key, Body=b"")
        return absent

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(claim, range(2))) == [True, True]


def test_the_server_honours_both_conditions(s3: Any, key: str) -> None:
    """What the store stands on, asked for directly: a server that ignored them would prove nothing."""
    etag = s3.put_object(Bucket="keys", Key=key, Body=b"1", IfNoneMatch="*")["ETag"]
    s3.put_object(Bucket="keys", Key=key, Body=b"2", IfMatch=etag)
    refused = []
    for condition in ({"IfNoneMatch": "*"}, {"IfMatch": etag}):
        with pytest.raises(s3.exceptions.ClientError) as error:
            s3.put_object(Bucket="keys", Key=key, Body=b"3", **condition)
        refused.append(error.value.response["ResponseMetadata"]["HTTPStatusCode"])
    assert refused == [412, 412]


def test_a_renewed_lease_is_no_longer_what_another_read(s3: Any, key: str) -> None:
    """An ETag is a checksum: the same owner and lease written again must not look the same to who would take it over."""
    store, etags = ObjectStore(s3, "keys"), []
    for _ in range(2):
        store.begin(key, "a", lease=LONG)
        etags.append(s3.head_object(Bucket="keys", Key=store._name(key))["ETag"])
    assert etags[0] != etags[1]


def test_an_object_can_be_read_by_people(s3: Any, key: str) -> None:
    """Its name is a checksum; what it is about stands inside."""
    store = ObjectStore(s3, "keys")
    store.begin(key, "a", lease=LONG)
    found = json.loads(s3.get_object(Bucket="keys", Key=store._name(key))["Body"].read())
    assert (found["key"], found["status"], found["owner"], found["lease_s"]) == (key, "started", "a", LONG.total_seconds())


def test_a_bucket_that_is_not_there_is_named(s3: Any, key: str) -> None:
    """Not mistaken for a key that is free."""
    with pytest.raises(s3.exceptions.ClientError, match="NoSuchBucket"):
        ObjectStore(s3, "nowhere").begin(key, "a", lease=LONG)
