"""What the campaign's writers and processes do while a service is away, and what is said of those that do not come back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reference.delivery import outbox
from reference.evidence.campaign.addresses import Addresses
from reference.evidence.campaign.shop import ORDERS, Shop
from reference.evidence.campaign.writers import Writers
from reference.evidence.checker import check
from reference.evidence.faults import services
from reference.evidence.history import History, read
from reference.orders import shop as orders
from reference.stack import Endpoints

ATTEMPTS = 400


@pytest.fixture
def small(stack: Endpoints, postgres: str) -> Iterator[Shop]:
    """A relay and a consumer on Kafka, at work."""
    with Shop(Addresses(dsn=postgres, broker=stack.kafka), name="small", relays=1) as shop:
        shop.assemble()
        yield shop


def test_writers_come_back_to_a_database_that_cut_them_off(postgres: str, eventually: Callable[..., Any]) -> None:
    """Every attempt ends once; what was not cut off is committed, and of what was nobody says that it was."""
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(outbox.schema())
        conn.execute(orders.schema())
        for n in range(ORDERS):
            orders.place(conn, f"order-{n}")
        conn.execute("TRUNCATE order_changes")
    history = History()
    writers = Writers(postgres, history)
    writers.start()
    try:
        writers.allow(ATTEMPTS)
        eventually(lambda: writers.ended >= ATTEMPTS // 4)
        services.terminate_backends(postgres)
        eventually(lambda: writers.idle)
    finally:
        writers.stop()
    with psycopg.connect(postgres) as conn:
        committed = {event for (event,) in conn.execute("SELECT event_id FROM order_changes")}
    told = {record.event for record in history if record.phase == "ok"}
    assert (writers.ended, len(told) + writers.failures.total(), told <= committed) == (ATTEMPTS, ATTEMPTS, True)


def test_a_process_that_ended_by_itself_is_told(small: Shop) -> None:
    """Or the others would hide that one did not survive an outage; whoever the experiment kills did not end by itself."""
    small.relays[0].restart()
    assert small.complaints == ()
    os.kill(small.consumers[0].pid, signal.SIGTERM)
    assert small.consumers[0].died(within_s=30)
    assert small.complaints == ("ended by itself with code 0, 1 times",)


def test_who_ended_by_himself_before_he_left_is_told(small: Shop) -> None:
    """A member that the experiment takes out of its group does not take with it that it had ended before."""
    member = small.join()
    small.assemble()
    os.kill(member.pid, signal.SIGTERM)
    assert member.died(within_s=60)
    member.kill()
    small.part_with(member)
    assert (small.complaints, len(small.consumers)) == (("ended by itself with code 0, 1 times",), 1)


def test_a_full_disk_costs_the_history_and_not_the_row(stack: Endpoints, postgres: str, tmp_path: Path) -> None:
    """Where what the database held cannot be kept, the verdict stands, and half a file is not left to be judged."""
    with Shop(Addresses(dsn=postgres, broker=stack.kafka, histories=tmp_path), name="full", relays=1) as shop:
        shop.writers.allow(5)
        assert shop.caught_up()
        verdict = shop.verdict()
        (shop.directory / "resolved.jsonl").symlink_to("/dev/full")
    assert (verdict.clean, sorted(file.name for file in shop.directory.glob("resolved*"))) == (True, [])


def test_a_history_that_is_kept_says_what_the_verdict_said(stack: Endpoints, postgres: str, tmp_path: Path) -> None:
    """Also of what nobody told and only the database knows, so that a broken run can be looked at afterwards."""
    with Shop(Addresses(dsn=postgres, broker=stack.kafka, histories=tmp_path), name="kept", relays=1) as shop:
        shop.assemble()
        shop.writers.allow(5)
        assert shop.caught_up()
        shop.relays[0].kill()
        shop.writers.allow(10)
        shop.until(lambda: shop.writers.idle)
        verdict = shop.verdict()
    (kept,) = tmp_path.iterdir()
    assert (check(read(kept)), verdict.lost) == (verdict, 5)


def test_what_cannot_arrive_any_more_is_waited_for_no_longer(small: Shop) -> None:
    """It is counted, stays lost, and what comes after it is waited for as ever."""
    small.writers.allow(10)
    assert small.caught_up()
    small.consumers[0].kill()
    small.writers.allow(20)
    missing = small.write_off(quiet_s=1)
    assert (missing, small.books.behind()) == (10, 0)
    small.writers.allow(30)
    assert small.until(lambda: small.writers.idle and small.books.behind() == 10)
