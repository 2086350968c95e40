"""The real brokers and the real Postgres behind a proxy: whatever is done to the connection, all is there when it is healed."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from reference.brokers import Broker, BrokerUnavailable, Message, Subscription, connect
from reference.evidence.faults.proxy import KINDS, Proxy, kafka
from reference.stack import Endpoints

Eventually = Callable[..., Any]
BROKERS = ("kafka", "rabbitmq", "pubsub")
TIMEOUT_S = 2.0  # of a client whose broker is silent; it asks again until it is healed
HARSH: dict[str, dict[str, float]] = {  # so that a few messages meet each fault
    "latency": {"latency_ms": 50, "jitter_ms": 50},
    "bandwidth": {"rate_kb": 32},
    "slow_close": {"delay_ms": 100},
    "timeout": {"timeout_ms": 300},
    "reset_peer": {"timeout_ms": 100},
    "limit_data": {"bytes": 2_000},
}


@pytest.fixture
def proxy(stack: Endpoints, request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """Before the service that the test asks for."""
    with Proxy.before(getattr(stack, request.param)) as proxy:
        yield proxy


@pytest.fixture
def broker(stack: Endpoints, proxy: Proxy, request: pytest.FixtureRequest) -> Iterator[Broker]:
    """The same service through the proxy, for a client that soon loses patience."""
    service = request.node.callspec.params["proxy"]
    with connect(proxy.url(getattr(stack, service)), timeout_s=TIMEOUT_S) as broker:
        yield broker


@pytest.fixture
def topic(stack: Endpoints, request: pytest.FixtureRequest) -> str:
    """Made without the proxy, by somebody patient; a group of the same name waits for it."""
    with connect(getattr(stack, request.node.callspec.params["proxy"]), timeout_s=30) as broker:
        broker.create_topic(topic := f"proxied-{uuid.uuid4().hex[:8]}")
        broker.subscribe([topic], group=topic).close()
    return topic


def took(member: Subscription, seen: set[int]) -> int:
    with suppress(BrokerUnavailable):
        for delivery in member.receive(100, 0.1):
            seen.add(int((delivery.value or b"").partition(b" ")[0]))
            member.ack(delivery)
    return len(seen)


def published(broker: Broker, messages: list[Message]) -> bool:
    try:
        broker.publish(messages)
    except BrokerUnavailable:
        return False
    return True


@pytest.mark.parametrize("proxy", BROKERS, indirect=True)
def test_nothing_is_lost_whatever_is_done_to_the_connections(
    proxy: Proxy, broker: Broker, topic: str, eventually: Eventually
) -> None:
    """Published until it is confirmed and consumed until it is there, under each fault in both directions, by one client."""
    seen: set[int] = set()
    member = eventually(lambda: joined(broker, topic))
    fired = {}
    for n, kind in enumerate(KINDS):
        messages = [Message(topic, f"k{m % 3}", f"{m} " + "x" * 300, []) for m in range(10 * n, 10 * n + 10)]
        attributes = HARSH.get(kind, {})
        with proxy.add(kind, stream="upstream", **attributes) as one, proxy.add(kind, stream="downstream", **attributes) as other:
            confirmed = published(broker, messages)
            took(member, seen)
            fired[kind] = one.fired + other.fired
        eventually(lambda messages=messages, confirmed=confirmed: confirmed or published(broker, messages), within_s=60)
    eventually(lambda: took(member, seen) == 10 * len(KINDS), within_s=120)
    assert [kind for kind, times in fired.items() if not times] == []


def joined(broker: Broker, topic: str) -> Subscription | None:
    with suppress(BrokerUnavailable):
        return broker.subscribe([topic], group=topic)
    return None


@pytest.mark.parametrize("proxy", ["postgres"], indirect=True)
def test_a_database_behind_each_fault(proxy: Proxy, postgres: str, eventually: Eventually) -> None:
    """A row that was committed is there; a session that was cut is one for a new connection."""
    dsn = proxy.url(postgres)
    with psycopg.connect(postgres, autocommit=True) as direct:
        direct.execute("CREATE TABLE row (n int PRIMARY KEY, filling text)")

        def wrote(n: int) -> bool:
            try:
                with psycopg.connect(dsn, connect_timeout=2, options="-c statement_timeout=2000") as conn:
                    conn.execute("INSERT INTO row VALUES (%s, repeat('x', 3000)) ON CONFLICT DO NOTHING", [n])
                    conn.execute("SELECT * FROM row")
            except psycopg.OperationalError:
                return False
            return True

        for n, kind in enumerate(KINDS):
            with proxy.add(kind, **HARSH.get(kind, {})) as fault:
                done = wrote(n)
                assert fault.fired
            eventually(lambda n=n, done=done: done or wrote(n), within_s=60)
        assert direct.execute("SELECT array_agg(n ORDER BY n) FROM row").fetchone() == ([*range(len(KINDS))],)


@pytest.mark.parametrize("proxy", ["kafka"], indirect=True)
def test_a_kafka_client_knows_no_other_address_than_the_proxys(
    stack: Endpoints, proxy: Proxy, broker: Broker, topic: str, eventually: Eventually
) -> None:
    """It has gone nowhere else: when the proxy is down, so is Kafka, for a client that had been there before."""
    assert kafka.brokers(proxy.url(stack.kafka), timeout_s=30) == [(proxy.host, proxy.port)]
    eventually(lambda: published(broker, [Message(topic, "k", "1", [])]))
    with proxy.down(), pytest.raises(BrokerUnavailable, match=f"127.0.0.1:{proxy.port}"):
        broker.publish([Message(topic, "k", "2", [])])


def test_each_client_may_have_a_proxy_of_its_own(stack: Endpoints, eventually: Eventually) -> None:
    """One loses its broker and the other does not."""
    with Proxy.before(stack.kafka) as one, Proxy.before(stack.kafka) as other:
        clients = [connect(proxy.url(stack.kafka), timeout_s=TIMEOUT_S) for proxy in (one, other)]
        eventually(lambda: all(answers(client) for client in clients))
        with one.down():
            assert not answers(clients[0])
            assert eventually(lambda: answers(clients[1]))
        for client in clients:
            client.close()


def answers(broker: Broker) -> bool:
    try:
        broker.create_topic("proxied-by-two")
    except BrokerUnavailable:
        return False
    return True


def test_an_address_through_a_proxy_is_the_same_but_for_where_it_is(stack: Endpoints) -> None:
    """User, password, virtual host, database and options stay; RabbitMQ's management API stays where it was."""
    for url in (f"{stack.rabbitmq}&heartbeat=20", stack.pubsub, f"{stack.postgres}?sslmode=disable", f"{stack.kafka}?acks=1"):
        with Proxy.before(url) as proxy:
            before, after = urlsplit(url), urlsplit(proxy.url(url))
            where = urlsplit(url).netloc.rpartition("@")[2]
            assert after.netloc == before.netloc.replace(where, f"127.0.0.1:{proxy.port}")
            assert (after.scheme, after.path, after.query.partition("&")[0].partition("=")[0]) == (
                before.scheme, before.path, before.query.partition("&")[0].partition("=")[0],
            )  # fmt: skip


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("kafka://lab:geheim@one:9092,two:9092", "no one host and port"),
        ("kafka://lab:geheim@one", "not a Kafka address"),
        ("pubsub://lab-project", "the service itself"),
        ("redis://:geheim@127.0.0.1:6379", "does not know redis:// addresses: it takes kafka://HOST:PORT"),
        ("postgresql:///shop?password=geheim", "names no host and port"),
    ],
)
def test_an_address_without_one_host_and_port_is_refused(url: str, said: str) -> None:
    """The message says what an address should look like, and repeats no password."""
    with pytest.raises(ValueError, match=said) as error:
        Proxy.before(url)
    assert "geheim" not in str(error.value)


@pytest.mark.parametrize(
    ("direct", "proxied", "said"),
    [
        ([("127.0.0.1", 1), ("127.0.0.1", 2)], [], r"127\.0\.0\.1:1, 127\.0\.0\.1:2: a proxy stands before one broker"),
        ([("kafka.example", 9092)], [], r"at kafka\.example:9092: .* in 9 letters"),
        ([("localhost", 9092)], [("localhost", 9092)], "would go past the proxy, to localhost:9092: it cannot read what TLS"),
    ],
)
def test_a_kafka_whose_clients_would_go_past_the_proxy_is_refused(
    monkeypatch: pytest.MonkeyPatch, direct: list[Any], proxied: list[Any], said: str
) -> None:
    """Faults would be put on connections that nobody uses: several brokers, a host of another length, TLS."""
    answers = iter([direct, proxied])
    monkeypatch.setattr(kafka, "brokers", lambda url, *, timeout_s: next(answers))
    with Proxy("127.0.0.1", 9092) as proxy, pytest.raises(ValueError, match=said):
        proxy.url("kafka://127.0.0.1:9092")


def test_a_kafka_that_is_away_is_named() -> None:
    """It has to be asked where it says it is."""
    url = "kafka://lab:geheim@127.0.0.1:9"
    with Proxy.before(url) as proxy, pytest.raises(BrokerUnavailable, match=r"kafka://127\.0\.0\.1:9") as error:
        proxy.url(url, timeout_s=0.5)
    assert "geheim" not in str(error.value)
