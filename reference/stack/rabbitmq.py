"""RabbitMQ: one node from the distribution's package, on loopback, with its management API, apart from the system's own.

What enters is a :class:`~reference.stack.service.Site`; what leaves is a program. The node makes its tables when it first
boots, and cannot boot from half of them: killed before it ever answered, it starts from nothing. From then on durable
queues, and what was confirmed into them, survive any kill.

No Erlang port is opened and no ``epmd``, which would outlive the node, is started: nobody clusters with this node. Neither
is ``rabbitmqctl`` of use here, then; the management API is.
"""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from reference.stack.address import Page
from reference.stack.errors import StackError
from reference.stack.home import Home, write_whole
from reference.stack.service import ANSWERED, Program, Site

__all__ = [
    "ADVANCED", "INSTALL", "NODE", "PLUGINS", "SCHEDULERS", "SETTINGS", "USER", "RabbitMQ", "configuration", "release", "server",
]  # fmt: skip

USER = "lab"
# The data's directory is called after the node: a fixed name lets a home be moved. It is seen by nobody else.
NODE = "lab@localhost"
PLUGINS = "[rabbitmq_consistent_hash_exchange,rabbitmq_management].\n"
INSTALL = "apt-get install rabbitmq-server"
DEBIAN = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # where an ordinary user's path does not lead

# Each line that is not listed is RabbitMQ's own default.
SETTINGS: Mapping[str, str] = {
    "default_user": USER,  # made at the first boot, as an administrator; instead of guest
    # RabbitMQ 4's default. RabbitMQ 3 takes 128 MiB, and what is learnt here has to hold there.
    "max_message_size": str(16 * 1024 * 1024),
    # From there on publishers wait: rather than that the laptop swaps.
    "vm_memory_high_watermark.absolute": "512MiB",
    # The log that all quorum queues write together, and hold in memory: half a gigabyte by default.
    "raft.wal_max_size_bytes": str(64 * 1024 * 1024),
    "log.console": "true",
    "log.console.level": "info",
    "log.console.use_colors": "off",
    "log.file": "false",
}

# A quorum queue counts its messages once a tick, of five seconds by default: a live board wants them sooner.
ADVANCED = "[{rabbit, [{quorum_tick_interval, 1000}]}].\n"

# However many cores there are: a laptop has other things to do.
SCHEDULERS = "+S 2:2"
# For the node and for the small Erlang that its epmd monitor starts once a minute. With a port to name, RabbitMQ does not
# wait for an epmd to tell it one; nothing listens there.
WITHOUT_EPMD = "-start_epmd false -dist_listen false -erl_epmd_port 1"


@dataclass(frozen=True, slots=True)
class RabbitMQ:
    """One node; the user is ``lab``, an administrator, on the virtual host ``/``."""

    name: str = "rabbitmq"
    variable: str = "EDA_RABBITMQ_URL"
    ports: Mapping[str, int] = field(default_factory=lambda: {"rabbitmq": 15673, "rabbitmq-management": 15674})
    immediate_signal: str = ""

    def url(self, *, ports: Mapping[str, int], password: str) -> str:
        """``management`` is the port of the management API, on the same host, with the same user."""
        where = f"127.0.0.1:{ports['rabbitmq']}"
        return f"amqp://{USER}:{password}@{where}/?management={ports['rabbitmq-management']}"

    def page(self, url: str) -> Page | None:
        """The management page, which is at the root of the management API."""
        try:
            from reference.brokers.rabbitmq.address import RabbitMQAddress

            address = RabbitMQAddress.parse(url)
        except (ImportError, ValueError):  # without its client nobody could use it, either
            return None
        return Page(f"{address.management}/", address.user, address.password)

    def data(self, home: Home) -> Path:
        return home.path / "rabbitmq"

    def prepare(self, site: Site) -> Program:
        directory = self.data(site.home)
        directory.mkdir(mode=0o700, exist_ok=True)
        if not (directory / ANSWERED).exists():
            shutil.rmtree(directory / "data", ignore_errors=True)
        settings = configuration(site.ports, site.password)
        write_whole(directory / "rabbitmq.conf", "".join(f"{name} = {value}\n" for name, value in settings.items()))
        write_whole(directory / "advanced.config", ADVANCED)
        write_whole(directory / "enabled_plugins", PLUGINS)
        return Program((str(server()),), directory, environment=_environment(directory))

    def probe(self, url: str) -> None:
        """Make a queue that goes with its connection, and ask the management API that the URL names: with the credentials."""
        try:
            import pika
        except ImportError:
            raise StackError("pika, the RabbitMQ client, is not installed: pip install 'eda-labs[rabbitmq]'") from None
        from reference.brokers.rabbitmq.address import RabbitMQAddress

        address = RabbitMQAddress.parse(url)
        if "management" in parse_qs(urlsplit(url).query):
            token = base64.b64encode(f"{address.user}:{address.password}".encode()).decode()
            asked = Request(f"{address.management}/api/whoami", headers={"Authorization": f"Basic {token}"})  # noqa: S310
            build_opener(ProxyHandler({})).open(asked, timeout=2).close()  # a proxy would ask its own loopback
        with pika.BlockingConnection(address.parameters(name="eda-probe", timeout_s=3)) as connection:
            connection.channel().queue_declare("", exclusive=True)


def configuration(ports: Mapping[str, int], password: str) -> dict[str, str]:
    """The whole ``rabbitmq.conf``."""
    return {
        **SETTINGS,
        "default_pass": password,
        "listeners.tcp.1": f"127.0.0.1:{ports['rabbitmq']}",
        "management.tcp.ip": "127.0.0.1",
        "management.tcp.port": str(ports["rabbitmq-management"]),
    }


def server() -> Path:
    """The script that starts a node. Debian's wrapper around it insists on a user of its own. Raises :class:`StackError`."""
    on_path = shutil.which("rabbitmq-server")
    beside = [Path(on_path).resolve().with_name("rabbitmq-server")] if on_path else []
    for candidate in (*beside, DEBIAN):
        if candidate.is_file():
            return candidate.resolve()
    raise StackError(f"RabbitMQ is missing: {INSTALL}; its service need not run")


def release(script: Path) -> str:
    """The version in the path of a server's script, or the empty string."""
    match = re.search(r"rabbitmq_server-(\d[\d.]*)", str(script))
    return match[1] if match else ""


def _environment(directory: Path) -> dict[str, str]:
    """Every place where the node would look at, or write to, what belongs to the system's own."""
    return {
        "HOME": str(directory),  # for the Erlang cookie
        "LC_ALL": "C.UTF-8",  # Erlang reads its paths in the locale's encoding
        # The script's own switch to become the node instead of waiting for it: one process to signal, and to die with us.
        "RUNNING_UNDER_SYSTEMD": "true",
        "ERL_ZFLAGS": WITHOUT_EPMD,
        "ERL_EPMD_PORT": "1",  # not that it registers with the system's
        "RABBITMQ_NODENAME": NODE,
        # Named from its birth: a node that RabbitMQ names later asks epmd first.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{SCHEDULERS} -sname {NODE}",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_CONFIG_FILES": str(directory / "conf.d" / "*.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(directory / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(directory / "data"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
    }
