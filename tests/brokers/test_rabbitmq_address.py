from __future__ import annotations

import traceback

import pytest

from reference.brokers.rabbitmq.address import RabbitMQAddress


def test_an_address_is_a_host() -> None:
    """RabbitMQ's own ports, user and vhost are taken when nothing is said."""
    parsed = RabbitMQAddress.parse("amqp://one")
    assert (parsed.url, parsed.port, parsed.vhost, parsed.user, parsed.management) == (
        "amqp://one:5672/", 5672, "/", "guest", "http://one:15672",
    )  # fmt: skip


def test_a_password_may_hold_any_character() -> None:
    """Percent-encoded, as in every address; and it is never printed."""
    parsed = RabbitMQAddress.parse("amqp://lab:p%40ss%3Aword@one:5673/shop")
    assert (parsed.user, parsed.password, parsed.url) == ("lab", "p@ss:word", "amqp://one:5673/shop")
    assert "p@ss" not in repr(parsed)


@pytest.mark.parametrize(("path", "vhost"), [("", "/"), ("/", "/"), ("/%2F", "/"), ("/shop", "shop"), ("/a%2Fb", "a/b")])
def test_a_path_is_a_vhost(path: str, vhost: str) -> None:
    """Nothing and a slash are RabbitMQ's default vhost, whose name is a slash."""
    parsed = RabbitMQAddress.parse(f"amqp://one:5672{path}")
    assert (parsed.vhost, RabbitMQAddress.parse(parsed.url).vhost) == (vhost, vhost)


@pytest.mark.parametrize(
    ("given", "where"),
    [("25672", "http://one:25672"), ("https://two:443/rabbit/", "https://two:443/rabbit")],
)
def test_the_management_api_may_be_elsewhere(given: str, where: str) -> None:
    """A port on the same host, or a whole address."""
    assert RabbitMQAddress.parse(f"amqp://one?management={given}").management == where


def test_settings_reach_the_client() -> None:
    """What the address says wins over what we would take."""
    parameters = RabbitMQAddress.parse("amqp://one?heartbeat=7&frame_max=8192").parameters(name="n", timeout_s=3)
    assert (parameters.heartbeat, parameters.frame_max, parameters.socket_timeout) == (7, 8192, 3)


def test_amqps_is_amqp_over_tls() -> None:
    """With TLS's own ports."""
    parsed = RabbitMQAddress.parse("amqps://one")
    assert (parsed.port, parsed.management, parsed.parameters(name="n", timeout_s=3).ssl_options is not None) == (
        5671, "https://one:15671", True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "url", ["", "amqp://", "one:5672", "http://one:5672", "amqp://one:port", "amqp://one:99999", "amqp:///shop"]
)
def test_a_bad_address_is_answered_with_a_good_one(url: str) -> None:
    """The reader sees what to write."""
    with pytest.raises(ValueError, match="write amqp://HOST:PORT/VHOST"):
        RabbitMQAddress.parse(url)


@pytest.mark.parametrize("query", [
    "heartbeat=soon", "heartbeat=99999999", "frame_max=10", "channel_max=99999999", "colour=red", "management=here",
    "management=99999", "management=http://127.0.0.1:abc", "management=http://[::1", "management=http://",
])  # fmt: skip
def test_a_bad_setting_is_named(query: str) -> None:
    """And what there is instead."""
    with pytest.raises(ValueError, match=query.partition("=")[0]):
        RabbitMQAddress.parse(f"amqp://one?{query}")


@pytest.mark.parametrize(
    "rest",
    ["lab:geheim@one:port/", "lab:x/geheim@one", "lab:12/geheim@one", "lab:x#geheim@one", "lab:12#geheim", "lab:geheim?x@one",
     "lab:12?geheim=1@one", "lab:x@geheim/y@one", "lab:geheim", "lab:geheim\u2100@one", "[geheim",
     "one?management=http://lab:geheim@two", "one?management=http://lab:geheim%40two"],
)  # fmt: skip
def test_a_bad_address_is_reported_without_its_password(rest: str) -> None:
    """Errors end up in logs; nor is what stands behind an unescaped character taken for something else."""
    with pytest.raises(ValueError) as error:
        RabbitMQAddress.parse(f"amqp://{rest}")
    assert "geheim" not in "".join(traceback.format_exception(error.value)).replace(rest, "")
