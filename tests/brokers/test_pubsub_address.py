"""Pub/Sub addresses, and what an address decides: the endpoint, the credentials, the capabilities. No network."""

from __future__ import annotations

from typing import Any

import google.auth
import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from reference.brokers import BrokerUnavailable, Message, NotOffered
from reference.brokers.pubsub import PubSubBroker
from reference.brokers.pubsub.address import PubSubAddress
from reference.brokers.pubsub.stream import WINDOW_BYTES
from reference.brokers.pubsub.subscription import COUNTED_WINDOW, WINDOW, PubSubSubscription


@pytest.fixture(autouse=True)
def _outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)


class Opened:
    """What a channel was asked for, instead of one."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def insecure(self, target: str, options: Any = None) -> grpc.Channel:
        self.calls.append(("insecure", target))
        return real_insecure(target, options=options)

    def secure(self, host: str, *, credentials: Any, options: Any) -> grpc.Channel:
        self.calls.append(("secure", host, credentials))
        return real_insecure("127.0.0.1:9", options=options)


real_insecure = grpc.insecure_channel


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Every way to a channel leads here."""
    opened = Opened()
    monkeypatch.setattr(grpc, "insecure_channel", opened.insecure)
    monkeypatch.setattr(PublisherGrpcTransport, "create_channel", opened.secure)
    return opened


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("pubsub://lab-project", PubSubAddress("lab-project")),
        ("pubsub://lab-project@127.0.0.1:8085", PubSubAddress("lab-project", "127.0.0.1:8085")),
        ("pubsub://lab-project?exactly_once=true", PubSubAddress("lab-project", exactly_once=True)),
        ("pubsub://lab-project@[::1]:8085/?ordered=false", PubSubAddress("lab-project", "[::1]:8085", ordered=False)),
    ],
)
def test_an_address_names_a_project_and_perhaps_an_emulator(url: str, address: PubSubAddress) -> None:
    """And what it prints reads back as the same."""
    assert PubSubAddress.parse(url) == address == PubSubAddress.parse(address.url)


def test_the_environment_names_an_emulator_as_for_every_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the address names one itself; either way the url says which."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "localhost:8085")
    assert PubSubAddress.parse("pubsub://lab-project").url == "pubsub://lab-project@localhost:8085"
    assert PubSubAddress.parse("pubsub://lab-project@127.0.0.1:1").emulator == "127.0.0.1:1"


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("pubsub://proj", "'proj' is no project id"),
        ("pubsub://Lab-project", "'Lab-project' is no project id"),
        ("pubsub://lab-project-", "'lab-project-' is no project id"),
        ("pubsub://" + "a" * 31, "6 to 30"),
        ("pubsub://", "'' is no project id"),
        ("pubsub://lab-project@localhost", "write pubsub://PROJECT"),
        ("pubsub://lab-project/topic", "write pubsub://PROJECT"),
        ("kafka://lab-project", "write pubsub://PROJECT"),
        ("pubsub://lab-project?exactly-once=true", "no option 'exactly-once': there are exactly_once and ordered"),
        ("pubsub://lab-project?ordered=maybe", "'ordered' of a Pub/Sub address is true or false, not 'maybe'"),
    ],
)
def test_any_other_address_is_answered_with_what_a_right_one_is(url: str, named: str) -> None:
    """At once, not at the first publish."""
    with pytest.raises(ValueError, match=named.replace("?", r"\?")):
        PubSubBroker(url)


# -- connecting --------------------------------------------------------------------------------------------------------


def test_nothing_is_opened_until_it_is_needed(opened: Opened) -> None:
    """Nor are credentials looked for."""
    with PubSubBroker("pubsub://lab-project"):
        assert opened.calls == []


def test_the_service_is_reached_with_the_credentials_of_the_environment(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its own endpoint, encrypted."""
    mine = AnonymousCredentials()
    monkeypatch.setattr(google.auth, "default", lambda scopes: (mine, "lab-project"))
    with PubSubBroker("pubsub://lab-project", timeout_s=0.2) as broker, pytest.raises(BrokerUnavailable, match="lab-project"):
        broker.create_topic("orders")
    assert opened.calls == [("secure", "pubsub.googleapis.com:443", mine)]


def test_an_emulator_is_reached_in_the_clear_without_credentials(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has none to check."""
    monkeypatch.setattr(google.auth, "default", lambda scopes: pytest.fail("looked for credentials"))
    with PubSubBroker("pubsub://lab-project@127.0.0.1:9", timeout_s=0.2) as broker, pytest.raises(BrokerUnavailable):
        broker.create_topic("orders")
    assert opened.calls == [("insecure", "127.0.0.1:9")]


def test_without_credentials_the_error_says_how_to_get_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """And for which address."""

    def none(scopes: object) -> None:
        raise DefaultCredentialsError("none here")

    monkeypatch.setattr(google.auth, "default", none)
    with PubSubBroker("pubsub://lab-project") as broker, pytest.raises(BrokerUnavailable, match="gcloud auth") as error:
        broker.subscribe(["orders"], group="billing")
    assert "pubsub://lab-project" in str(error.value)


def test_nothing_is_opened_again_after_a_close(opened: Opened) -> None:
    """Whoever goes on with a closed broker is told, and closing twice is once."""
    broker = PubSubBroker("pubsub://lab-project@127.0.0.1:9", timeout_s=0.2)
    for _ in range(2):
        broker.close()
    with pytest.raises(RuntimeError, match=r"pubsub://lab-project@127\.0\.0\.1:9 is closed: connect again"):
        broker.publish([Message("orders", "k", b"v", [])])
    with pytest.raises(RuntimeError, match="is closed"):
        broker.subscribe(["orders"], group="billing")
    assert opened.calls == []


def test_a_subscription_has_a_topic() -> None:
    """Or it would wait for ever for nothing."""
    with PubSubBroker("pubsub://lab-project@127.0.0.1:9") as broker, pytest.raises(ValueError, match="at least one topic"):
        broker.subscribe([], group="billing")


# -- capabilities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "gaps"),
    [
        ("pubsub://lab-project", set()),
        ("pubsub://lab-project@127.0.0.1:9?ordered=false", {"filters", "durable", "exactly_once_delivery"}),
        (
            "pubsub://lab-project@127.0.0.1:9",
            {"filters", "durable", "exactly_once_delivery", "dead_letters", "replay_by_time", "ordered_by_key"},
        ),
    ],
)
def test_an_emulator_offers_less_than_the_service(url: str, gaps: set[str]) -> None:
    """Every gap by name, switched off, with a note on what to do instead."""
    with PubSubBroker(url) as broker:
        able = broker.capabilities
    assert able.emulator_gaps == gaps
    assert not any(getattr(able, gap) for gap in gaps)
    assert gaps <= set(able.notes)


def test_how_far_other_partitions_go_on_is_said() -> None:
    """The service's window is the limit, by its numbers; its emulator has none."""
    with PubSubBroker("pubsub://lab-project") as service, PubSubBroker("pubsub://lab-project@127.0.0.1:9") as emulator:
        said = service.capabilities.notes["nack"]
        assert "nack" not in emulator.capabilities.notes
    numbers = (f"{WINDOW:,} messages", f"{WINDOW_BYTES // 1_000_000} MB", f"{COUNTED_WINDOW} messages")
    documented = " ".join(str(PubSubSubscription.__doc__).split())
    assert [number for number in numbers if number not in said or number not in documented] == []


@pytest.mark.parametrize("name", ["lag", "delayed_delivery", "replay_by_offset", "binary_headers", "transactions"])
def test_what_the_service_does_not_do_says_what_people_do_instead(name: str) -> None:
    """The same for the service and its emulator."""
    with PubSubBroker("pubsub://lab-project") as broker, pytest.raises(NotOffered) as error:
        broker.capabilities.demand(name, of=broker.url)
    assert broker.capabilities.notes[name] in str(error.value)


def test_exactly_once_and_order_are_what_the_address_asks_for() -> None:
    """And nothing else changes with them."""
    with PubSubBroker("pubsub://lab-project?exactly_once=true&ordered=false") as broker:
        able = broker.capabilities
    assert (able.exactly_once_delivery, able.ordered_by_key, able.filters) == (True, False, True)
