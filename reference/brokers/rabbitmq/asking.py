"""Questions to RabbitMQ that one wants an answer to: those of one task on one connection, each for so long and no longer.

Killed at any line: the connection goes, and with it the room that was held for making something alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

import pika
from pika import exceptions
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.channel import MAX_CHANNELS

from reference.brokers.protocol import BrokerUnavailable
from reference.brokers.rabbitmq.address import RabbitMQAddress
from reference.brokers.rabbitmq.link import why
from reference.brokers.rabbitmq.names import making_queue
from reference.brokers.rabbitmq.quiet import quiet

__all__ = ["Asking", "Conversation"]

LOOK_AGAIN_S: Final = 0.05


class Asking:
    """Each question is answered within ``timeout_s``, or else ends in :class:`BrokerUnavailable` with the address."""

    def __init__(self, address: RabbitMQAddress, *, timeout_s: float) -> None:
        self._address, self._timeout_s = address, timeout_s

    @contextmanager
    def conversation(self) -> Iterator[Conversation]:
        with quiet(), self._explained_absence():
            connection = pika.BlockingConnection(self._address.parameters(name="eda-labs topology", timeout_s=self._timeout_s))
            try:
                yield Conversation(connection, self._address.url, self._timeout_s)
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
        except BrokerUnavailable:
            raise
        except exceptions.ChannelClosedByBroker as error:
            if error.reply_code == 403:
                raise BrokerUnavailable(f"broker {address.url} does not let user {address.user!r}: {error.reply_text}") from error
            raise
        except _TooSlow as error:
            raise BrokerUnavailable(f"broker {address.url} did not answer within {self._timeout_s:g} s") from error
        except (exceptions.AMQPConnectionError, AMQPConnectorException, OSError) as error:
            raise BrokerUnavailable(f"broker {address.url} {why(error, address)}") from error


class Conversation:
    """One connection, with a new channel after each that the broker has ended: a "no" ends it."""

    def __init__(self, connection: pika.BlockingConnection, url: str, timeout_s: float) -> None:
        self._connection, self._url, self._timeout_s = connection, url, timeout_s
        self._ioloop = connection._impl.ioloop
        self._alarm: object = None
        self._channel: BlockingChannel | None = None

    @property
    def channel(self) -> BlockingChannel:
        """For one question: the time for its answer begins now."""
        if self._alarm is not None:
            self._ioloop.remove_timeout(self._alarm)
        self._alarm = self._ioloop.call_later(self._timeout_s, _too_slow)  # pika itself waits for ever for an answer
        if self._channel is None or not self._channel.is_open:
            self._channel = self._connection.channel()
        return self._channel

    @property
    def channel_max(self) -> int:
        """How many channels a connection may have, as agreed with the broker."""
        return int(self._connection._impl.params.channel_max or MAX_CHANNELS)

    def is_there(self, name: str, *, of: Literal["exchange", "queue"] = "exchange") -> bool:
        try:
            channel = self.channel
            (channel.exchange_declare if of == "exchange" else channel.queue_declare)(name, passive=True)
        except exceptions.ChannelClosedByBroker as error:
            if error.reply_code == 404:
                return False
            raise
        except exceptions.ShortStringTooLong:
            self._channel = None  # it waits for the answer to what was never sent
            return False
        return True

    @contextmanager
    def alone(self, topic: str) -> Iterator[None]:
        """Nobody else is in here for the same topic: a queue that belongs to this connection, and dies with it, says so.

        Raises :class:`BrokerUnavailable` when somebody else is for longer than ``timeout_s``.
        """
        queue, until = making_queue(topic), time.monotonic() + self._timeout_s
        while not self._taken(queue):
            if time.monotonic() >= until:
                raise BrokerUnavailable(
                    f"broker {self._url}: another connection has been making topic {topic!r} for {self._timeout_s:g} s; "
                    f"try again, or close the one that holds queue {queue!r}"
                )
            time.sleep(LOOK_AGAIN_S)
        yield
        self.channel.queue_delete(queue)

    def _taken(self, queue: str) -> bool:
        try:
            self.channel.queue_declare(queue, exclusive=True, arguments={"x-queue-type": "classic"})
        except exceptions.ChannelClosedByBroker as error:
            if error.reply_code == 405:
                return False
            raise
        return True


class _TooSlow(Exception):
    pass


def _too_slow() -> None:
    raise _TooSlow
