from __future__ import annotations

import pytest

from reference.brokers.kafka.address import KafkaAddress


def test_an_address_is_host_and_port() -> None:
    """Without a user nothing is said of security."""
    parsed = KafkaAddress.parse("kafka://one:9092,two:9093")
    assert (parsed.url, parsed.client["bootstrap.servers"], "sasl.username" in parsed.client) == (
        "kafka://one:9092,two:9093",
        "one:9092,two:9093",
        False,
    )


def test_a_user_means_sasl_plain() -> None:
    """What the labs' own broker asks for; a password may hold any character, percent-encoded."""
    client = KafkaAddress.parse("kafka://lab:p%40ss%3Aword@one:9092").client
    assert [client[f"sasl.{name}"] for name in ("mechanism", "username", "password")] == ["PLAIN", "lab", "p@ss:word"]


def test_settings_in_the_query_win() -> None:
    """Any librdkafka setting can be given, also other security."""
    client = KafkaAddress.parse("kafka://u:p@one:9092?security.protocol=SASL_SSL&sasl.mechanism=SCRAM-SHA-512").client
    assert (client["security.protocol"], client["sasl.mechanism"]) == ("SASL_SSL", "SCRAM-SHA-512")


@pytest.mark.parametrize(
    "url", ["", "kafka://", "one:9092", "http://one:9092", "kafka://one", "kafka://one:port", "kafka://one:1,"]
)
def test_a_bad_address_is_answered_with_a_good_one(url: str) -> None:
    """The reader sees what to write."""
    with pytest.raises(ValueError, match="write kafka://HOST:PORT"):
        KafkaAddress.parse(url)


def test_a_bad_address_is_reported_without_its_password() -> None:
    """Errors end up in logs."""
    with pytest.raises(ValueError) as error:
        KafkaAddress.parse("kafka://lab:geheim@one")
    assert "geheim" not in str(error.value)
