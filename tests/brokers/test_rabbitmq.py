"""What only RabbitMQ can get wrong: addresses, vhosts, queues that change or go, lanes that change hands, strangers."""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from zlib import crc32

import pika
import psutil
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.channel import Channel

from reference.brokers import (
    Broker,
    BrokerUnavailable,
    DeadLetters,
    Delivery,
    Message,
    NotConfirmed,
    NotOffered,
    Subscription,
    UnknownGroup,
    UnknownTopic,
)  # fmt: skip
from reference.brokers.rabbitmq import RabbitMQBroker
from reference.brokers.rabbitmq.asking import Asking, Conversation
from reference.brokers.rabbitmq.link import Link
from reference.brokers.rabbitmq.membership import Membership
from reference.brokers.rabbitmq.topology import Topology
from reference.brokers.rabbitmq.window import Window

NewTopic = Callable[..., str]
NewMessage = Callable[..., Message]
Receive = Callable[..., list[Delivery]]
Eventually = Callable[..., Any]
ASKS: dict[str, Callable[[RabbitMQBroker], object]] = {
    "publish": lambda broker: broker.publish([Message("orders", "k", b"v", [])]),
    "subscribe": lambda broker: broker.subscribe(["orders"], group="g"),
    "create_topic": lambda broker: broker.create_topic("orders"),
    "lag": lambda broker: broker.lag(["orders"], group="g"),
}


@pytest.fixture
def broker(rabbitmq: RabbitMQBroker) -> Broker:
    """Here it is always RabbitMQ."""
    return rabbitmq


@pytest.fixture
def stranger(rabbitmq: RabbitMQBroker) -> Iterator[BlockingChannel]:
    """Somebody else's channel: an operator, or a producer in another language."""
    connection = pika.BlockingConnection(rabbitmq._address.parameters(name="a stranger", timeout_s=30))
    yield connection.channel()
    if connection.is_open:
        connection.close()


@pytest.fixture
def new_topic(rabbitmq: RabbitMQBroker, manage: Callable[..., Any]) -> Iterator[NewTopic]:
    """``new_topic(partitions=3)``: a topic that nobody has subscribed to; all that its name begins is deleted after the test."""
    made: list[str] = []

    def make(partitions: int = 3) -> str:
        made.append(f"rabbit-{uuid.uuid4().hex[:8]}")
        rabbitmq.create_topic(made[-1], partitions=partitions)
        return made[-1]

    yield make
    vhost = quote(rabbitmq._address.vhost, safe="")
    for kind in ("queues", "exchanges"):
        for name in (one["name"] for one in manage("GET", f"/{kind}/{vhost}")):
            if name.startswith(tuple(made)) and made:
                manage("DELETE", f"/{kind}/{vhost}/{quote(name, safe='')}")


@pytest.fixture
def manage(rabbitmq: RabbitMQBroker) -> Callable[..., Any]:
    """``manage("GET", "/connections")`` asks the management API."""
    address = rabbitmq._address

    def ask(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        credentials = base64.b64encode(f"{address.user}:{address.password}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{address.management}/api{path}", data, headers, method=method)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  # the broker's own
            text = answer.read()
        return json.loads(text) if text else None

    return ask


@pytest.fixture
def cut(manage: Callable[..., Any], eventually: Eventually) -> Callable[[str], None]:
    """``cut("eda-labs publisher")`` has the broker close every connection of this name."""

    def close(name: str) -> None:
        def found() -> list[str]:
            listed = manage("GET", "/connections")
            return [one["name"] for one in listed if one.get("client_properties", {}).get("connection_name") == name]

        for connection in eventually(found):
            manage("DELETE", f"/connections/{quote(connection, safe='')}")

    return close


@pytest.fixture
def group(rabbitmq: RabbitMQBroker) -> Iterator[Callable[..., Subscription]]:
    """``group(topic)`` subscribes with a group of the topic's name; closed after the test."""
    members: list[Subscription] = []

    def join(*topics: str, **options: Any) -> Subscription:
        members.append(rabbitmq.subscribe(topics, group=options.pop("group", topics[0]), **options))
        return members[-1]

    yield join
    for member in members:
        member.close()


def own_url(broker: RabbitMQBroker) -> str:
    """The address another program would be given."""
    address = broker._address
    where = f"{address.host}:{address.port}/?management={quote(address.management, safe='')}"
    return f"amqp://{address.user}:{address.password}@{where}"


def refused(broker: Broker, messages: list[Message]) -> dict[int, str]:
    with pytest.raises(NotConfirmed) as error:
        broker.publish(messages)
    return error.value.failures


def distinct(member: Subscription, wanted: int, receive: Receive) -> list[bytes | None]:
    """Values in the order of their first coming, until ``wanted`` different ones came: what is in doubt is published twice."""
    seen: dict[bytes | None, None] = {}
    while len(seen) < wanted:
        seen |= dict.fromkeys(values(receive(member, 1)))
    return list(seen)


def counting(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[None]:
    """Grows by one whenever ``owner.name`` is called."""
    calls, original = list[None](), getattr(owner, name)

    def counted(*given: Any, **named: Any) -> Any:
        calls.append(None)
        return original(*given, **named)

    monkeypatch.setattr(owner, name, counted)
    return calls


def values(deliveries: list[Delivery]) -> list[bytes | None]:
    return [delivery.value for delivery in deliveries]


# -- addresses and credentials -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ASKS)
def test_a_broker_that_is_away_is_named_in_time(ask: str) -> None:
    """Whatever was asked, the error names the address and comes within the timeout, give or take a slow machine."""
    started = time.monotonic()
    with RabbitMQBroker("amqp://127.0.0.1:9", timeout_s=0.5) as nobody, pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:9"):
        ASKS[ask](nobody)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("ask", ASKS)
def test_a_broker_that_never_answers_is_named_in_time(ask: str) -> None:
    """A port that accepts and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started, address = time.monotonic(), f"127.0.0.1:{silent.getsockname()[1]}"
        with RabbitMQBroker(f"amqp://{address}", timeout_s=0.5) as broker, pytest.raises(BrokerUnavailable, match=address):
            ASKS[ask](broker)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("ask", ASKS)
def test_a_wrong_password_names_the_user_and_not_the_password(rabbitmq: RabbitMQBroker, ask: str) -> None:
    """The reader learns where it failed; the log does not learn the secret."""
    where = f"{rabbitmq._address.host}:{rabbitmq._address.port}"
    with (
        RabbitMQBroker(f"amqp://{rabbitmq._address.user}:geheim@{where}", timeout_s=5) as broker,
        pytest.raises(BrokerUnavailable, match=f"{where}.* refused user '{rabbitmq._address.user}'") as error,
    ):
        ASKS[ask](broker)
    assert "geheim" not in str(error.value)


@pytest.mark.parametrize("ask", ASKS)
def test_an_unknown_vhost_is_named_with_how_to_make_it(rabbitmq: RabbitMQBroker, ask: str) -> None:
    """Not as a connection that somehow fails."""
    address = rabbitmq._address
    with (
        RabbitMQBroker(f"amqp://{address.user}:{address.password}@{address.host}:{address.port}/nowhere", timeout_s=5) as broker,
        pytest.raises(BrokerUnavailable, match="no vhost 'nowhere': create it with rabbitmqctl add_vhost nowhere"),
    ):
        ASKS[ask](broker)


def test_its_url_may_be_printed(rabbitmq: RabbitMQBroker) -> None:
    """Credentials are nowhere in it."""
    assert rabbitmq.url == f"amqp://{rabbitmq._address.host}:{rabbitmq._address.port}/"


def test_a_management_api_that_is_away_is_named(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, group: Callable[..., Subscription]
) -> None:
    """Only what a member elsewhere holds needs it, and then the error says which address it is."""
    topic, address = new_topic(), rabbitmq._address
    group(topic)
    url = f"amqp://{address.user}:{address.password}@{address.host}:{address.port}/?management=9"
    with RabbitMQBroker(url) as other, pytest.raises(BrokerUnavailable, match=r"http://127\.0\.0\.1:9.*management=PORT"):
        other.lag([topic], group=topic)


def test_the_password_goes_to_no_proxy_and_no_other_address(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, group: Callable[..., Subscription], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the environment, or whoever answers at the management API's port, says."""
    topic, heard = new_topic(1), list[bytes]()
    group(topic)

    def listen(server: socket.socket, answer: bytes) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection:
                    heard.append(connection.recv(4000))
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as proxy, socket.create_server(("127.0.0.1", 0)) as elsewhere:
        where = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        redirect = f"HTTP/1.0 302 Found\r\nLocation: {where}/\r\nContent-Length: 0\r\n\r\n".encode()
        threads = [threading.Thread(target=listen, args=(proxy, b"HTTP/1.0 502 Bad\r\n\r\n")),
                   threading.Thread(target=listen, args=(elsewhere, redirect))]  # fmt: skip
        for thread in threads:
            thread.start()
        monkeypatch.setenv("http_proxy", where)
        with RabbitMQBroker(own_url(rabbitmq)) as other:
            assert other.lag([topic], group=topic) == {(topic, 0): 0}
        redirected = own_url(rabbitmq).partition("?")[0] + f"?management={elsewhere.getsockname()[1]}"
        with RabbitMQBroker(redirected) as other, pytest.raises(BrokerUnavailable, match="302"):
            other.lag([topic], group=topic)
        for server in (proxy, elsewhere):
            server.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(30)
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("scheme", "port", "reason"),
    [("amqp", 9, "cannot be reached: connection refused"), ("amqps", 9, "cannot be reached: connection refused"),
     ("amqps", None, "does not speak TLS there")],
)  # fmt: skip
def test_why_there_is_no_connection_is_said_in_words(
    rabbitmq: RabbitMQBroker, scheme: str, port: int | None, reason: str
) -> None:
    """Not in the client's classes; of asking and of publishing alike."""
    url = f"{scheme}://127.0.0.1:{port or rabbitmq._address.port}"
    with RabbitMQBroker(url, timeout_s=10) as broker:
        for ask in (lambda: broker.create_topic("orders"), broker._publisher._connected):
            with pytest.raises(BrokerUnavailable, match=reason):
                ask()


# -- topics and groups -------------------------------------------------------------------------------------------------


def test_a_topic_left_half_made_is_completed_by_whoever_makes_it_next(
    rabbitmq: RabbitMQBroker, stranger: BlockingChannel, message: NewMessage, receive: Receive, group: Callable[..., Subscription]
) -> None:
    """Its maker was killed after the exchanges and before the bindings: nobody can have published to it meanwhile."""
    topic = f"half-{uuid.uuid4().hex[:8]}"
    for partition in range(4):
        stranger.exchange_declare(f"{topic}#{partition}", "fanout", durable=True)
    assert "does not exist" in refused(rabbitmq, [message(topic)])[0]
    stranger.exchange_declare(topic, "x-consistent-hash", durable=True)
    stranger.exchange_bind(f"{topic}#0", topic, "1")
    assert "no group has subscribed" in refused(rabbitmq, [message(topic)])[0]
    rabbitmq.create_topic(topic, partitions=2)
    member = group(topic)
    rabbitmq.publish([message(topic, f"k{n}") for n in range(100)])
    assert {delivery.partition for delivery in receive(member, 100)} == {0, 1, 2, 3}


def test_two_who_make_a_topic_at_once_make_one_and_its_first_group_gets_all_of_it(
    rabbitmq: RabbitMQBroker, message: NewMessage, receive: Receive, group: Callable[..., Subscription], eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With different numbers of partitions: one counts and makes, and the other takes what it finds then."""
    topic, counting, go_on = f"race-{uuid.uuid4().hex[:8]}", threading.Event(), threading.Event()
    with RabbitMQBroker(own_url(rabbitmq), timeout_s=60) as other, RabbitMQBroker(own_url(rabbitmq), timeout_s=60) as third:
        count = other._topology._count

        def paused(*given: Any) -> int:
            found = count(*given)
            counting.set()
            go_on.wait(60)
            return found

        monkeypatch.setattr(other._topology, "_count", paused)
        waits = _told_to_wait(monkeypatch)
        makers = [threading.Thread(target=other.create_topic, args=[topic], kwargs={"partitions": 8}),
                  threading.Thread(target=third.create_topic, args=[topic], kwargs={"partitions": 2})]  # fmt: skip
        makers[0].start()
        assert counting.wait(60)
        makers[1].start()
        eventually(waits.is_set)
        with pytest.raises(UnknownTopic):
            rabbitmq.subscribe([topic], group="early")
        go_on.set()
        for maker in makers:
            maker.join(60)
    member = group(topic)
    rabbitmq.publish([message(topic, f"k{n}") for n in range(100)])
    assert {delivery.partition for delivery in receive(member, 100)} == set(range(8))


def _told_to_wait(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set as soon as anybody has heard that somebody else is making a topic."""
    told, taken = threading.Event(), Conversation._taken

    def listening(ask: Conversation, queue: str) -> bool:
        free = taken(ask, queue)
        if not free:
            told.set()
        return free

    monkeypatch.setattr(Conversation, "_taken", listening)
    return told


def test_a_topic_whose_maker_hangs_is_named_and_one_whose_maker_died_is_made(
    rabbitmq: RabbitMQBroker, group: Callable[..., Subscription]
) -> None:
    """What is held while a topic is being made belongs to the maker's connection, and goes with it."""
    topic = f"hung-{uuid.uuid4().hex[:8]}"
    maker = pika.BlockingConnection(rabbitmq._address.parameters(name="a maker", timeout_s=30))
    maker.channel().queue_declare(f"{topic}#making", exclusive=True)
    with (
        RabbitMQBroker(own_url(rabbitmq), timeout_s=0.5) as other,
        pytest.raises(BrokerUnavailable, match=f"another connection has been making topic '{topic}'.*'{topic}#making'"),
    ):
        other.create_topic(topic)
    maker._impl._transport._sock.shutdown(socket.SHUT_RDWR)  # what a kill does to its connection
    with contextlib.suppress(pika.exceptions.AMQPError):
        maker.close()
    rabbitmq.create_topic(topic, partitions=1)
    group(topic)


def test_each_key_has_its_partition_also_after_a_kill_of_the_broker(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, restart: Callable[[str], None]
) -> None:
    """RabbitMQ's own hashing would place most of them anew. A topic is written down two seconds after it was made."""
    topic, made_at = new_topic(12), time.monotonic()
    member = rabbitmq.subscribe([topic], group=topic)
    places: dict[bytes | None, set[int]] = defaultdict(set)

    def publish_and_receive() -> None:
        rabbitmq.publish([message(topic, f"k{n}") for n in range(100)])
        for delivery in receive(member, 100):
            places[delivery.key].add(delivery.partition)

    while time.monotonic() < made_at + 4:
        publish_and_receive()
    member.close()
    restart("rabbitmq")
    member = rabbitmq.subscribe([topic], group=topic)
    publish_and_receive()
    member.close()
    assert {len(place) for place in places.values()} == {1}


def test_a_topic_without_a_group_refuses_and_says_what_to_do(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, group: Callable[..., Subscription]
) -> None:
    """RabbitMQ would take the message and keep nothing."""
    topic = new_topic()
    assert "no group has subscribed yet" in refused(rabbitmq, [message(topic)])[0]
    member = group(topic)
    rabbitmq.publish([message(topic)])
    assert len(receive(member, 1)) == 1


def test_a_topic_of_another_kind_is_named(rabbitmq: RabbitMQBroker, stranger: BlockingChannel) -> None:
    """Somebody's own exchange is not taken for a topic."""
    name = f"other-{uuid.uuid4().hex[:8]}"
    stranger.exchange_declare(name, "direct", durable=True)
    with pytest.raises(ValueError, match=f"exchange '{name}' exists with another type"):
        rabbitmq.create_topic(name)


@pytest.mark.parametrize("name", ["", "amq.orders", "x" * 300, "orders#0", "two\nlines", "nul\0", "half\udcff"])
def test_a_name_that_no_topic_can_have_is_refused(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, group: Callable[..., Subscription],
    name: str,
) -> None:  # fmt: skip
    """With what RabbitMQ takes; nothing is published to the default exchange by mistake, and its neighbours are."""
    for ask in (lambda: rabbitmq.create_topic(name), lambda: rabbitmq.subscribe([name], group="g"),
                lambda: rabbitmq.lag([name], group="g")):  # fmt: skip
        with pytest.raises(ValueError, match="no name for a topic"):
            ask()
    member = group(topic := new_topic(1))
    failures = refused(rabbitmq, [message(topic, "a", "1"), message(name), message(topic, "a", "3")])
    assert (list(failures), "no name for a topic" in failures[1]) == ([1], True)
    assert values(receive(member, 2)) == [b"1", b"3"]


@pytest.mark.parametrize("name", ["two\nlines", "return\r", "nul\0", "half\udcff"])
def test_a_name_that_no_group_can_have_is_refused(rabbitmq: RabbitMQBroker, new_topic: NewTopic, name: str) -> None:
    """RabbitMQ would take the line end out, and wait for a queue of another name."""
    topic = new_topic(1)
    for ask in (lambda: rabbitmq.subscribe([topic], group=name), lambda: rabbitmq.lag([topic], group=name)):
        with pytest.raises(ValueError, match="no name for a group"):
            ask()


@pytest.mark.parametrize("more", ["3", "groups", "members.g", "delay.1000"])
def test_no_topic_is_taken_for_a_part_of_another(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, group: Callable[..., Subscription],
    more: str,
) -> None:  # fmt: skip
    """Whatever people write behind a dot: ``orders.3`` is not the fourth partition of ``orders``."""
    topic = new_topic(3)
    other = f"{topic}.{more}"
    rabbitmq.create_topic(other, partitions=1)
    assert "no group has subscribed" in refused(rabbitmq, [message(topic)])[0]
    member, theirs = group(topic), group(other)
    rabbitmq.publish([message(topic, f"k{n}") for n in range(40)] + [message(other, value="theirs")])
    rabbitmq.publish([message(topic, value="later")], delay_s=0.1)
    assert len(receive(member, 41)) == 41
    assert values(receive(theirs, 1)) == [b"theirs"]
    assert theirs.receive(1, 0.2) == []


def test_a_queue_that_exists_with_other_arguments_is_named(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, group: Callable[..., Subscription]
) -> None:
    """A group's dead letters are fixed by its first subscription."""
    topic, dead = new_topic(1), new_topic(1)
    group(topic)
    with pytest.raises(ValueError, match=rf"queue '{topic}#0#{topic}' exists with another x-dead-letter-exchange"):
        rabbitmq.subscribe([topic], group=topic, dead_letters=DeadLetters(topic=dead, after=2))


def test_what_is_not_offered_says_what_people_do_instead(rabbitmq: RabbitMQBroker, new_topic: NewTopic) -> None:
    """Nothing is faked."""
    topic = new_topic()
    for ask in (
        lambda: rabbitmq.subscribe([topic], group="g", only={"type": "a"}),
        lambda: rabbitmq.replay(topic),
        lambda: rabbitmq.rewind([topic], group="g", to=datetime.now(UTC)),
    ):
        with pytest.raises(NotOffered, match=r"does not offer .*; "):
            ask()


# -- publishing --------------------------------------------------------------------------------------------------------


def test_half_of_a_window_refused_costs_the_other_half_nothing(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, stranger: BlockingChannel, receive: Receive,
    group: Callable[..., Subscription],
) -> None:  # fmt: skip
    """Queues that an operator deleted: what would have gone there is named, all of it, and nothing else."""
    topic = new_topic(4)
    member = group(topic)
    rabbitmq.publish([message(topic, f"k{n}") for n in range(200)])
    gone = {d.key for d in receive(member, 200) if d.partition in {0, 1}}
    member.close()
    for partition in (0, 1):
        stranger.queue_delete(f"{topic}#{partition}#{topic}")
    failures = refused(rabbitmq, [message(topic, f"k{n % 200}", f"{n}") for n in range(2000)])
    assert set(failures) == {n for n in range(2000) if f"k{n % 200}".encode() in gone}
    member = group(topic)
    assert len(receive(member, 2000 - len(failures))) == 2000 - len(failures)


def test_a_topic_deleted_in_the_middle_is_named_and_the_others_go_on(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, stranger: BlockingChannel, receive: Receive,
    group: Callable[..., Subscription],
) -> None:  # fmt: skip
    """The broker ends the channel over it; what was on its way is sent again, in order."""
    topic, doomed = new_topic(1), new_topic(1)
    member = group(topic)
    group(doomed)
    rabbitmq.publish([message(topic, value="first"), message(doomed)])  # from here on the publisher believes in both
    stranger.exchange_delete(doomed)
    stranger.exchange_delete(f"{doomed}#0")
    call = [message(doomed if n == 700 else topic, "d" if n == 700 else "k", f"{n}") for n in range(1500)]
    failures = refused(rabbitmq, call)
    assert (list(failures), "does not exist" in failures[700]) == ([700], True)
    assert distinct(member, 1500, receive) == [b"first", *(b"%d" % n for n in range(1500) if n != 700)]


def test_a_topic_that_one_may_not_write_to_is_refused_and_costs_the_others_one_channel(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, manage: Callable[..., Any], receive: Receive,
    group: Callable[..., Subscription], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """All its messages are named, no neighbour is lost, and nobody is asked again about what is known."""
    allowed, forbidden, user = new_topic(1), new_topic(2), f"user-{uuid.uuid4().hex[:8]}"
    member = group(allowed)
    group(forbidden)
    vhost = quote(rabbitmq._address.vhost, safe="")
    manage("PUT", f"/users/{user}", {"password": "secret", "tags": ""})
    manage("PUT", f"/permissions/{vhost}/{user}", {"configure": "", "write": f"^{allowed}", "read": ""})
    url = f"amqp://{user}:secret@{rabbitmq._address.host}:{rabbitmq._address.port}/"
    channels, questions = counting(monkeypatch, Window, "open"), counting(monkeypatch, Topology, "lanes")
    with RabbitMQBroker(url, timeout_s=30) as theirs:
        call = [message(forbidden if n % 2 else allowed, f"k{n}", f"{n}") for n in range(4000)]
        failures = refused(theirs, call)
    manage("DELETE", f"/users/{user}")
    assert (list(failures), {"ACCESS_REFUSED" in reason for reason in failures.values()}) == ([*range(1, 4000, 2)], {True})
    assert (len(channels), len(questions)) == (2, 2)
    assert distinct(member, 2000, receive) == [b"%d" % n for n in range(0, 4000, 2)]


def test_a_message_that_ends_the_channel_every_time_is_found_and_named(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, group: Callable[..., Subscription],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Though nobody says which it is: only those near it are sent one by one. What the broker still says on the channel that
    we ended is not taken for an answer on the next."""
    topic = new_topic(1)
    member = group(topic)
    publish = Channel.basic_publish

    def choking(channel: Channel, exchange: str, key: str, body: bytes, *more: Any, **named: Any) -> None:
        if body == b"bad":
            raise ValueError("it cannot be encoded")
        publish(channel, exchange, key, body, *more, **named)

    monkeypatch.setattr(Channel, "basic_publish", choking)
    steps = counting(monkeypatch, Window, "hand_over")
    bad = {*range(200, 5000, 600)}
    failures = refused(rabbitmq, [message(topic, f"k{n}", "bad" if n in bad else f"{n}") for n in range(5000)])
    assert (set(failures), {"cannot be encoded" in reason for reason in failures.values()}) == (bad, {True})
    assert distinct(member, 5000 - len(bad), receive) == [b"%d" % n for n in range(5000) if n not in bad]
    assert len(steps) < 100 * len(bad)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Message("", "k" * 300, b"", []), "key of 300 bytes"),
        (Message("", "bad", bytes(17 * 1024 * 1024), []), "17825795 bytes, over 16777216"),
        (Message("", "bad", b"", [("large", bytes(140_000))]), "headers of 140"),
        (Message("", "bad", b"", [("many", "x" * 50_000)] * 3), "headers of 150"),
        (Message("", "bad", b"", [("n" * 300, "x")]), "its name has 300 bytes"),
        (Message("", "bad", b"", [("CC", "elsewhere")]), "header 'CC'"),
        (Message("", "bad", b"", [("x-delivery-count", "7")]), "header 'x-delivery-count'"),
        (Message("", "bad", b"", [("h\udcff", "x")]), "cannot be written"),
        (Message("", "bad", b"", [("n" * 100 + "\udcff", "x" * 140_000)]), "cannot be written"),
        (Message("", "bad", b"", [("h", "x" * 140_000 + "\udcff")]), "cannot be written"),
        (Message("", "bad\udcff", b"", []), "cannot be written"),
        (Message("", "bad", "\udcff", []), "cannot be written"),
        (Message("", "bad", b"", [("h", "\udcff")]), "cannot be written"),
    ],
)
def test_what_cannot_be_carried_is_named_and_its_neighbours_are_durable(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, group: Callable[..., Subscription],
    bad: Message, reason: str,
) -> None:  # fmt: skip
    """The connection is not lost over it."""
    topic = new_topic(1)
    member = group(topic)
    failures = refused(rabbitmq, [message(topic, "a", "1"), bad._replace(topic=topic), message(topic, "b", "3")])
    assert (list(failures), reason in failures[1]) == ([1], True), failures
    assert distinct(member, 2, receive) == [b"1", b"3"]


def test_headers_of_64_kb_are_carried(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, group: Callable[..., Subscription]
) -> None:
    """Text, and bytes that are none."""
    topic = new_topic(1)
    member = group(topic)
    headers = (("text", b"x" * 64_000), ("bytes", bytes(range(256)) * 200))
    rabbitmq.publish([message(topic, headers=headers)])
    assert receive(member, 1)[0].headers == headers


def test_a_connection_cut_in_the_middle_of_publishing_is_an_error_and_then_over(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, cut: Callable[[str], None],
    group: Callable[..., Subscription],
) -> None:  # fmt: skip
    """The outcome is unknown; the same again, in the same order, and each message is there, each key in order."""
    topic = new_topic()
    member = group(topic)
    call = [message(topic, f"k{n % 10}", f"{n}") for n in range(3000)]
    rabbitmq.publish([message(topic, value="-1")])
    cutter = threading.Thread(target=cut, args=["eda-labs publisher"])

    class Slow(list[Message]):
        """Cut when a part of it is on its way."""

        def __iter__(self) -> Iterator[Message]:
            for n, one in enumerate(call):
                if n == 1500:
                    cutter.start()
                    cutter.join()
                yield one

    with pytest.raises(BrokerUnavailable, match=r"CONNECTION_FORCED|cannot be reached"):
        rabbitmq.publish(Slow(call))
    rabbitmq.publish(call)
    seen: dict[bytes | None, list[int]] = defaultdict(list)
    while sum(map(len, seen.values())) < 3001:
        for delivery in receive(member, 1):
            number = int(delivery.value or b"")
            if number not in seen[delivery.key]:
                seen[delivery.key].append(number)
    assert all(numbers == sorted(numbers) for numbers in seen.values())


# -- strangers ---------------------------------------------------------------------------------------------------------


def test_a_strangers_message_goes_where_ours_of_the_same_key_go(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, stranger: BlockingChannel, receive: Receive,
    group: Callable[..., Subscription],
) -> None:  # fmt: skip
    """By a rule that every language has: CRC-32 of the key, modulo the partitions. No headers are needed."""
    topic = new_topic(4)
    member = group(topic)
    keys = [f"schlüssel-{n}" for n in range(20)]
    rabbitmq.publish([message(topic, key) for key in keys])
    for key in keys:
        stranger.basic_publish(f"{topic}#{crc32(key.encode()) % 4}", key, b"theirs")
    placed: dict[bytes | None, set[int]] = defaultdict(set)
    for delivery in receive(member, 40):
        placed[delivery.key].add(delivery.partition)
    assert {len(partitions) for partitions in placed.values()} == {1}


def test_a_stranger_may_leave_the_partition_to_rabbitmq(
    new_topic: NewTopic, stranger: BlockingChannel, receive: Receive, group: Callable[..., Subscription]
) -> None:
    """To the exchange of the topic's name, with the key as routing key: every message is in one partition or another."""
    topic = new_topic(4)
    member = group(topic)
    for n in range(100):
        stranger.basic_publish(topic, f"k{n}", b"theirs")
    assert {delivery.partition for delivery in receive(member, 100)} == {0, 1, 2, 3}


class Raw(pika.BasicProperties):  # type: ignore[misc]
    """Properties with a header table of any bytes."""

    def __init__(self, table: bytes) -> None:
        super().__init__()
        self.table = table

    def encode(self) -> list[bytes]:
        return [struct.pack(">H", 1 << 13), struct.pack(">I", len(self.table)), self.table]


def test_odd_headers_of_strangers_arrive_as_bytes(
    new_topic: NewTopic, stranger: BlockingChannel, receive: Receive, group: Callable[..., Subscription]
) -> None:
    """Every type AMQP has, each as the text that JSON has for it."""
    topic = new_topic(1)
    member = group(topic)
    odd = {
        "int": 7, "long": 2**40, "bool": True, "none": None, "time": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "table": {"a": [1, b"\xff", None]}, "decimal": Decimal("1.5"), "bytes": b"\xff\x00", "array": ["a", 1], "empty": "",
    }  # fmt: skip
    stranger.basic_publish(topic, "k", b"v", pika.BasicProperties(headers=odd, content_type="application/json"))
    assert receive(member, 1)[0].headers == (
        ("int", b"7"), ("long", b"1099511627776"), ("bool", b"true"), ("none", None), ("time", b"2026-01-02T03:04:05+00:00"),
        ("table", b'{"a": [1, "/w==", null]}'), ("decimal", b"1.5"), ("bytes", b"\xff\x00"), ("array", b"a"), ("array", b"1"),
        ("empty", b""), ("content-type", b"application/json"),
    )  # fmt: skip


@pytest.mark.parametrize(
    "table",
    [b"\x01hT" + struct.pack(">Q", 2**62), b"\x01hS" + struct.pack(">I", 2) + b"\xff\xfe",
     b"\x02\xff\xfeS" + struct.pack(">I", 1) + b"x"],
    ids=["a time after the year 9999", "text that is not UTF-8", "a name that is not UTF-8"],
)  # fmt: skip
def test_headers_the_client_cannot_read_lose_neither_message_nor_connection(
    new_topic: NewTopic, stranger: BlockingChannel, receive: Receive, group: Callable[..., Subscription], table: bytes
) -> None:
    """They come as bytes, and what is behind them comes too."""
    topic = new_topic(1)
    member = group(topic)
    stranger.basic_publish(topic, "k", b"odd", Raw(table))
    stranger.basic_publish(topic, "k", b"plain")
    odd, plain = receive(member, 2)
    assert (odd.value, len(odd.headers), isinstance(odd.headers[0][1], bytes), plain.value) == (b"odd", 1, True, b"plain")


@pytest.mark.parametrize("count", ["abc", [1], {"a": 1}, 7, -3, True, None, Decimal("1.5")])
def test_only_the_broker_counts_deliveries(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, stranger: BlockingChannel, receive: Receive,
    group: Callable[..., Subscription], eventually: Eventually, count: Any,
) -> None:  # fmt: skip
    """What a stranger writes into the broker's header is no attempt, and keeps nobody's message from its consumer."""
    topic = new_topic(1)
    member: Any = group(topic)
    stranger.confirm_delivery()
    rabbitmq.publish([message(topic, value="before")])
    stranger.basic_publish(f"{topic}#0", "k", b"odd", pika.BasicProperties(headers={"x-delivery-count": count}))
    rabbitmq.publish([message(topic, value="behind")])
    came = receive(member, 3, ack=False)
    assert [(d.value, d.attempt) for d in came] == [(b"before", 1), (b"odd", 1), (b"behind", 1)]
    member.membership._link.drop()
    eventually(lambda: member.membership.lost)
    assert [(d.value, d.attempt) for d in receive(member, 3)] == [(b"before", 2), (b"odd", 2), (b"behind", 2)]


def test_headers_nested_as_deep_as_a_frame_allows_are_no_error(
    new_topic: NewTopic, stranger: BlockingChannel, receive: Receive, group: Callable[..., Subscription]
) -> None:
    """At the depths where the client can read them, where we cannot, and where neither can."""
    topic = new_topic(1)
    member = group(topic)
    depths = range(100, 1300, 25)
    for depth in depths:
        array = b""
        for _ in range(depth):
            array = b"A" + struct.pack(">I", len(array)) + array
        stranger.basic_publish(topic, "k", b"odd", Raw(b"\x01h" + array))
    assert len(receive(member, len(depths))) == len(depths)


# -- consuming ---------------------------------------------------------------------------------------------------------


def test_a_nack_holds_its_lane_in_order_and_no_other(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, group: Callable[..., Subscription]
) -> None:
    """Not before its time, with what came after it, and the next attempt says so."""
    topic = new_topic(2)
    member = group(topic)
    rabbitmq.publish([message(topic, f"k{n % 20}", f"{n}") for n in range(200)])
    deliveries = receive(member, 200, ack=False)
    lane = [d for d in deliveries if d.partition == 0]
    for delivery in lane[:3]:
        member.ack(delivery)
    member.nack(lane[3], delay_s=1.0)
    held_at = time.monotonic()
    member.ack(lane[4])  # void: it is to come again
    for delivery in deliveries:
        if delivery.partition == 1:
            member.ack(delivery)
    rabbitmq.publish([message(topic, f"k{n % 20}", "more") for n in range(20)])
    others = []
    while time.monotonic() < held_at + 0.9:
        others += [d.partition for d in member.receive(100, 0.05)]
    again = receive(member, len(lane) - 3, ack=False)
    assert time.monotonic() - held_at >= 1.0
    assert set(others) == {1}
    assert [d.value for d in again] == [d.value for d in lane[3:]]
    assert [d.attempt for d in again[:2]] == [2, 1]


def test_a_dead_letter_keeps_its_key_and_tells_where_it_died(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, group: Callable[..., Subscription]
) -> None:
    """The broker moves it when it was delivered often enough; its lane goes on, in order."""
    topic, dead = new_topic(1), new_topic(1)
    grave = group(dead)
    member = group(topic, dead_letters=DeadLetters(topic=dead, after=3))
    rabbitmq.publish([message(topic, "k", f"{n}", (("h", b"\xff"),)) for n in range(4)])
    attempts, done = [], []
    while len(done) < 3:
        for delivery in receive(member, 1, ack=False):
            if delivery.value == b"1":
                attempts.append(delivery.attempt)
                member.nack(delivery)
            else:
                done.append(delivery.value)
                member.ack(delivery)
    [letter] = receive(grave, 1)
    headers = dict(letter.headers)
    assert (attempts, done, letter.key, letter.value, headers["h"]) == ([1, 2, 3], [b"0", b"2", b"3"], b"k", b"1", b"\xff")
    death = json.loads(headers["x-death"] or b"")
    assert (death["queue"], death["reason"], death["routing-keys"]) == (f"{topic}#0#{topic}", "rejected", ["k"])


def test_dead_letters_need_no_topic_and_no_reader_yet(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, eventually: Eventually,
    group: Callable[..., Subscription],
) -> None:  # fmt: skip
    """Their topic is made; until somebody reads it the broker keeps them, and the lane goes on without them."""
    topic = new_topic(1)
    member = group(topic, dead_letters=DeadLetters(topic=f"{topic}.dead", after=1))
    rabbitmq.publish([message(topic, "k", "bad"), message(topic, "k", "good")])
    member.nack(receive(member, 1, ack=False)[0])
    assert values(receive(member, 1)) == [b"good"]
    eventually(lambda: rabbitmq.lag([topic], group=topic) == {(topic, 0): 0})
    group(f"{topic}.dead")


def test_what_takes_its_consumer_down_every_time_is_moved(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, group: Callable[..., Subscription],
    eventually: Eventually,
) -> None:  # fmt: skip
    """Though nobody ever said a word about it; and what was fetched with it, and went down with it, is not."""
    topic, dead = new_topic(1), new_topic(1)
    grave = group(dead)
    member: Any = group(topic, dead_letters=DeadLetters(topic=dead, after=3))
    rabbitmq.publish([message(topic, value="poison"), *(message(topic, value=f"{n}") for n in range(50))])
    for attempt in (1, 2, 3):
        assert [(d.value, d.attempt) for d in receive(member, 1, ack=False)] == [(b"poison", attempt)]
        member.membership._link.drop()  # what a crash does to the connection
        eventually(lambda: member.membership.lost)
    assert values(receive(member, 50)) == [b"%d" % n for n in range(50)]
    assert values(receive(grave, 1)) == [b"poison"]
    eventually(lambda: rabbitmq.lag([topic], group=topic) == {(topic, 0): 0})


def test_a_member_that_leaves_takes_its_own_count_of_nacks_with_it(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, group: Callable[..., Subscription]
) -> None:
    """As is said beside dead letters: never fewer than were asked for, and more where members go; its leaving counts as one."""
    topic, dead = new_topic(1), new_topic(1)
    grave, wish, attempts = group(dead), DeadLetters(topic=dead, after=4), list[int | None]()
    rabbitmq.subscribe([topic], group=topic, dead_letters=wish).close()
    rabbitmq.publish([message(topic)])
    for nacks in (3, 3):
        member = group(topic, dead_letters=wish)
        for _ in range(nacks):
            [delivery] = receive(member, 1, ack=False)
            attempts.append(delivery.attempt)
            member.nack(delivery)
        member.close()
    assert attempts == [1, 2, 3, 2, 3, 4]
    assert len(receive(grave, 1)) == 1


@pytest.mark.parametrize("delay_s", [-1, float("nan"), float("inf")])
def test_what_is_no_delay_is_refused(rabbitmq: RabbitMQBroker, message: NewMessage, delay_s: float) -> None:
    """Before anything is published."""
    with pytest.raises(ValueError, match="no delay"):
        rabbitmq.publish([message("orders")], delay_s=delay_s)


def test_what_is_delayed_is_not_early(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, group: Callable[..., Subscription]
) -> None:
    """A short delay does not wait for a longer one, and key and headers are what they were."""
    topic = new_topic(1)
    member = group(topic)
    started = time.monotonic()
    rabbitmq.publish([message(topic, "k", "later")], delay_s=2.5)
    rabbitmq.publish([message(topic, "k", "sooner", (("h", "x"),))], delay_s=1.0)
    rabbitmq.publish([message(topic, "k", "now")])
    arrived = []
    for value in (b"now", b"sooner", b"later"):
        [delivery] = receive(member, 1)
        arrived.append((delivery.value, delivery.key, time.monotonic() - started))
        assert delivery.value == value
    assert (arrived[1][2] >= 1.0, arrived[2][2] >= 2.5, {key for _, key, _ in arrived}) == (True, True, {b"k"})
    with pytest.raises(ValueError, match="too long"):
        rabbitmq.publish([message(topic)], delay_s=50 * 24 * 3600)


def test_a_connection_cut_in_the_middle_of_consuming_brings_back_what_was_not_acked(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, cut: Callable[[str], None],
    group: Callable[..., Subscription], eventually: Eventually,
) -> None:  # fmt: skip
    """In order, with the next attempt; what was handed out before is void."""
    topic = new_topic(1)
    member = group(topic)
    rabbitmq.publish([message(topic, "k", f"{n}") for n in range(1000)])
    before = receive(member, 400, ack=False)
    for delivery in before[:100]:
        member.ack(delivery)
    eventually(lambda: sum(rabbitmq.lag([topic], group=topic).values()) == 900)
    before += receive(member, 50, ack=False)
    cut(f"eda-labs {topic}")
    eventually(lambda: member.membership.lost)  # type: ignore[attr-defined]
    after = receive(member, 900)
    member.ack(before[100])
    assert [int(d.value or b"") for d in after] == list(range(100, 1000))
    assert (after[0].attempt, after[-1].attempt) == (2, 1)


def test_a_broker_that_is_away_is_said_by_receive_and_forgotten_when_it_is_back(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, group: Callable[..., Subscription],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """As a consumer expects, which asks again."""
    topic = new_topic(1)
    member: Any = group(topic)
    rabbitmq.publish([message(topic)])
    away = RabbitMQBroker("amqp://127.0.0.1:9")._topology
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(member, "_topology", away)
        member.membership._link.drop()
        for _ in range(2):
            with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:9"):
                member.receive(1, 0.1)
    assert len(receive(member, 1)) == 1


def test_a_queue_deleted_while_consuming_is_an_error_that_names_it(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, stranger: BlockingChannel,
    group: Callable[..., Subscription], eventually: Eventually,
) -> None:  # fmt: skip
    """Not silence; and a new subscription makes it again."""
    topic = new_topic(2)
    member = group(topic)
    stranger.queue_delete(f"{topic}#1#{topic}")

    def said() -> bool:
        try:
            member.receive(1, 0.1)
        except UnknownGroup as error:
            return topic in str(error)
        return False

    eventually(said)
    member.close()
    member = group(topic)
    rabbitmq.publish([message(topic, f"k{n}") for n in range(50)])
    assert {d.partition for d in receive(member, 50)} == {0, 1}


def test_a_topic_deleted_while_consuming_is_an_error_that_names_it(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, stranger: BlockingChannel, group: Callable[..., Subscription],
    eventually: Eventually,
) -> None:  # fmt: skip
    """With its queues: their exchanges alone hold nothing."""
    topic = new_topic(1)
    member = group(topic)
    stranger.exchange_delete(topic)
    stranger.queue_delete(f"{topic}#0#{topic}")

    def said() -> bool:
        try:
            member.receive(1, 0.1)
        except UnknownTopic as error:
            return topic in str(error)
        return False

    eventually(said)
    rabbitmq.create_topic(topic, partitions=1)
    group(topic)


def test_joining_many_topics_is_one_conversation_and_joining_again_makes_nothing(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, group: Callable[..., Subscription],
    eventually: Eventually, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What costs time is a connection for each question, and every queue that is made once more."""
    topics = [new_topic(2) for _ in range(8)]
    conversations, made = counting(monkeypatch, Asking, "conversation"), counting(monkeypatch, Topology, "_make_queues")
    member: Any = group(*topics)
    assert (len(conversations), len(made)) == (1, 8)
    member.membership._link.drop()
    eventually(lambda: member.membership.lost)
    member.receive(1, 0.1)
    assert (len(conversations), len(made)) == (2, 8)
    rabbitmq.publish([message(topic, f"k{n}") for topic in topics for n in range(20)])
    assert {(d.topic, d.partition) for d in receive(member, 160)} == {(topic, n) for topic in topics for n in (0, 1)}


def test_a_topic_made_anew_with_more_partitions_is_joined_anew(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, stranger: BlockingChannel,
    group: Callable[..., Subscription], eventually: Eventually,
) -> None:  # fmt: skip
    """By a member that was cut off meanwhile: it takes the lanes that are there now."""
    topic = new_topic(2)
    member: Any = group(topic)
    member.membership._link.drop()
    eventually(lambda: member.membership.lost)
    for exchange in (topic, f"{topic}#0", f"{topic}#1", f"{topic}#groups"):
        stranger.exchange_delete(exchange)
    for queue in (f"{topic}#0#{topic}", f"{topic}#1#{topic}", f"{topic}#members#{topic}"):
        stranger.queue_delete(queue)
    rabbitmq.create_topic(topic, partitions=5)
    member.receive(1, 0.1)
    rabbitmq.publish([message(topic, f"k{n}") for n in range(100)])
    assert {delivery.partition for delivery in receive(member, 100)} == set(range(5))


def test_more_lanes_than_channels_are_refused_before_anything_is_made(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive
) -> None:
    """With both numbers; as many as there are channels for, but one, are served."""
    topic, wide = new_topic(4), new_topic(5)
    with RabbitMQBroker(f"{own_url(rabbitmq)}&channel_max=5", timeout_s=30) as narrow:
        with pytest.raises(ValueError, match=r"5 lanes.* 5 channels \(channel_max\)"):
            narrow.subscribe([wide], group=wide)
        with pytest.raises(UnknownGroup):
            rabbitmq.lag([wide], group=wide)
        member = narrow.subscribe([topic], group=topic)
        rabbitmq.publish([message(topic, f"k{n}") for n in range(100)])
        assert {delivery.partition for delivery in receive(member, 100)} == set(range(4))


def test_closing_ends_a_receive_that_waits(rabbitmq: RabbitMQBroker, new_topic: NewTopic) -> None:
    """In another thread; and no thread of ours is left."""
    topic = new_topic()
    threads = set(threading.enumerate())
    member, ended = rabbitmq.subscribe([topic], group=topic), threading.Event()
    waiting = threading.Thread(target=lambda: (member.receive(1, 60), ended.set()))
    waiting.start()
    member.close()
    assert ended.wait(30)
    waiting.join(30)
    assert set(threading.enumerate()) <= threads
    with pytest.raises(RuntimeError, match="closed"):
        member.receive()


@pytest.mark.parametrize("paused_in", ["__init__", "_join"])
def test_who_closes_while_joining_again_has_left(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, group: Callable[..., Subscription],
    eventually: Eventually, monkeypatch: pytest.MonkeyPatch, paused_in: str,
) -> None:  # fmt: skip
    """After a lost connection, from another thread: that receive is empty, and the lanes are the next member's."""
    topic, threads, got = new_topic(1), set(threading.enumerate()), list[list[Delivery]]()
    member = rabbitmq.subscribe([topic], group=topic)
    rabbitmq.publish([message(topic)])
    membership, joining, go_on = member.membership, threading.Event(), threading.Event()
    assert membership._link is not None
    membership._link.drop()
    eventually(lambda: membership.lost)

    def paused(original: Callable[..., Any]) -> Callable[..., Any]:
        def pause(*given: Any, **named: Any) -> Any:
            joining.set()
            go_on.wait(60)
            return original(*given, **named)

        return pause

    with monkeypatch.context() as meanwhile:
        at = Link if paused_in == "__init__" else Membership
        meanwhile.setattr(at, paused_in, paused(getattr(at, paused_in)))
        waiting = threading.Thread(target=lambda: got.append(member.receive(1, 60)))
        waiting.start()
        assert joining.wait(60)
        closing = threading.Thread(target=member.close)
        closing.start()
        eventually(lambda: membership.closed)
        go_on.set()
        closing.join(60)
        waiting.join(60)
    left = {one.name for one in set(threading.enumerate()) - threads if one.name.startswith(f"eda-labs {topic}")}
    assert (got, left) == ([[]], set())
    assert len(receive(group(topic), 1)) == 1


def test_a_closed_broker_closes_its_members_and_leaves_no_thread(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage
) -> None:
    """And says that it is closed, whatever it is asked then."""
    topic = new_topic()
    threads = set(threading.enumerate())
    with RabbitMQBroker(own_url(rabbitmq), timeout_s=30) as other:
        member = other.subscribe([topic], group=topic)
        other.publish([message(topic)])
    assert set(threading.enumerate()) <= threads
    for ask in (*(lambda ask=ask: ask(other) for ask in ASKS.values()), member.receive):
        with pytest.raises(RuntimeError, match="closed"):
            ask()
    assert set(threading.enumerate()) <= threads


def test_closing_takes_one_timeout_however_many_wait_for_it(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members whose goodbye is not answered, and a call of another thread that does not end: it is ended, and says so."""
    topic, publishing, go_on = new_topic(1), threading.Event(), threading.Event()
    other, ended = RabbitMQBroker(own_url(rabbitmq), timeout_s=4), list[BaseException]()
    for n in range(8):
        other.subscribe([topic], group=f"{topic}-{n}")

    class Endless(list[Message]):
        """Waits in the middle of being walked."""

        def __iter__(self) -> Iterator[Message]:
            yield message(topic)
            publishing.set()
            go_on.wait(60)
            yield message(topic)

    def publish() -> None:
        try:
            other.publish(Endless())
        except BaseException as error:
            ended.append(error)

    publisher = threading.Thread(target=publish)
    publisher.start()
    assert publishing.wait(60)
    monkeypatch.setattr(Link, "_close", lambda link: None)
    started = time.monotonic()
    try:
        other.close()
        took = time.monotonic() - started
    finally:
        go_on.set()
        publisher.join(60)
    assert took < 16  # nine times four, one after the other
    assert [type(error) for error in ended] == [BrokerUnavailable]


def test_a_connection_that_ended_keeps_no_socket(rabbitmq: RabbitMQBroker) -> None:
    """Nor does one that never came about; without waiting for the garbage collector."""
    nobody = RabbitMQBroker("amqp://127.0.0.1:9")
    gc.disable()
    try:
        before = psutil.Process().num_fds()
        for _ in range(5):
            Link(rabbitmq._address, name="short", timeout_s=30, on_lost=lambda: None).drop()
            Link(rabbitmq._address, name="short", timeout_s=30, on_lost=lambda: None).close()
            with pytest.raises(BrokerUnavailable):
                Link(nobody._address, name="short", timeout_s=30, on_lost=lambda: None)
        assert psutil.Process().num_fds() == before
    finally:
        gc.enable()


# -- lag ---------------------------------------------------------------------------------------------------------------


def test_lag_counts_what_a_member_holds_at_once(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, group: Callable[..., Subscription]
) -> None:
    """Handed out, or fetched ahead: neither is acked, however fast it was fetched."""
    topic = new_topic(1)
    member = group(topic)
    for n in range(20):
        rabbitmq.publish([message(topic)])
        assert rabbitmq.lag([topic], group=topic) == {(topic, 0): n + 1}
    receive(member, 20)
    assert rabbitmq.lag([topic], group=topic) == {(topic, 0): 0}


def test_lag_counts_what_a_member_elsewhere_holds(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, receive: Receive, group: Callable[..., Subscription],
    eventually: Eventually,
) -> None:  # fmt: skip
    """As old as the broker's last tick."""
    topic, address = new_topic(1), rabbitmq._address
    member = group(topic)
    rabbitmq.publish([message(topic) for _ in range(20)])
    deliveries = receive(member, 20, ack=False)
    url = f"amqp://{address.user}:{address.password}@{address.host}:{address.port}/?management={address.management}"
    with RabbitMQBroker(url) as other:
        eventually(lambda: other.lag([topic], group=topic) == {(topic, 0): 20})
        for delivery in deliveries:
            member.ack(delivery)
        eventually(lambda: other.lag([topic], group=topic) == {(topic, 0): 0})


def test_lag_of_a_group_that_never_came_is_an_error(rabbitmq: RabbitMQBroker, new_topic: NewTopic) -> None:
    """It has no queue: nothing is kept for it, and nothing is owed."""
    with pytest.raises(UnknownGroup, match="'nobody'"):
        rabbitmq.lag([new_topic()], group="nobody")


# -- members -----------------------------------------------------------------------------------------------------------

MEMBER = """
    import sys
    from reference.brokers.rabbitmq import RabbitMQBroker
    url, topic = sys.argv[1:]
    member = RabbitMQBroker(url, timeout_s=30).subscribe([topic], group=topic)
    while True:
        for delivery in member.receive(20, 0.2):
            print(delivery.partition, delivery.key.decode(), delivery.value.decode(), flush=True)
            member.ack(delivery)
"""


class Elsewhere:
    """A member in a process of its own, that tells what it received."""

    def __init__(self, url: str, topic: str, record: Callable[[str, int], None]) -> None:
        self.lanes: set[str] = set()
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(MEMBER), url, topic], stdout=subprocess.PIPE, text=True
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, args=[record])
        self._reader.start()

    def _read(self, record: Callable[[str, int], None]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):
                lane, key, number = line.split()
                self.lanes.add(lane)
                record(key, int(number))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_keys_stay_in_order_while_members_come_go_and_are_killed(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, group: Callable[..., Subscription], eventually: Eventually
) -> None:
    """Whatever was delivered again, the first time of each of a key's messages is in order; and all of them came."""
    topic, sent = new_topic(4), 0
    seen: dict[str, list[int]] = defaultdict(list)
    lock = threading.Lock()

    def record(key: str, number: int) -> None:
        with lock:
            if number not in seen[key]:
                seen[key].append(number)

    address = rabbitmq._address
    url = f"amqp://{address.user}:{address.password}@{address.host}:{address.port}/"
    here: list[Any] = [group(topic)]

    def consume() -> None:
        for member in here:
            for delivery in member.receive(500, 0.02):
                record((delivery.key or b"").decode(), int(delivery.value or b""))
                member.ack(delivery)

    def moving(until: Callable[[], bool]) -> Callable[[], bool]:
        def step() -> bool:
            nonlocal sent
            rabbitmq.publish([message(topic, f"k{n % 50}", f"{n}") for n in range(sent, sent + 200)])
            sent += 200
            consume()
            return until()

        return step

    other = Elsewhere(url, topic, record)
    try:
        eventually(moving(lambda: bool(other.lanes)), within_s=60)
        here.append(group(topic))
        eventually(moving(lambda: any(lane.active for lane in here[1].membership.lanes)), within_s=60)
    finally:
        other.kill()
    goal = sent + 2000
    eventually(moving(lambda: sent >= goal), within_s=60)
    here.pop(0).close()
    eventually(lambda: consume() or sum(map(len, seen.values())) == sent, within_s=120)
    assert all(numbers == sorted(numbers) for numbers in seen.values())


def test_two_members_share_within_seconds(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, group: Callable[..., Subscription], eventually: Eventually
) -> None:
    """A share is rounded up: two of four lanes each."""
    topic = new_topic(4)
    members: list[Any] = [group(topic), group(topic)]

    def shared() -> bool:
        rabbitmq.publish([message(topic, f"k{n}") for n in range(40)])
        for member in members:
            for delivery in member.receive(100, 0.05):
                member.ack(delivery)
        return [sum(lane.active for lane in member.membership.lanes) for member in members] == [2, 2]

    eventually(shared)


def test_a_member_that_comes_late_gets_a_share(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, group: Callable[..., Subscription], eventually: Eventually
) -> None:
    """Also when the others have two lanes each, as much as six for four are when rounded up; and then it is quiet again."""
    topic = new_topic(6)
    members: list[Any] = []

    def shared(*wanted: int) -> Callable[[], bool]:
        def step() -> bool:
            rabbitmq.publish([message(topic, f"k{n}") for n in range(60)])
            for member in members:
                for delivery in member.receive(100, 0.05):
                    member.ack(delivery)
            lanes = sorted(sum(lane.active for lane in member.membership.lanes) for member in members)
            return lanes == list(wanted) and all(member.membership.counted(topic) == 1 for member in members)

        return step

    members += [group(topic), group(topic), group(topic)]
    eventually(shared(2, 2, 2), within_s=60)
    members.append(group(topic))
    eventually(shared(1, 1, 2, 2), within_s=60)


def test_a_member_hears_of_lanes_that_come_and_go(
    rabbitmq: RabbitMQBroker, new_topic: NewTopic, message: NewMessage, group: Callable[..., Subscription], eventually: Eventually
) -> None:
    """A lane comes with its first message, and leaves the first member when the second one takes its share."""
    topic = new_topic(2)
    first = group(topic)
    assert first.handovers == 0

    def heard(members: list[Subscription], wanted: Callable[[], bool]) -> Callable[[], bool]:
        def step() -> bool:
            rabbitmq.publish([message(topic, f"k{n}") for n in range(20)])
            for member in members:
                for delivery in member.receive(100, 0.05):
                    member.ack(delivery)
            return wanted()

        return step

    eventually(heard([first], lambda: first.handovers == 2))
    second = group(topic)
    eventually(heard([first, second], lambda: (first.handovers, second.handovers) >= (3, 1)))
