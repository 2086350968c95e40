"""What a client and a server see of each fault, with a server that says back what it hears."""

from __future__ import annotations

import random
import select
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import psutil
import pytest

from reference.evidence.faults.proxy import KINDS, Proxy, Stream
from reference.evidence.history import History

Eventually = Callable[..., Any]
MB = 1_000_000
LONG_MS = 3_600_000.0


class Echo(socketserver.ThreadingTCPServer):
    """Says back what it hears until the client has closed its side, and then closes too; reads only while it is ``listening``."""

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Saying)
        self.port = int(self.server_address[1])
        self.heard, self.ends = b"", list[str]()
        self.listening = threading.Event()
        self.listening.set()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reset is no error here."""


class _Saying(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server: Any = self.server
        try:
            while server.listening.wait(60) and (data := self.request.recv(65_536)):
                server.heard += data[:100]  # enough to know what it was
                self.request.sendall(data)
            server.ends.append("closed")
        except OSError:
            server.ends.append("reset")


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as server:
        yield server
        server.listening.set()
        server.shutdown()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echo.port, seed=1) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    """Connected, and answered once: the proxy knows it."""
    with connected(proxy) as one:
        assert said(one, b"hello") == b"hello"
        yield one


def connected(proxy: Proxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=60)


def heard(client: socket.socket, count: int) -> bytes:
    """So many bytes, or what came before the end."""
    data = b""
    while len(data) < count and (more := client.recv(65_536)):
        data += more
    return data


def said(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    return heard(client, len(data))


def is_silent(client: socket.socket) -> bool:
    """Nothing has come, not even an end, in a while in which it would have."""
    return not select.select([client], [], [], 0.2)[0]


# -- no fault ----------------------------------------------------------------------------------------------------------


def test_bytes_pass_unchanged(client: socket.socket) -> None:
    """Both ways at once, and more than any buffer holds."""
    data = random.Random(1).randbytes(20 * MB)
    writer = threading.Thread(target=client.sendall, args=(data,))
    writer.start()
    assert heard(client, len(data)) == data
    writer.join()


def test_a_half_closed_connection_is_used_to_its_end(client: socket.socket, echo: Echo) -> None:
    """The server hears that no more will come, and what it says after that still arrives."""
    echo.listening.clear()
    client.sendall(b"x" * MB)
    client.shutdown(socket.SHUT_WR)
    echo.listening.set()
    assert heard(client, 2 * MB) == b"x" * MB


def test_a_reader_that_is_slow_makes_the_writer_wait(client: socket.socket, echo: Echo) -> None:
    """What is between them is bounded: nothing is piled up in the proxy, and nothing is lost."""
    echo.listening.clear()
    client.setblocking(False)
    sent = 0
    while select.select([], [client], [], 1.0)[1] and sent < 100 * MB:
        sent += client.send(b"x" * 65_536)
    assert sent < 50 * MB
    echo.listening.set()
    client.settimeout(60)
    assert len(heard(client, sent)) == sent


def test_a_reset_is_passed_on_to_the_server(client: socket.socket, echo: Echo, eventually: Eventually) -> None:
    """A client that crashed is not taken for one that has said good-bye."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    eventually(lambda: echo.ends == ["reset"])


def test_a_server_that_is_away_is_a_reset() -> None:
    """The proxy itself has nothing to say."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Proxy("127.0.0.1", port) as proxy, pytest.raises(ConnectionResetError), connected(proxy) as client:
        client.recv(1)


# -- each fault --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_what_is_slow_or_in_crumbs_is_still_whole(proxy: Proxy, client: socket.socket, stream: Stream) -> None:
    """Latency, a slow line and slices, one behind the other, change no byte."""
    data = random.Random(2).randbytes(20_000)
    with proxy.latency(20, jitter_ms=10, stream=stream), proxy.bandwidth(100, stream=stream), proxy.slicer(500, stream=stream):
        assert said(client, data) == data


def test_latency_is_over_when_it_is_healed(proxy: Proxy, client: socket.socket) -> None:
    """What was on its way comes at once."""
    with proxy.latency(LONG_MS):
        client.sendall(b"late")
        assert is_silent(client)
    assert heard(client, 4) == b"late"


@pytest.mark.parametrize(("stream", "arrives"), [("upstream", b""), ("downstream", b"?")])
def test_silence_is_for_one_direction(
    proxy: Proxy, client: socket.socket, echo: Echo, stream: Stream, arrives: bytes, eventually: Eventually
) -> None:
    """Of a timeout the other side knows nothing; healed, what was kept goes on, and nothing is missing."""
    with proxy.timeout(stream=stream):
        client.sendall(b"?")
        assert is_silent(client)
        eventually(lambda: echo.heard == b"hello" + arrives)
    assert heard(client, 1) == b"?"


def test_a_timeout_ends_the_connection(proxy: Proxy, client: socket.socket, echo: Echo, eventually: Eventually) -> None:
    """Orderly, to both sides, and with nothing passed on."""
    with proxy.timeout(100):
        client.sendall(b"?")
        assert client.recv(1) == b""
    eventually(lambda: echo.ends)
    assert proxy.connections == 0


@pytest.mark.parametrize("timeout_ms", [0, 100])
def test_a_peer_is_reset(
    proxy: Proxy, client: socket.socket, echo: Echo, timeout_ms: float, eventually: Eventually
) -> None:
    """Both sides have an error, those that come later too, and when it is healed all is well."""
    with proxy.reset_peer(timeout_ms) as fault:
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        eventually(lambda: echo.ends == ["reset"])
        with pytest.raises(ConnectionResetError), connected(proxy) as another:
            another.recv(1)
    assert fault.fired == 2
    with connected(proxy) as another:
        assert said(another, b"again") == b"again"


def test_a_limit_ends_the_connection_at_the_byte(proxy: Proxy, client: socket.socket) -> None:
    """It counts from when it was put on."""
    with proxy.limit_data(100):
        assert said(client, b"x" * 60) == b"x" * 60
        assert said(client, b"y" * 60) == b"y" * 40


def test_a_limit_upstream_is_the_servers(proxy: Proxy, client: socket.socket, echo: Echo, eventually: Eventually) -> None:
    """It hears so many bytes and no more."""
    with proxy.limit_data(3, stream="upstream"):
        client.sendall(b"abcdef")
        eventually(lambda: echo.ends)
    assert echo.heard == b"helloabc"


def test_a_close_is_slow(proxy: Proxy, client: socket.socket) -> None:
    """What was said arrives, the end does not, until it is healed."""
    with proxy.slow_close(LONG_MS):
        assert said(client, b"bye") == b"bye"
        client.shutdown(socket.SHUT_WR)
        assert is_silent(client)
    assert client.recv(1) == b""


def test_what_is_down_is_refused_and_comes_back_at_its_port(proxy: Proxy, client: socket.socket) -> None:
    """Connections are cut, nobody else can take the port meanwhile, and two who hold it down are both waited for."""
    with proxy.down():
        with proxy.add("down"), suppress(ConnectionResetError):
            assert client.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            connected(proxy)
        with pytest.raises(OSError, match="in use"), socket.create_server((proxy.host, proxy.port)):
            pass
    with connected(proxy) as another:
        assert said(another, b"again") == b"again"


# -- which connections, and how long -----------------------------------------------------------------------------------


def unlucky(echo: Echo, seed: int) -> list[int]:
    """Which of 20 connections were reset; half of them were there before."""
    lost = []
    with Proxy("127.0.0.1", echo.port, seed=seed) as proxy, ExitStack() as stack:
        before = [stack.enter_context(connected(proxy)) for _ in range(10)]
        assert [said(client, b"hello") for client in before] == [b"hello"] * 10
        fault = proxy.reset_peer(toxicity=0.5)
        for n in range(20):
            try:
                client = before[n] if n < 10 else stack.enter_context(connected(proxy))
                assert said(client, b"there?") == b"there?"
            except ConnectionError:
                lost.append(n)
        assert fault.fired == len(lost)
    return lost


def test_the_seed_decides_which_connections_are_hit(echo: Echo) -> None:
    """A share of them, and the same ones each time."""
    assert unlucky(echo, 1) == unlucky(echo, 1) != unlucky(echo, 2)
    assert 3 < len(unlucky(echo, 1)) < 17


def test_a_reset_proxy_has_no_faults(proxy: Proxy, client: socket.socket) -> None:
    """Whatever was put on, by its own name or by that of its kind; healed twice is healed once."""
    faults = [proxy.add(kind, **({"timeout_ms": LONG_MS} if kind == "reset_peer" else {})) for kind in KINDS]
    proxy.reset()
    for fault in faults:
        fault.remove()
    with connected(proxy) as another:
        assert said(another, b"x" * 100_000) == b"x" * 100_000


def test_faults_stand_in_the_history(echo: Echo) -> None:
    """With the name of what the proxy stands before."""
    with Proxy("127.0.0.1", echo.port, name="kafka", history=(history := History())) as proxy:
        with proxy.latency(5), proxy.down():
            pass
        proxy.add("slicer")
    assert [(record.op, record.note) for record in history] == [
        ("fault", "kafka latency"), ("fault", "kafka down"), ("fault", "kafka slicer"),
    ]  # fmt: skip


def test_a_closed_proxy_leaves_no_thread_and_no_socket(echo: Echo) -> None:
    """Its port is free for whoever wants it; asked for more, it says so, and a fault that is still on is healed."""
    before = len(threading.enumerate())
    proxy = Proxy("127.0.0.1", echo.port)
    client, fault = connected(proxy), proxy.timeout()
    proxy.close()
    proxy.close()
    fault.remove()
    client.close()
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("proxy")]
    mine = [one for one in psutil.Process().net_connections("tcp") if one.laddr and one.laddr.port == proxy.port]
    assert (threads, [one.status for one in mine]) == ([], [])
    assert len(threading.enumerate()) <= before + 1  # the server's, for a client that it may still have
    with pytest.raises(RuntimeError, match=f"proxy before 127.0.0.1:{echo.port} is closed"):
        proxy.latency(5)
    with socket.create_server((proxy.host, proxy.port)):
        pass


@pytest.mark.parametrize(
    ("wrong", "said_of_it"),
    [
        (lambda proxy: proxy.add("latencey"), "no toxic 'latencey': there are latency, .*, down"),
        (lambda proxy: proxy.add("down", rate=1), "no toxic 'down'|down has no"),
        (lambda proxy: proxy.latency(-1), "latency_ms is 0 or more, not -1"),
        (lambda proxy: proxy.latency(1, stream="up"), "no stream 'up': there are upstream"),
        (lambda proxy: proxy.latency(1, toxicity=2), "between 0 and 1, not 2"),
        (lambda proxy: Proxy("no-such-host.invalid", 1), "no address for 'no-such-host.invalid'"),
        (lambda proxy: proxy.url("postgresql://lab:geheim@127.0.0.1:1/shop"), r"leads to 127\.0\.0\.1:1, and this proxy to"),
    ],
)
def test_what_no_proxy_can_do_is_refused(proxy: Proxy, wrong: Callable[[Proxy], object], said_of_it: str) -> None:
    """The message says what can be done, and repeats no password."""
    with pytest.raises(ValueError, match=said_of_it) as error:
        wrong(proxy)
    assert "geheim" not in str(error.value)
