"""One connection to RabbitMQ and the thread that serves it: pika's are used by one thread alone, and want to be served always.

Killed at any line, or lost: the broker takes back whatever was not acked, and nothing is written to the connection any more.
"""

from __future__ import annotations

import ssl
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import pika
from pika import exceptions, frame, spec
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorPhaseErrorBase,
    AMQPConnectorStackTimeout,
)
from pika.channel import Channel

from reference.brokers.protocol import BrokerUnavailable
from reference.brokers.rabbitmq.address import RabbitMQAddress
from reference.brokers.rabbitmq.quiet import quiet

__all__ = ["Link", "close_at_once", "why"]


class Link:
    """``call`` runs something on the connection's thread; ``lost`` says why there is no connection, once there is none."""

    def __init__(self, address: RabbitMQAddress, *, name: str, timeout_s: float, on_lost: Callable[[], None]) -> None:
        self._address, self._timeout_s, self._on_lost = address, timeout_s, on_lost
        self.lost: str | None = None
        self.blocked = ""  # why the broker takes no messages just now
        self._opened = threading.Event()
        self._ending = threading.Lock()  # between a call from anywhere and the end of what would take it
        self._closed_by: BaseException = exceptions.ConnectionClosed(0, "ended")
        self._connection = _Connection(
            address.parameters(name=name, timeout_s=timeout_s),
            on_open_callback=self._on_open, on_open_error_callback=self._on_closed, on_close_callback=self._on_closed,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._run, name=f"{name} {address.url}", daemon=True)
        self._thread.start()
        if not self._opened.wait(timeout_s) or self.lost is not None:
            reason = self.lost or f"did not answer within {timeout_s:g} s"
            self.drop()
            raise BrokerUnavailable(f"broker {address.url} {reason}")

    @property
    def connection(self) -> pika.SelectConnection:
        """For what runs on the connection's thread, and for nothing else."""
        return self._connection

    @property
    def frame_max(self) -> int:
        """Bytes of a frame's payload, as agreed with the broker."""
        return int(self._connection.params.frame_max or 131_072) - 8

    def call(self, do: Callable[[], None]) -> None:
        """Have ``do`` run on the connection's thread, soon; never, if the connection is lost before."""
        with self._ending:
            if self.lost is None:
                self._connection.ioloop.add_callback_threadsafe(do)

    def say_goodbye(self) -> None:
        """Behind all that was called before; without waiting for it."""
        self.call(self._close)

    def close(self, *, by: float | None = None) -> None:
        """Say goodbye, and wait until the broker has heard all that was called before; until ``by`` on the monotonic clock."""
        self.say_goodbye()
        self._thread.join(self._timeout_s if by is None else max(0.0, by - time.monotonic()))
        self.drop()

    def drop(self) -> None:
        """End the connection without a word: nothing that may still be on its way is sent any more."""
        self.call(self.abort)
        self._thread.join(self._timeout_s)  # nobody is asked: it takes no time

    def abort(self) -> None:
        """:meth:`drop`, for the connection's own thread."""
        if not self._connection.is_closed:
            self._connection._terminate_stream(exceptions.ConnectionClosed(0, "dropped"))

    def _run(self) -> None:
        reason = "closed the connection"
        try:
            with quiet():
                self._connection.ioloop.start()
            reason = why(self._closed_by, self._address)
        except Exception as error:  # a callback's mistake must not leave a connection that nobody serves
            reason = f"is not served any more: {type(error).__name__}: {error}"
            raise
        finally:
            with self._ending:
                self.lost = reason
            self._connection.ioloop.close()  # nothing is called any more
            self._opened.set()
            self._on_lost()

    def _on_open(self, connection: pika.SelectConnection) -> None:
        connection.add_on_connection_blocked_callback(lambda _, method: self._on_blocked(str(method.method.reason)))
        connection.add_on_connection_unblocked_callback(lambda *_: self._on_blocked(""))
        self._opened.set()

    def _on_blocked(self, reason: str) -> None:
        self.blocked = f" (it takes no messages just now: {reason})" if reason else ""

    def _on_closed(self, connection: pika.SelectConnection, error: BaseException) -> None:
        self._closed_by = error
        connection.ioloop.stop()

    def _close(self) -> None:
        if self._connection.is_open:
            self._connection.close()


def close_at_once(channel: Channel) -> None:
    """Close a channel that consumes, without the cancel that pika's own ``close`` sends first.

    After a cancel the broker makes the next consumer active, and hands to it what stands behind this one's unacked messages,
    before it takes those back: order per key would be lost. Closing a channel does both in one step.
    """
    channel._cancelled.update(channel._consumers)
    channel.close()


def why(error: BaseException, address: RabbitMQAddress) -> str:
    """In a person's words, why there is no connection, and what to do about it. Never with the password."""
    error = _cause(error)
    text = str(error)
    if isinstance(error, exceptions.ProbableAuthenticationError):
        return f"refused user {address.user!r}: the password is wrong, or there is no such user"
    if isinstance(error, exceptions.ProbableAccessDeniedError) and "not found" in text:
        return f"has no vhost {address.vhost!r}: create it with rabbitmqctl add_vhost {address.vhost}"
    if isinstance(error, exceptions.ProbableAccessDeniedError):
        return f"does not let user {address.user!r} into vhost {address.vhost!r}: grant it with rabbitmqctl set_permissions"
    return _unreachable(error, text)


def _unreachable(error: BaseException, text: str) -> str:
    if isinstance(error, AMQPConnectorStackTimeout):
        return "accepted the connection and did not answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "cannot be reached: connection refused"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"cannot be trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"does not speak TLS there ({error.reason or 'SSLError'}): take amqp://, or the port that has TLS"
    said = error.reply_text if isinstance(error, exceptions.ConnectionClosed | exceptions.ChannelClosed) else text
    return f"cannot be reached: {said or type(error).__name__}"


def _cause(error: BaseException) -> BaseException:
    """What pika has wrapped, in one way or another."""
    inner: object = None
    if isinstance(error, AMQPConnectionWorkflowFailed):
        inner = error.exceptions[-1] if error.exceptions else None
    elif isinstance(error, AMQPConnectorPhaseErrorBase):
        inner = error.exception
    elif not isinstance(error, exceptions.ProbableAccessDeniedError | exceptions.ProbableAuthenticationError):
        inner = error.args[0] if isinstance(error, exceptions.AMQPConnectionError) and error.args else None
    return _cause(inner) if isinstance(inner, BaseException) else error


class _Connection(pika.SelectConnection):  # type: ignore[misc]  # pika has no types of its own
    """pika's, but for messages whose headers it cannot read (a time after the year 9999, a float that is no number).

    It would lose the connection over them, again and again. They arrive with one header, ``amqp-properties``: the bytes.
    """

    def _read_frame(self) -> tuple[int, Any]:
        try:
            return super()._read_frame()  # type: ignore[no-any-return]
        except Exception:
            kind, channel, size = struct.unpack_from(">BHL", self._frame_buffer)
            payload = self._frame_buffer[7 : 7 + size]
            if kind != spec.FRAME_HEADER:
                raise
            properties = spec.BasicProperties(headers={"amqp-properties": payload[12:]})
            return size + 8, frame.Header(channel, struct.unpack_from(">Q", payload, 4)[0], properties)
