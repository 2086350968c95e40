"""A TCP proxy between clients and a server, and what goes wrong between them, in one line each.

Client bytes enter, the same bytes leave; faults are put on and healed while connections run. Killed at any line, client and
server see the connection end.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

from reference.evidence.faults.proxy import address, kafka
from reference.evidence.faults.proxy.front import HOST, Dose, Front
from reference.evidence.faults.proxy.toxic import Stream
from reference.evidence.faults.proxy.toxics import KINDS, make
from reference.evidence.history import History, Record

__all__ = ["Applied", "Proxy"]

T = TypeVar("T")
STREAMS: Final = ("upstream", "downstream")


class Applied:
    """A fault that a proxy has now: until :meth:`remove`, or the end of the block that it opens."""

    def __init__(self, kind: str, heal: Callable[[Applied], None], *, dose: Dose | None = None, number: int = 0) -> None:
        self.kind, self.number = kind, number
        self._heal, self._dose = heal, dose

    @property
    def fired(self) -> int:
        """On how many connections it was put; for ``down``, once."""
        return self._dose.fired if self._dose else 1

    def remove(self) -> None:
        """Heal it. Again, it does nothing."""
        self._heal(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.remove()


class Proxy:
    """Listens on a free port of 127.0.0.1, in a thread of its own, and passes on to ``host`` and ``port``.

    ``with proxy.latency(200): …`` is slow for a while; ``proxy.add("latency", latency_ms=200)`` is, until :meth:`reset`. A
    fault is for one ``stream``, ``"downstream"`` (what the server says) unless said otherwise, and for a share of the
    connections, its ``toxicity``; which ones, ``seed`` decides by their number. ``name`` stands before the fault in the
    ``history``. Raises :class:`ValueError` for a host that nobody knows.
    """

    kinds = KINDS

    def __init__(self, host: str, port: int, *, seed: int = 0, name: str = "", history: History | None = None) -> None:
        self._host, self._port, self._name, self._history = host, port, name, history
        try:
            family, *_, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except (OSError, UnicodeError) as error:
            raise ValueError(f"no address for {host!r}, port {port}: {error}") from None
        self._front = Front((family, where), seed=seed)
        self.host, self.port = HOST, self._front.port
        self._applied: list[Applied] = []
        self._turn = threading.RLock()  # faults come by hand, from any thread
        self._loop = asyncio.new_event_loop()
        self._closed = False
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy {self.port}", daemon=True)
        self._thread.start()
        self._do(self._front.up())

    @classmethod
    def before(cls, url: str, *, seed: int = 0, name: str = "", history: History | None = None) -> Self:
        """A proxy before the service that ``url`` leads to. Raises :class:`ValueError` for an address it does not know."""
        return cls(*address.upstream(url), seed=seed, name=name, history=history)

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._front)

    def url(self, url: str, *, timeout_s: float = 30.0) -> str:
        """The same address through this proxy: ``kafka://``, ``amqp://``, ``pubsub://PROJECT@…``, ``postgresql://``.

        A Kafka is asked where it says it is, since its clients go there; from now on they hear of the proxy instead. That is
        written over, so it takes a single broker whose host's name is as long as the proxy's, and no TLS. Raises
        :class:`ValueError` when it is otherwise, or when ``url`` does not lead to where this proxy does, and
        :class:`~reference.brokers.BrokerUnavailable` when that Kafka has not answered within ``timeout_s``.
        """
        if (upstream := address.upstream(url)) != (self._host, self._port):
            raise ValueError(f"this address leads to {upstream[0]}:{upstream[1]}, and this proxy to {self._host}:{self._port}")
        proxied = address.through(url, self.host, self.port)
        if urlsplit(url).scheme == "kafka":
            self._front.seen = kafka.renaming(url, to=(self.host, self.port), timeout_s=timeout_s)
            kafka.check(proxied, at=(self.host, self.port), timeout_s=timeout_s)
        return proxied

    def add(self, kind: str, *, stream: Stream = "downstream", toxicity: float = 1.0, **attributes: Any) -> Applied:
        """Put a fault of :data:`kinds` on: ``add("latency", latency_ms=200)``; what is not given is its default.

        Raises :class:`ValueError` for an unknown kind, stream or attribute, or a number that makes no sense.
        """
        if kind == "down" and not attributes:
            return self.down()
        toxic = make(kind, attributes)
        if stream not in STREAMS:
            raise ValueError(f"no stream {stream!r}: there are upstream, to the server, and downstream, from it")
        if not 0 <= toxicity <= 1:
            raise ValueError(f"toxicity is a share of the connections between 0 and 1, not {toxicity!r}")
        dose = Dose(toxic, stream, toxicity)
        with self._turn:
            return self._apply(Applied(kind, self._heal, dose=dose, number=self._do(self._front.put(dose))))

    def latency(
        self, latency_ms: float, *, jitter_ms: float = 0, stream: Stream = "downstream", toxicity: float = 1.0
    ) -> Applied:
        """Everything comes later."""
        return self.add("latency", latency_ms=latency_ms, jitter_ms=jitter_ms, stream=stream, toxicity=toxicity)

    def bandwidth(self, rate_kb: float, *, stream: Stream = "downstream", toxicity: float = 1.0) -> Applied:
        """A slow line."""
        return self.add("bandwidth", rate_kb=rate_kb, stream=stream, toxicity=toxicity)

    def slow_close(self, delay_ms: float, *, stream: Stream = "downstream", toxicity: float = 1.0) -> Applied:
        """The other side hears late of a close."""
        return self.add("slow_close", delay_ms=delay_ms, stream=stream, toxicity=toxicity)

    def timeout(self, timeout_ms: float = 0, *, stream: Stream = "downstream", toxicity: float = 1.0) -> Applied:
        """Silence, and then a close, or none with 0."""
        return self.add("timeout", timeout_ms=timeout_ms, stream=stream, toxicity=toxicity)

    def reset_peer(self, timeout_ms: float = 0, *, stream: Stream = "downstream", toxicity: float = 1.0) -> Applied:
        """Connections are reset, at once or after a time."""
        return self.add("reset_peer", timeout_ms=timeout_ms, stream=stream, toxicity=toxicity)

    def slicer(
        self,
        average_size: float,
        *,
        size_variation: float = 0,
        delay_us: float = 0,
        stream: Stream = "downstream",
        toxicity: float = 1.0,
    ) -> Applied:
        """Data comes in crumbs."""
        return self.add("slicer", average_size=average_size, size_variation=size_variation, delay_us=delay_us,
                        stream=stream, toxicity=toxicity)  # fmt: skip

    def limit_data(self, bytes: int, *, stream: Stream = "downstream", toxicity: float = 1.0) -> Applied:  # noqa: A002 - its name
        """Connections are closed after so many bytes."""
        return self.add("limit_data", bytes=bytes, stream=stream, toxicity=toxicity)

    def down(self) -> Applied:
        """Nobody is let in, and nobody stays: the server is gone, as far as a client can tell. It keeps its port."""
        with self._turn:
            self._do(self._front.down())
            return self._apply(Applied("down", self._heal))

    def reset(self) -> None:
        """Heal everything."""
        for fault in list(self._applied):
            fault.remove()

    def close(self) -> None:
        """Cut every connection, and let go of the port and the thread. Again, it does nothing."""
        with self._turn:
            if self._closed:
                return
            self._do(self._front.close())
            self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _apply(self, fault: Applied) -> Applied:
        self._applied.append(fault)
        if self._history is not None:  # an empty one is false
            self._history.add(Record(op="fault", note=f"{self._name} {fault.kind}".strip()))
        return fault

    def _heal(self, fault: Applied) -> None:
        with self._turn:
            if self._closed or fault not in self._applied:
                return
            self._applied.remove(fault)
            if fault.kind != "down":
                self._do(self._front.take(fault.number))
            elif not any(other.kind == "down" for other in self._applied):
                self._do(self._front.up())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        if self._closed:
            work.close()
            raise RuntimeError(f"the proxy before {self._host}:{self._port} is closed: make another")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
