"""The relay on the real thing: nothing committed is lost, every key in commit order, whatever is killed, frozen or away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
from structlog.testing import capture_logs

from reference.brokers import BrokerUnavailable
from reference.brokers.kafka import KafkaBroker
from reference.delivery.relay import Relay
from reference.evidence.controls.relays import LastIdRelay, SkipLockedRelay, TransactionIdRelay
from reference.stack import Endpoints

Conn = psycopg.Connection[Any]
Connect = Callable[..., Conn]
Write = Callable[..., None]
Arrived = Callable[[str], dict[str, list[int]]]
Drain = Callable[[Any], int]
Eventually = Callable[..., Any]


def firsts(numbers: list[int]) -> list[int]:
    """The order of first arrivals: what an inbox lets through."""
    return list(dict.fromkeys(numbers))


@contextmanager
def running(relay: Relay) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=relay.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


@pytest.fixture
def process(db: str, stack: Endpoints, route: str) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """``process("--kill", "published:1")``: a relay in a process of its own; killed after the test at the latest."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "reference.evidence.victim", "carry", "--dsn", db]
        command += ["--broker", stack.kafka, "--route", route]
        started.append(subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return started[-1]

    yield start
    for relay in started:
        relay.kill()
        relay.wait(30)


@pytest.fixture
def lane_holders(conn: Conn) -> Callable[[], set[int]]:
    """The backends that hold lanes of this database's outbox."""

    def ask() -> set[int]:
        rows = conn.execute(
            "SELECT DISTINCT pid FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        return {pid for (pid,) in rows}

    return ask


# -- what goes over ----------------------------------------------------------------------------------------------------


def test_an_event_is_published_and_its_row_is_gone(
    db: str, conn: Conn, kafka: KafkaBroker, route: str, write: Write, arrived: Arrived, left: Callable[[], int]
) -> None:
    """One round is enough, and says how many went."""
    write(conn, "k")
    with Relay(db, kafka, route=route) as relay:
        assert (relay.run_once(), arrived(route), left()) == (1, {"k": [1]}, 0)


def test_a_page_is_one_or_more_rows(db: str, kafka: KafkaBroker) -> None:
    """Nonsense is refused before anything is opened."""
    with pytest.raises(ValueError, match="at least 1 row"):
        Relay(db, kafka, page=0)


def test_a_lease_outlasts_the_pause_between_rounds(db: str, kafka: KafkaBroker) -> None:
    """An idle relay must not lose its lanes for being idle."""
    with pytest.raises(ValueError, match="lease"):
        Relay(db, kafka, lease_s=1)


def test_thousands_of_rows_go_in_pages_and_in_order(
    db: str, conn: Conn, kafka: KafkaBroker, route: str, write_many: Write, arrived: Arrived, left: Callable[[], int]
) -> None:
    """Several pages of one round, deleted behind the reader, keep each key's order and leave an empty table."""
    write_many(conn, 5_000, keys=70)
    with Relay(db, kafka, route=route, page=400) as relay:
        assert relay.run_once() == 5_000
    found = arrived(route)
    assert (sum(map(len, found.values())), all(n == sorted(n) for n in found.values()), left()) == (5_000, True, 0)


def test_more_pages_than_a_round_takes_go_in_the_next(
    db: str, conn: Conn, kafka: KafkaBroker, route: str, write_many: Write, drain: Drain, arrived: Arrived
) -> None:
    """A round is bounded; nothing is left behind."""
    write_many(conn, 100)
    with Relay(db, kafka, route=route, page=3) as relay:
        assert drain(relay) == 100
    assert sum(map(len, arrived(route).values())) == 100


def test_what_was_rolled_back_is_never_published(
    db: str, connect: Connect, kafka: KafkaBroker, route: str, write: Write, drain: Drain, arrived: Arrived
) -> None:
    """The event exists if and only if the change does."""
    conn = connect()
    for n in range(20):
        with conn.transaction(force_rollback=n % 3 == 0):
            write(conn, f"k{n % 4}")
    with Relay(db, kafka, route=route) as relay:
        assert drain(relay) == 13
    assert sum(map(len, arrived(route).values())) == 13


def test_an_idle_relay_wakes_at_a_commit(
    db: str, conn: Conn, kafka: KafkaBroker, route: str, write: Write, arrived: Arrived, eventually: Eventually
) -> None:
    """It listens, and carries what comes while it runs."""
    with Relay(db, kafka, route=route) as relay, running(relay):
        for n in range(1, 4):
            write(conn, "k")
            eventually(lambda wanted=n: arrived(route) == {"k": list(range(1, wanted + 1))})


# -- late commits: the relay beside three that look right ----------------------------------------------------------------


def commit_late(connect: Connect, write: Write, run_once: Callable[[], int]) -> None:
    """Position 1 is drawn first and committed last; a round runs in between and one after."""
    early, late = connect(autocommit=False), connect(autocommit=False)
    write(early, "a")
    write(late, "b")
    late.commit()
    run_once()
    early.commit()
    run_once()


def draw_the_transaction_first(connect: Connect, write: Write, run_once: Callable[[], int]) -> None:
    """The transaction with the lower id waits, and writes the key's second event."""
    lower, higher = connect(autocommit=False), connect(autocommit=False)
    lower.execute("SELECT pg_current_xact_id()")
    write(higher, "k")
    higher.commit()
    write(lower, "k")
    lower.commit()
    run_once()


def test_a_relay_that_remembers_the_last_id_loses_a_late_commit(
    connect: Connect, kafka: KafkaBroker, route: str, write: Write, arrived: Arrived
) -> None:
    """The control fails, so the choreography proves something."""
    control = LastIdRelay(connect(), kafka, route=route)
    commit_late(connect, write, control.run_once)
    assert arrived(route) == {"b": [1]}


def test_a_late_commit_is_not_lost(
    db: str, connect: Connect, kafka: KafkaBroker, route: str, write: Write, arrived: Arrived
) -> None:
    """The same choreography, and both are there."""
    with Relay(db, kafka, route=route) as relay:
        commit_late(connect, write, relay.run_once)
    assert arrived(route) == {"a": [1], "b": [1]}


def test_a_relay_that_goes_by_transaction_id_reorders_a_key(
    connect: Connect, kafka: KafkaBroker, route: str, write: Write, arrived: Arrived
) -> None:
    """The control fails."""
    control = TransactionIdRelay(connect(), kafka, route=route)
    draw_the_transaction_first(connect, write, control.run_once)
    assert arrived(route) == {"k": [2, 1]}


def test_an_early_transaction_id_changes_no_order(
    db: str, connect: Connect, kafka: KafkaBroker, route: str, write: Write, arrived: Arrived
) -> None:
    """Positions are drawn under the key's lock; transaction ids are not."""
    with Relay(db, kafka, route=route) as relay:
        draw_the_transaction_first(connect, write, relay.run_once)
    assert arrived(route) == {"k": [1, 2]}


def test_two_relays_that_skip_locked_rows_reorder_a_key(
    connect: Connect, conn: Conn, kafka: KafkaBroker, route: str, write: Write, arrived: Arrived
) -> None:
    """The control fails: while one has read and not published, the other overtakes it."""
    write(conn, "k")
    write(conn, "k")
    second = SkipLockedRelay(connect(), kafka, page=1, route=route)
    SkipLockedRelay(connect(), kafka, page=1, route=route, at=lambda _: second.run_once() and None).run_once()
    assert arrived(route) == {"k": [2, 1]}


def test_two_relays_that_divide_lanes_reorder_nothing(
    db: str, conn: Conn, kafka: KafkaBroker, route: str, write: Write, drain: Drain, arrived: Arrived
) -> None:
    """The same choreography: whenever the first has read or published, the second tries to overtake it."""
    with Relay(db, kafka, route=route, page=1) as second:

        def overtake(point: str) -> None:
            if point in {"read", "published"}:  # the others are passed in another thread, and a relay belongs to one
                second.run_once()

        with Relay(db, kafka, route=route, page=1, at=overtake) as first:
            first.connect()
            for n in range(40):
                write(conn, f"k{n % 8}")
            drain(first)
        relay_drained(second, drain)
    assert {key: firsts(numbers) for key, numbers in arrived(route).items()} == {f"k{n}": [1, 2, 3, 4, 5] for n in range(8)}


def test_rounds_amid_open_transactions_keep_order(
    db: str, connect: Connect, kafka: KafkaBroker, route: str, write: Write, drain: Drain, arrived: Arrived
) -> None:
    """Four writers commit as they like while the relay runs without pause."""

    def work(writer: int) -> None:
        with psycopg.connect(db, autocommit=True) as mine:
            for n in range(60):
                with mine.transaction(force_rollback=n % 7 == 0):
                    write(mine, f"k{writer}")
                    write(mine, "shared")

    writers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for writer in writers:
        writer.start()
    with Relay(db, kafka, route=route, page=10) as relay:
        while any(writer.is_alive() for writer in writers):
            relay.run_once()
        drain(relay)
    committed = {**{f"k{n}": list(range(1, 52)) for n in range(4)}, "shared": list(range(1, 205))}
    assert arrived(route) == committed


# -- killed ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("point", "published_twice"), [("read", 0), ("published", 40), ("marked", 0)])
def test_killed_at_a_point_it_loses_nothing(
    db: str,
    conn: Conn,
    kafka: KafkaBroker,
    route: str,
    write_many: Write,
    drain: Drain,
    arrived: Arrived,
    process: Callable[..., subprocess.Popen[bytes]],
    point: str,
    published_twice: int,
) -> None:
    """SIGKILL to itself, then another relay: only what was published and not yet deleted is published again."""
    write_many(conn, 40)
    assert process("--kill", f"{point}:1").wait(60) == -signal.SIGKILL
    with Relay(db, kafka, route=route) as relay:
        relay_drained(relay, drain)
    found = arrived(route)
    assert {key: firsts(numbers) for key, numbers in found.items()} == {
        f"k{n % 10}": list(range(n, 41, 10)) for n in range(1, 11)
    }
    assert sum(map(len, found.values())) == 40 + published_twice


def relay_drained(relay: Relay, drain: Drain) -> None:
    """The dead one's locks are freed when Postgres notices: an instant later."""
    relay.connect()
    for _ in range(200):
        drain(relay)
        if not relay.run_once() and not relay.connect()[0].execute("SELECT 1 FROM outbox LIMIT 1").fetchone():
            return
        relay._table.wait(1)
    raise AssertionError("the outbox did not get empty")


@pytest.mark.parametrize("kill", ["read:3", "published:3", "marked:2"])
def test_killed_between_pages_it_loses_nothing(
    db: str,
    conn: Conn,
    kafka: KafkaBroker,
    route: str,
    write_many: Write,
    drain: Drain,
    arrived: Arrived,
    process: Callable[..., subprocess.Popen[bytes]],
    kill: str,
) -> None:
    """While one page is deleted the next is published: wherever that stops, first arrivals are in order and complete."""
    write_many(conn, 500)
    assert process("--kill", kill, "--page", "50").wait(60) == -signal.SIGKILL
    with Relay(db, kafka, route=route) as relay:
        relay_drained(relay, drain)
    assert {key: firsts(numbers) for key, numbers in arrived(route).items()} == {
        f"k{n % 10}": list(range(n, 501, 10)) for n in range(1, 11)
    }


def test_two_relays_share_and_the_survivor_takes_over(
    conn: Conn,
    route: str,
    write: Write,
    arrived: Arrived,
    left: Callable[[], int],
    process: Callable[..., subprocess.Popen[bytes]],
    lane_holders: Callable[[], set[int]],
    eventually: Eventually,
) -> None:
    """Both carry; one is killed; every key goes on, in order."""
    doomed, _ = process(), process()
    eventually(lambda: len(lane_holders()) == 2)
    for n in range(40):
        write(conn, f"k{n % 8}")
    doomed.kill()
    for n in range(40):
        write(conn, f"k{n % 8}")
    eventually(lambda: left() == 0)
    assert {key: firsts(numbers) for key, numbers in arrived(route).items()} == {f"k{n}": list(range(1, 11)) for n in range(8)}


# -- frozen ------------------------------------------------------------------------------------------------------------


def test_a_frozen_relay_loses_its_lanes_and_comes_back(
    db: str,
    conn: Conn,
    kafka: KafkaBroker,
    route: str,
    write: Write,
    arrived: Arrived,
    left: Callable[[], int],
    process: Callable[..., subprocess.Popen[bytes]],
    lane_holders: Callable[[], set[int]],
    eventually: Eventually,
) -> None:
    """Stopped past its lease, another carries its keys; awake again it joins in, and nothing is lost or reordered."""
    frozen = process("--lease-s", "1.5")
    eventually(lane_holders)
    frozen.send_signal(signal.SIGSTOP)
    write(conn, "k")
    with Relay(db, kafka, route=route, lanes=4) as relay, running(relay):
        eventually(lambda: left() == 0)
        frozen.send_signal(signal.SIGCONT)
        write(conn, "k")
        eventually(lambda: len(lane_holders()) == 2)
    write(conn, "k")
    eventually(lambda: left() == 0)
    assert (frozen.poll(), firsts(arrived(route)["k"])) == (None, [1, 2, 3])


def test_frozen_in_mid_round_it_goes_on_afterwards(
    db: str,
    conn: Conn,
    kafka: KafkaBroker,
    route: str,
    write: Write,
    arrived: Arrived,
    left: Callable[[], int],
    eventually: Eventually,
) -> None:
    """Postgres cuts it off inside its transaction, and calls that by another name than a lost connection."""
    frozen: list[str] = []

    def freeze(point: str) -> None:
        if point == "published" and not frozen:
            frozen.append(point)
            eventually(lambda: not conn.execute("SELECT 1 FROM pg_stat_activity WHERE application_name = 'eda-relay'").fetchone())

    write(conn, "k")
    with Relay(db, kafka, route=route, lease_s=1.2, at=freeze) as relay, running(relay):
        eventually(lambda: frozen and left() == 0)
    assert arrived(route) == {"k": [1, 1]}


# -- away --------------------------------------------------------------------------------------------------------------


def test_a_broker_that_is_away_is_named_and_waited_for(
    db: str,
    conn: Conn,
    route: str,
    stack: Endpoints,
    write: Write,
    arrived: Arrived,
    left: Callable[[], int],
    eventually: Eventually,
) -> None:
    """Kafka hangs in the middle of it all: the log names its address, and afterwards nothing is missing."""
    address = urlsplit(stack.kafka)
    brokers = [c.pid for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == address.port]
    if not brokers or brokers[0] is None:
        pytest.skip("the broker is no process of this machine")
    with (
        KafkaBroker(stack.kafka, timeout_s=1) as impatient,
        Relay(db, impatient, route=route) as relay,
        capture_logs() as said,
        running(relay),
    ):
        write(conn, "k")
        eventually(lambda: left() == 0)
        os.kill(brokers[0], signal.SIGSTOP)
        try:
            write(conn, "k")
            told = eventually(lambda: [line for line in said if line["event"] == "relay.waiting"])
        finally:
            os.kill(brokers[0], signal.SIGCONT)
        write(conn, "k")
        eventually(lambda: left() == 0)
    assert f"{address.hostname}:{address.port}" in told[0]["reason"]
    assert firsts(arrived(route)["k"]) == [1, 2, 3]


def test_an_unreachable_broker_loses_nothing(
    db: str, conn: Conn, kafka: KafkaBroker, route: str, write: Write, arrived: Arrived, left: Callable[[], int]
) -> None:
    """The round fails and the rows stay; a relay with the right address carries them."""
    write(conn, "k")
    with (
        KafkaBroker("kafka://127.0.0.1:9", timeout_s=0.5) as nobody,
        Relay(db, nobody, route=route) as relay,
        pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:9"),
    ):
        relay.run_once()
    assert left() == 1
    with Relay(db, kafka, route=route) as relay:
        relay.run_once()
    assert arrived(route) == {"k": [1]}


@pytest.mark.parametrize("point", ["read", "published"])
def test_a_database_that_goes_away_is_come_back_to(
    db: str,
    conn: Conn,
    kafka: KafkaBroker,
    route: str,
    write_many: Write,
    arrived: Arrived,
    left: Callable[[], int],
    eventually: Eventually,
    point: str,
) -> None:
    """Its sessions are ended in mid-round, reader and marker alike; it connects again and nothing is lost."""
    cut: list[str] = []

    def cut_off(name: str) -> None:
        if name == point and len(cut) < 3:
            cut.append(name)
            conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'eda-relay'")

    write_many(conn, 100)
    with Relay(db, kafka, route=route, page=20, at=cut_off) as relay, capture_logs() as said, running(relay):
        eventually(lambda: len(cut) == 3 and left() == 0)
    assert {key: firsts(numbers) for key, numbers in arrived(route).items()} == {
        f"k{n % 10}": list(range(n, 101, 10)) for n in range(1, 11)
    }
    assert any(line["event"] == "relay.waiting" and urlsplit(db).path[1:] in line["database"] for line in said)


def test_a_loop_of_single_steps_survives_a_lost_session_too(
    db: str, conn: Conn, kafka: KafkaBroker, route: str, write: Write, arrived: Arrived
) -> None:
    """Whoever calls run_once sees one error and may simply call it again."""
    with Relay(db, kafka, route=route) as relay:
        relay.run_once()
        conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'eda-relay'")
        write(conn, "k")
        with pytest.raises(psycopg.OperationalError):
            relay.run_once()
        relay.run_once()
    assert arrived(route) == {"k": [1]}


def test_a_database_without_an_outbox_is_told_what_to_do(postgres: str, kafka: KafkaBroker) -> None:
    """One sentence, with the address and the remedy."""
    with Relay(postgres, kafka) as relay, pytest.raises(psycopg.OperationalError, match="has no outbox: apply what `eda schema`"):
        relay.run_once()


def test_large_events_go_in_smaller_pages(db: str, conn: Conn, kafka: KafkaBroker, route: str) -> None:
    """A page is bounded in bytes as well as in rows: sixty events of 700 kB are carried in pages that fit, none twice."""
    conn.execute(
        "INSERT INTO outbox (aggregatetype, aggregateid, type, payload) SELECT 'orders', 'order-' || n % 5, 'OrderScanned',"
        " jsonb_build_object('n', n, 'scan', (SELECT string_agg(md5(random()::text || i || n), '')"
        " FROM generate_series(1, 21000) AS i))"
        " FROM generate_series(1, 60) AS n"
    )
    sizes: list[int] = []
    published = kafka.publish
    with Relay(db, kafka, route=route) as relay, pytest.MonkeyPatch.context() as patch:
        patch.setattr(kafka, "publish", lambda page: (sizes.append(len(page)), published(page)))
        while relay.run_once():
            pass
    assert max(sizes) < 40
    assert [sum(sizes), sum(1 for _ in kafka.replay(route))] == [60, 60]
