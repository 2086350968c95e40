from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import psycopg
import pytest

from reference.delivery import session


@pytest.mark.parametrize(
    ("dsn", "named"),
    [
        ("postgresql://lab:geheim@127.0.0.1:9/shop", "127.0.0.1:9/shop does not answer"),
        ("host=127.0.0.1 port=9 dbname=shop password=geheim", "127.0.0.1:9/shop does not answer"),
        ("geheim", "not a database address"),
        ("postgresql://lab:geheim@127.0.0.1:port/shop", "not a database address|does not answer"),
    ],
)
def test_a_database_that_is_away_is_named_without_its_password(dsn: str, named: str) -> None:
    """Errors end up in logs."""
    with pytest.raises(psycopg.OperationalError, match=named) as error:
        session.reader(dsn)
    assert "geheim" not in str(error.value)


def test_a_wrong_password_is_not_repeated(postgres: str) -> None:
    """The address is enough to find it."""
    wrong = postgres.replace(urlsplit(postgres).password or "", "geheim")
    with pytest.raises(psycopg.OperationalError, match="does not answer") as error:
        session.reader(wrong)
    assert "geheim" not in str(error.value)


def test_a_snapshot_is_seen_by_another_session(db: str) -> None:
    """What is written afterwards is in neither."""
    with session.reader(db) as reader, session.marker(db) as marker, psycopg.connect(db, autocommit=True) as writer:
        with reader.transaction():
            reader.execute("SELECT 1")
            name = session.export_snapshot(reader)
            writer.execute("INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES ('o', 'k', 't', '{}')")
            with marker.transaction():
                session.import_snapshot(marker, name)
                seen = marker.execute("SELECT count(*) FROM outbox").fetchone()
        assert seen == (0,)


def test_the_snapshot_of_a_session_that_ended_is_a_lost_session(db: str) -> None:
    """Whoever waits for it starts over, as with any lost connection."""
    marker = session.marker(db)
    with marker, marker.transaction(), pytest.raises(psycopg.OperationalError, match="has ended"):
        session.import_snapshot(marker, "00000003-0000001B-1")


def test_a_reader_frozen_with_half_a_page_read_is_cut_off_too(db: str, eventually: Callable[..., object]) -> None:
    """To Postgres it is not idle: it waits to send the rest. What it holds must be free for the next all the same."""
    frozen = session.reader(db, lease_s=1.5)
    frozen.execute("SELECT pg_advisory_lock(1, 2)")
    frozen.pgconn.send_query(b"SELECT repeat('x', 1000) FROM generate_series(1, 20000)")  # far more than lies between the two
    frozen.pgconn.flush()
    with psycopg.connect(db, autocommit=True) as other:

        def free() -> bool:
            row = other.execute("SELECT pg_try_advisory_lock(1, 2)").fetchone()
            return row == (True,)

        assert eventually(free)
    frozen.close()
