from __future__ import annotations

from reference.stack import Endpoints
from reference.stack.address import address, without_password

KAFKA = "kafka://lab:hush-1@127.0.0.1:19092"
RABBITMQ = "amqp://lab:hush-3@127.0.0.1:15673/?management=15674"
PUBSUB = "pubsub://lab-project@127.0.0.1:18085"
POSTGRES = "postgresql://lab:hush-2@127.0.0.1:15432/shop"


def test_endpoints_do_not_show_passwords() -> None:
    """What a notebook prints by accident is safe to commit."""
    shown = repr(Endpoints(kafka=KAFKA, rabbitmq=RABBITMQ, pubsub=PUBSUB, postgres=POSTGRES))
    assert "hush" not in shown
    assert all(f"127.0.0.1:{port}" in shown for port in (19092, 15673, 18085, 15432))


def test_endpoints_travel_by_environment() -> None:
    """Another process finds the same services; one that was not asked for is not named."""
    assert Endpoints(kafka=KAFKA).as_env() == {"EDA_KAFKA_URL": KAFKA}
    assert Endpoints(rabbitmq=RABBITMQ, pubsub=PUBSUB).as_env() == {"EDA_RABBITMQ_URL": RABBITMQ, "EDA_PUBSUB_URL": PUBSUB}


def test_an_address_is_host_and_port() -> None:
    """Without user, password or database."""
    assert address(POSTGRES) == "127.0.0.1:15432"


def test_a_password_is_replaced() -> None:
    """The rest of the URL stays as it is."""
    assert without_password(POSTGRES) == "postgresql://lab:***@127.0.0.1:15432/shop"
