"""Change data capture on the real thing: commit order over all keys, nothing lost wherever it stops, and the log let go."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest.mock import Mock
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from psycopg import errors
from structlog.testing import capture_logs

from reference.brokers import BrokerUnavailable
from reference.brokers.kafka import KafkaBroker
from reference.brokers.memory import MemoryBroker
from reference.delivery import cdc, outbox
from reference.delivery.cdc import ChangeRelay
from reference.delivery.relay import Relay
from reference.event import Event
from reference.stack import Endpoints

Conn = psycopg.Connection[Any]
Connect = Callable[..., Conn]
Write = Callable[..., None]
NewRelay = Callable[..., ChangeRelay]
Told = Callable[[], list[tuple[str, int]]]


class Killed(BaseException):
    """What no handler in between may swallow."""


@pytest.fixture(scope="module")
def database(stack: Endpoints) -> Iterator[str]:
    """One for the module, with an outbox; dropped after it, and its slots with it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(stack.postgres, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        dsn = urlunsplit(urlsplit(stack.postgres)._replace(path=f"/{name}"))
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(outbox.schema())
            conn.execute("CREATE TABLE aggregates (id text PRIMARY KEY, version int NOT NULL DEFAULT 0)")
        yield dsn
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def db(database: str) -> Iterator[str]:
    """That database, with nothing in it, and afterwards without slots and publications."""
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("TRUNCATE outbox, outbox_held, aggregates RESTART IDENTITY; ALTER SEQUENCE outbox_position RESTART")
        yield database
        conn.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()")
        conn.execute("DROP PUBLICATION IF EXISTS outbox, other")


@pytest.fixture
def line(new_topic: Callable[..., str]) -> str:
    """A topic of one partition: it holds the order over all keys."""
    return new_topic(partitions=1)


@pytest.fixture
def new_relay(db: str, kafka: KafkaBroker, line: str) -> Iterator[NewRelay]:
    """``new_relay(page=2)``: a reader of this test's own slot, which exists and goes with the database."""
    made: list[ChangeRelay] = []
    name = f"test_{uuid.uuid4().hex[:12]}"

    def make(**options: Any) -> ChangeRelay:
        made.append(
            ChangeRelay(options.pop("dsn", db), options.pop("broker", kafka), **({"slot": name, "route": line} | options))
        )
        return made[-1]

    make().create()
    yield make
    for relay in made:
        relay.close()


@pytest.fixture
def told(kafka: KafkaBroker, line: str) -> Told:
    """Key and number of every event, in the order in which the topic holds them."""

    def read() -> list[tuple[str, int]]:
        return [((d.key or b"").decode(), json.loads(d.value or b"")["n"]) for d in kafka.replay(line)]

    return read


@contextmanager
def running(relay: ChangeRelay) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=relay.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


def drain(relay: ChangeRelay) -> int:
    """All there is. Postgres may notice a moment later that whoever read the slot before has gone."""
    total, deadline = 0, time.monotonic() + 60
    while True:
        try:
            count = relay.run_once()
        except errors.ObjectInUse:
            assert time.monotonic() < deadline
            time.sleep(0.05)
            continue
        if not count:
            return total
        total += count


def insert(conn: Conn, key: str, payload: str = '{"n": 1}', *, aggregatetype: str = "orders") -> int:
    """One row as any program may write it; returns its position."""
    row = conn.execute(
        "INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES (%s, %s, 'T', %s) RETURNING position",
        (aggregatetype, key, payload),
    ).fetchone()
    assert row
    return int(row[0])


def held(conn: Conn) -> list[tuple[str, str]]:
    """Key and reason of what is put aside, in order."""
    return conn.execute("SELECT aggregateid, reason FROM outbox_held ORDER BY n").fetchall()


# -- what goes over ----------------------------------------------------------------------------------------------------


def test_the_message_is_the_one_the_polling_relay_sends(
    db: str, conn: Conn, kafka: KafkaBroker, line: str, new_relay: NewRelay, write: Write
) -> None:
    """Topic, key, value and headers: consumers need not know who carried it."""
    write(conn, "k")
    conn.execute('UPDATE outbox SET headers = \'{"traceparent": "00-1-2-03"}\'')
    conn.execute("INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, headers, created_at)"
                 " SELECT id, aggregatetype, aggregateid, type, payload, headers, created_at FROM outbox")  # fmt: skip
    conn.execute("DELETE FROM outbox WHERE headers IS NULL")
    new_relay().run_once()
    conn.execute("DELETE FROM outbox WHERE position = 1")
    with Relay(db, kafka, route=line) as polling:
        polling.run_once()
    captured, polled = list(kafka.replay(line))[-2:]
    assert (captured.key, captured.value, captured.headers) == (polled.key, polled.value, polled.headers)


def test_the_order_is_that_of_commits_whatever_was_drawn_first(
    connect: Connect, new_relay: NewRelay, write: Write, told: Told
) -> None:
    """A position drawn first and committed last comes last: over all keys, not only within one."""
    early, late = connect(autocommit=False), connect(autocommit=False)
    write(early, "a")
    write(late, "b")
    write(late, "c")
    late.commit()
    relay = new_relay()
    relay.run_once()
    early.commit()
    relay.run_once()
    assert told() == [("b", 1), ("c", 1), ("a", 1)]


def test_writers_that_take_no_lock_are_carried_in_commit_order_too(connect: Connect, new_relay: NewRelay, told: Told) -> None:
    """Where a polling relay must trust the writers' locks, the log needs no trust."""
    first, second = connect(autocommit=False), connect(autocommit=False)
    insert(first, "k", '{"n": 2}')
    insert(second, "k", '{"n": 1}')
    second.commit()
    first.commit()
    new_relay().run_once()
    assert told() == [("k", 1), ("k", 2)]


def test_what_was_rolled_back_is_never_published(conn: Conn, new_relay: NewRelay, write: Write, told: Told) -> None:
    """Nor is what a savepoint took back."""
    with conn.transaction(force_rollback=True):
        write(conn, "gone")
    with conn.transaction():
        write(conn, "a")
        with conn.transaction(force_rollback=True):
            write(conn, "gone")
        write(conn, "b")
    assert (new_relay().run_once(), told()) == (2, [("a", 1), ("b", 1)])


def test_an_event_that_leaves_no_row_is_published(conn: Conn, new_relay: NewRelay, told: Told, left: Callable[[], int]) -> None:
    """Inserted and deleted in one transaction: the table stays empty, the log tells it all."""
    for n in range(1, 4):
        with conn.transaction():
            cdc.append(conn, Event(type="OrderAmended", source="/orders", subject="k", data={"n": n}))
    assert (left(), new_relay().run_once(), told()) == (0, 3, [("k", 1), ("k", 2), ("k", 3)])


def test_large_values_and_any_script_come_whole(conn: Conn, kafka: KafkaBroker, line: str, new_relay: NewRelay) -> None:
    """What Postgres stores out of line, in a transaction that deletes it again."""
    noise = "東京 🚚 " + "".join(uuid.uuid4().hex for _ in range(10_000))
    with conn.transaction():
        cdc.append(conn, Event(type="T", source="/orders", subject="schlüssel", data={"n": 1, "noise": noise}))
    new_relay().run_once()
    (delivery,) = kafka.replay(line)
    assert ((delivery.key or b"").decode(), json.loads(delivery.value or b"")["noise"]) == ("schlüssel", noise)


def test_updates_deletes_and_other_tables_are_no_events(conn: Conn, new_relay: NewRelay, write: Write, told: Told) -> None:
    """Only inserts into the outbox are."""
    write(conn, "k")
    conn.execute("UPDATE outbox SET type = 'Other'")
    conn.execute("DELETE FROM outbox")
    conn.execute("UPDATE aggregates SET version = version + 1")
    assert (drain(new_relay()), told()) == (1, [("k", 1)])


def test_a_step_is_bounded_and_a_large_transaction_goes_in_pages(
    conn: Conn, new_relay: NewRelay, write: Write, write_many: Write, told: Told
) -> None:
    """Transactions are whole, steps end after the one that fills them, and memory holds one page."""
    write_many(conn, 500)
    for _ in range(5):
        write(conn, "k")
    pages: list[str] = []
    relay = new_relay(changes=10, page=60, at=pages.append)
    steps = [relay.run_once() for _ in range(4)]
    assert (steps, pages[:18].count("read"), [n for _, n in told()]) == ([500, 3, 2, 0], 9, [*range(1, 501), 1, 2, 3, 4, 5])


def test_an_idle_reader_wakes_at_a_commit(
    conn: Conn, new_relay: NewRelay, write: Write, told: Told, eventually: Callable[..., Any]
) -> None:
    """It listens, and carries what comes while it runs."""
    with running(new_relay()):
        for n in range(1, 4):
            write(conn, "k")
            eventually(lambda wanted=n: told() == [("k", m) for m in range(1, wanted + 1)])


# -- killed ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("point", "twice"), [("read", 0), ("published", 20), ("advanced", 0)])
def test_stopped_at_a_point_it_loses_nothing(
    conn: Conn, new_relay: NewRelay, write_many: Write, told: Told, point: str, twice: int
) -> None:
    """Only what was published and not yet advanced past is published again."""
    write_many(conn, 20)

    def die(name: str) -> None:
        if name == point:
            raise Killed

    with pytest.raises(Killed), new_relay(at=die) as doomed:
        doomed.run_once()
    drain(new_relay())
    numbers = [n for _, n in told()]
    assert (list(dict.fromkeys(numbers)), len(numbers)) == (list(range(1, 21)), 20 + twice)


def test_stopped_at_any_page_first_arrivals_are_in_commit_order(conn: Conn, new_relay: NewRelay, told: Told) -> None:
    """Two transactions in steps of pages, a key that cannot go among them: stopped at each point in turn, then mended."""
    options: dict[str, Any] = {"changes": 9, "page": 3, "retry_s": 0.0}
    for kill_at in range(1, 12):
        passed: list[str] = []

        def die(point: str, passed: list[str] = passed, kill_at: int = kill_at) -> None:
            passed.append(point)
            if len(passed) == kill_at:
                raise Killed

        for numbers in ((1, 2, 3), (4, 5, 6)):
            with conn.transaction():
                for n in numbers:
                    insert(conn, f"{kill_at}-good", f'{{"n": {n}}}')
                    insert(conn, f"{kill_at}-bad", f'{{"n": {n}}}' if n != 2 else "[]")
        with suppress(Killed), new_relay(at=die, **options) as doomed:
            drain(doomed)
        with new_relay(**options) as relay:
            drain(relay)
    conn.execute("UPDATE outbox_held SET payload = '{\"n\": 2}' WHERE payload = '[]'")
    with new_relay(**options) as relay:
        drain(relay)
    by_key: dict[str, list[int]] = {}
    for key, n in told():
        by_key.setdefault(key, []).append(n)
    expected = {f"{kill_at}-{key}": [1, 2, 3, 4, 5, 6] for kill_at in range(1, 12) for key in ("good", "bad")}
    assert ({key: list(dict.fromkeys(ns)) for key, ns in by_key.items()}, held(conn)) == (expected, [])


def test_a_database_that_cuts_it_off_is_come_back_to(
    conn: Conn, new_relay: NewRelay, write_many: Write, told: Told, eventually: Callable[..., Any]
) -> None:
    """In the middle of a step, twice; nothing is missing afterwards."""
    cut: list[str] = []

    def cut_off(point: str) -> None:
        if point == "published" and len(cut) < 2:
            cut.append(point)
            conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'eda-relay'")

    write_many(conn, 20)
    with running(new_relay(at=cut_off)):
        eventually(lambda: len(cut) == 2 and set(range(1, 21)) <= {n for _, n in told()})
    assert list(dict.fromkeys(n for _, n in told())) == list(range(1, 21))


def test_a_broker_that_is_away_moves_nothing(conn: Conn, new_relay: NewRelay, write: Write, told: Told) -> None:
    """The slot stands; a reader with the right address carries it all."""
    write(conn, "k")
    with (
        KafkaBroker("kafka://127.0.0.1:9", timeout_s=0.5) as nobody,
        new_relay(broker=nobody) as relay,
        pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:9"),
    ):
        relay.run_once()
    assert (new_relay().run_once(), told()) == (1, [("k", 1)])


# -- rows that cannot go -------------------------------------------------------------------------------------------------


def test_a_row_that_is_no_event_holds_up_its_key_alone(conn: Conn, new_relay: NewRelay, told: Told) -> None:
    """It is named, put aside with what its key writes behind it, and everything else goes on."""
    insert(conn, "bad", '{"n": 1}')
    position = insert(conn, "bad", "[]")
    insert(conn, "good", '{"n": 1}')
    insert(conn, "bad", '{"n": 3}')
    relay = new_relay()
    with capture_logs() as said:
        relay.run_once()
        insert(conn, "bad", '{"n": 4}')
        insert(conn, "good", '{"n": 2}')
        relay.run_once()
    named = [(line["position"], line["aggregateid"]) for line in said if line["event"] == "relay.row_held"]
    assert (named, told(), [key for key, _ in held(conn)]) == (
        [(position, "bad")], [("bad", 1), ("good", 1), ("good", 2)], ["bad"] * 3
    )  # fmt: skip


def test_what_is_put_aside_twice_is_there_once(
    conn: Conn, new_relay: NewRelay, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the rows were put aside and before the slot moved: the log shows them again, and they keep their place."""
    insert(conn, "bad", "[]")
    insert(conn, "bad", '{"n": 2}')
    with new_relay() as doomed:
        monkeypatch.setattr(doomed._slot, "advance", Mock(side_effect=Killed))
        with pytest.raises(Killed):
            doomed.run_once()
    insert(conn, "bad", '{"n": 3}')
    with new_relay() as relay:
        relay.run_once()
    assert len(held(conn)) == 3
    conn.execute("UPDATE outbox_held SET payload = '{\"n\": 1}' WHERE payload = '[]'")
    assert (new_relay().run_once(), told()) == (3, [("bad", 1), ("bad", 2), ("bad", 3)])


def test_a_mended_row_goes_and_its_key_behind_it(conn: Conn, new_relay: NewRelay, told: Told) -> None:
    """In commit order, after a restart too, though the outbox has long forgotten them."""
    with conn.transaction():
        for n, payload in enumerate(("[]", '{"n": 2}', '{"n": 3}'), start=1):
            insert(conn, f"k{n % 2}", payload)
        conn.execute("DELETE FROM outbox")
    with new_relay() as relay:
        assert (relay.run_once(), told()) == (1, [("k0", 2)])
    conn.execute("UPDATE outbox_held SET payload = '{\"n\": 1}' WHERE payload = '[]'")
    insert(conn, "k1", '{"n": 5}')
    assert (new_relay().run_once(), told()) == (3, [("k0", 2), ("k1", 1), ("k1", 3), ("k1", 5)])


def test_a_topic_that_comes_later_is_waited_for_by_its_keys_alone(
    conn: Conn, kafka: KafkaBroker, new_topic: Callable[..., str], new_relay: NewRelay
) -> None:
    """Refused by the broker, put aside, and carried in order once somebody has made the topic."""
    here, later = f"here-{uuid.uuid4().hex[:8]}", f"later-{uuid.uuid4().hex[:8]}"
    new_topic(here, partitions=1)
    relay = new_relay(route="{aggregatetype}", retry_s=0.0)
    for n in range(1, 4):
        insert(conn, "k", f'{{"n": {n}}}', aggregatetype=later)
        insert(conn, "k", f'{{"n": {n}}}', aggregatetype=here)
    assert (relay.run_once(), len(held(conn)), len(list(kafka.replay(here)))) == (3, 3, 3)
    assert later in held(conn)[0][1]
    new_topic(later, partitions=1)
    assert drain(relay) == 3
    assert ([json.loads(d.value or b"")["n"] for d in kafka.replay(later)], held(conn)) == ([1, 2, 3], [])


def test_an_event_too_large_goes_when_the_topic_takes_it(
    conn: Conn, kafka: KafkaBroker, line: str, new_relay: NewRelay, told: Told
) -> None:
    """Put aside while the limit stands, and its neighbours are not."""
    relay = new_relay(retry_s=0.0)
    noise = "".join(uuid.uuid4().hex for _ in range(40_000))
    insert(conn, "large", json.dumps({"n": 1, "noise": noise}))
    insert(conn, "small")
    insert(conn, "large", '{"n": 2}')
    assert (relay.run_once(), told()) == (1, [("small", 1)])
    resource = ConfigResource(ConfigResource.Type.TOPIC, line)
    resource.add_incremental_config(ConfigEntry("max.message.bytes", "4000000", incremental_operation=AlterConfigOpType.SET))
    admin = AdminClient(kafka.client)
    admin.incremental_alter_configs([resource])[resource].result(timeout=30)
    assert (drain(relay), told()) == (2, [("small", 1), ("large", 1), ("large", 2)])


# -- the slot ----------------------------------------------------------------------------------------------------------


def positions(conn: Conn, relay: ChangeRelay) -> tuple[int, int]:
    """Where the slot stands, and from where Postgres keeps the log for it."""
    row = conn.execute(
        "SELECT (confirmed_flush_lsn - '0/0')::bigint, (restart_lsn - '0/0')::bigint"
        " FROM pg_replication_slots WHERE slot_name = %s",
        (relay._slot.name,),
    ).fetchone()
    assert row
    return row


def test_making_it_twice_changes_nothing(conn: Conn, new_relay: NewRelay, write: Write) -> None:
    """What was committed between the two is still to be seen."""
    write(conn, "k")
    new_relay().create()
    assert new_relay().run_once() == 1


def test_the_log_is_let_go_behind_the_slot(conn: Conn, new_relay: NewRelay, write_many: Write) -> None:
    """What was carried need not be kept: the slot's position moves at once, the log's start with the server's next note."""
    relay = new_relay()
    before = positions(conn, relay)
    write_many(conn, 100)
    relay.run_once()
    conn.execute("CHECKPOINT")
    write_many(conn, 1)
    relay.run_once()
    after = positions(conn, relay)
    assert (after[0] > before[0], after[1] > before[1]) == (True, True)


def test_a_step_that_fails_moves_nothing(conn: Conn, new_relay: NewRelay, write: Write) -> None:
    """Published is not yet advanced."""

    def die(name: str) -> None:
        if name == "published":
            raise Killed

    write(conn, "k")
    relay = new_relay(at=die)
    before = positions(conn, relay)
    with pytest.raises(Killed):
        relay.run_once()
    assert positions(conn, relay) == before


def test_an_idle_outbox_keeps_no_log_of_other_tables(conn: Conn, new_relay: NewRelay) -> None:
    """A busy database beside a quiet outbox must not fill the disk."""
    relay = new_relay()
    before = positions(conn, relay)
    conn.execute("INSERT INTO aggregates SELECT n::text FROM generate_series(1, 1000) AS n")
    relay.run_once()
    assert positions(conn, relay)[0] > before[0]


def test_passing_other_tables_log_passes_no_event_by(
    db: str, connect: Connect, new_relay: NewRelay, write: Write, told: Told
) -> None:
    """Four writers commit as they like, with and without events, while the reader advances all the time."""

    def work(writer: int) -> None:
        with psycopg.connect(db, autocommit=True) as mine:
            for n in range(60):
                if n % 2:
                    mine.execute("SET synchronous_commit = off")
                mine.execute("INSERT INTO aggregates VALUES (%s)", (f"{writer}-{n}",))
                with mine.transaction(force_rollback=n % 7 == 0):
                    write(mine, f"k{writer}")
                    write(mine, "shared")

    writers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for writer in writers:
        writer.start()
    relay = new_relay(changes=20, page=7)
    while any(writer.is_alive() for writer in writers):
        relay.run_once()
    connect().execute("SET synchronous_commit = on; INSERT INTO aggregates VALUES ('flushed')")
    drain(relay)
    by_key: dict[str, list[int]] = {}
    for key, n in told():
        by_key.setdefault(key, []).append(n)
    assert by_key == {**{f"k{n}": list(range(1, 52)) for n in range(4)}, "shared": list(range(1, 205))}


def test_a_second_reader_is_told_and_takes_over(
    conn: Conn, new_relay: NewRelay, write: Write, told: Told, eventually: Callable[..., Any]
) -> None:
    """One reader a slot: the other waits, saying so, and goes on where the first left off."""
    first, second = new_relay(), new_relay()
    first.connect()
    with pytest.raises(errors.ObjectInUse, match="another process reads slot"):
        second.run_once()
    write(conn, "k")
    with capture_logs() as said, running(second):
        eventually(lambda: [line for line in said if line["event"] == "relay.waiting"])
        first.run_once()
        first.close()
        write(conn, "k")
        eventually(lambda: told() == [("k", 1), ("k", 2)])


def test_dropped_it_keeps_nothing(conn: Conn, new_relay: NewRelay) -> None:
    """Neither slot nor publication; dropping again is a no-op."""
    relay = new_relay()
    relay.run_once()
    relay.drop()
    relay.drop()
    left = conn.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", (relay._slot.name,)).fetchall()
    assert left + conn.execute("SELECT 1 FROM pg_publication").fetchall() == []


def test_a_slot_that_is_read_is_not_dropped(new_relay: NewRelay) -> None:
    """Its reader would lose its place."""
    new_relay().connect()
    with pytest.raises(errors.ObjectInUse):
        new_relay().drop()


def test_without_a_slot_it_says_what_to_do(new_relay: NewRelay) -> None:
    """And does not go on as if nothing were lost: not even in its loop."""
    with pytest.raises(errors.UndefinedObject, match="create"):
        new_relay(slot="nobody_made_me").run(threading.Event())


def test_a_publication_of_something_else_is_refused(conn: Conn, new_relay: NewRelay) -> None:
    """It would show nothing, and the slot would pass every event by."""
    conn.execute("CREATE PUBLICATION other FOR TABLE aggregates")
    with pytest.raises(errors.UndefinedObject, match="inserted into the outbox"):
        new_relay(publication="other").create()


def test_a_slot_of_another_plugin_is_refused(conn: Conn, new_relay: NewRelay) -> None:
    """Its bytes are not ours to read."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    conn.execute("SELECT pg_create_physical_replication_slot(%s)", (name,))
    try:
        with pytest.raises(errors.WrongObjectType, match=name):
            new_relay(slot=name).create()
    finally:
        conn.execute("SELECT pg_drop_replication_slot(%s)", (name,))


@pytest.mark.parametrize("options", [{"changes": 0}, {"page": 0}, {"lease_s": 1}, {"route": "{type}"}])
def test_nonsense_is_refused_at_the_start(options: dict[str, Any]) -> None:
    """Before anything is opened."""
    with pytest.raises(ValueError, match=r"at least|lease|braces"):
        ChangeRelay("postgresql://nowhere", MemoryBroker(), **options)
