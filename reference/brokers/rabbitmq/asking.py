"""Questions to RabbitMQ that one wants an answer to: each on a connection of its own, and for so long and no longer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pika
from pika import exceptions
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from reference.brokers.protocol import BrokerUnavailable
from reference.brokers.rabbitmq.address import RabbitMQAddress
from reference.brokers.rabbitmq.link import why
from reference.brokers.rabbitmq.quiet import quiet

__all__ = ["Asking"]


class Asking:
    """Each question is answered within ``timeout_s``, or else ends in :class:`BrokerUnavailable` with the address."""

    def __init__(self, address: RabbitMQAddress, *, timeout_s: float) -> None:
        self._address, self._timeout_s = address, timeout_s

    def is_there(self, name: str, *, of: Literal["exchange", "queue"] = "exchange") -> bool:
        try:
            with self.channel() as channel:
                (channel.exchange_declare if of == "exchange" else channel.queue_declare)(name, passive=True)
        except exceptions.ChannelClosedByBroker as error:
            if error.reply_code == 404:
                return False
            raise
        except exceptions.ShortStringTooLong:
            return False
        return True

    @contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        with quiet(), self._explained_absence():
            connection = pika.BlockingConnection(self._address.parameters(name="eda-labs topology", timeout_s=self._timeout_s))
            connection._impl.ioloop.call_later(self._timeout_s, _too_slow)  # pika itself waits for ever for an answer
            try:
                yield connection.channel()
            except _TooSlow as error:
                connection._impl._terminate_stream(error)
                raise
            finally:
                if connection.is_open:
                    connection.close()

    @contextmanager
    def _explained_absence(self) -> Iterator[None]:
        address = self._address
        try:
            yield
        except exceptions.ChannelClosedByBroker as error:
            if error.reply_code == 403:
                raise BrokerUnavailable(f"broker {address.url} does not let user {address.user!r}: {error.reply_text}") from error
            raise
        except _TooSlow as error:
            raise BrokerUnavailable(f"broker {address.url} did not answer within {self._timeout_s:g} s") from error
        except (exceptions.AMQPConnectionError, AMQPConnectorException, OSError) as error:
            raise BrokerUnavailable(f"broker {address.url} {why(error, address)}") from error


class _TooSlow(Exception):
    pass


def _too_slow() -> None:
    raise _TooSlow
