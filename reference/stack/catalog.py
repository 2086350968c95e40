"""The services there are. A new one is a file beside this one, and a line here."""

from __future__ import annotations

from collections.abc import Iterable

from reference.stack.errors import StackError
from reference.stack.kafka import Kafka
from reference.stack.postgres import Postgres
from reference.stack.pubsub import PubSub
from reference.stack.rabbitmq import RabbitMQ
from reference.stack.service import Service

__all__ = ["SERVICES", "chosen"]

SERVICES: dict[str, Service] = {service.name: service for service in (Kafka(), RabbitMQ(), PubSub(), Postgres())}


def chosen(names: Iterable[str] | None) -> list[Service]:
    """The services by these names, all of them when there are none; raises :class:`StackError` for a name unknown."""
    wanted = list(dict.fromkeys(names or SERVICES))
    unknown = [name for name in wanted if name not in SERVICES]
    if unknown:
        raise StackError(f"no service is called {', '.join(unknown)}: there are {', '.join(SERVICES)}")
    return [SERVICES[name] for name in wanted]
