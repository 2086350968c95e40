"""Pub/Sub: Google's emulator from the Cloud SDK, on loopback. It knows no passwords, and it forgets everything when it stops.

What enters is a :class:`~reference.stack.service.Site`; what leaves is a program. Topics, subscriptions and messages are in
the emulator's memory alone: a stop, and a kill, loses them all. Beside its own port it listens on one more of loopback that
the kernel picks.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reference.stack import java
from reference.stack.address import Page
from reference.stack.errors import StackError
from reference.stack.home import Home
from reference.stack.service import Program, Site

__all__ = ["INSTALL", "JVM", "PROJECT", "PubSub", "jar", "release"]

PROJECT = "lab-project"
JARS = "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar"
INSTALL = (
    "gcloud components install pubsub-emulator, or apt-get install google-cloud-cli-pubsub-emulator "
    "(from Google's package repository), or run it in Docker"
)

# All messages live in the heap: the upper bound is generous, and the JVM takes what it needs.
JVM = ("-Xms32m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError")


@dataclass(frozen=True, slots=True)
class PubSub:
    """The emulator; a client names the project ``lab-project`` and needs no credentials."""

    name: str = "pubsub"
    variable: str = "EDA_PUBSUB_URL"
    ports: Mapping[str, int] = field(default_factory=lambda: {"pubsub": 18085})
    immediate_signal: str = ""

    def url(self, *, ports: Mapping[str, int], password: str) -> str:  # noqa: ARG002  # the emulator lets everybody in
        return f"pubsub://{PROJECT}@127.0.0.1:{ports['pubsub']}"

    def page(self, url: str) -> Page | None:  # noqa: ARG002  # the emulator has none
        return None

    def data(self, home: Home) -> Path:
        return home.path / "pubsub"

    def prepare(self, site: Site) -> Program:
        directory = self.data(site.home)
        directory.mkdir(mode=0o700, exist_ok=True)
        where = ("--host=127.0.0.1", f"--port={site.ports['pubsub']}")
        return Program((java.find(), *JVM, "-jar", str(jar()), *where), directory, environment={"LC_ALL": "C.UTF-8"})

    def probe(self, url: str) -> None:
        """Ask for the project's topics; of the real service, which an environment variable may name, too."""
        try:
            import grpc
            from google.pubsub_v1.services.publisher import PublisherClient
            from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
        except ImportError:
            raise StackError("the Pub/Sub client is not installed: pip install 'eda-labs[pubsub]'") from None
        from reference.brokers.pubsub.address import PubSubAddress

        address = PubSubAddress.parse(url)
        project = f"projects/{address.project}"
        if address.emulator is None:
            PublisherClient().list_topics(project=project, timeout=10, retry=None)
            return
        with grpc.insecure_channel(address.emulator) as channel:
            emulator = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
            emulator.list_topics(project=project, timeout=2, retry=None)


def jar() -> Path:
    """The emulator: what ``$EDA_PUBSUB_EMULATOR`` names, else the Cloud SDK's. Raises :class:`StackError`."""
    named = os.environ.get("EDA_PUBSUB_EMULATOR")
    if named:
        if not Path(named).is_file():
            raise StackError(f"EDA_PUBSUB_EMULATOR names {named}, and there is no such file: name the emulator's jar")
        return Path(named)
    found = [path for root in _sdks() for path in sorted(root.glob(JARS), key=_version)]
    if not found:
        raise StackError(f"the Pub/Sub emulator is missing: {INSTALL}; or have EDA_PUBSUB_EMULATOR name its jar")
    return found[-1]


def release(path: Path) -> str:
    """The version in the name of an emulator's jar, or the empty string."""
    match = re.search(r"-(\d[\d.]*)-all\.jar$", path.name)
    return match[1] if match else ""


def _version(path: Path) -> list[int]:
    return [int(part) for part in release(path).split(".") if part]


def _sdks() -> Iterator[Path]:
    """Where a Cloud SDK may be, the one on the path last, for it is the one that is meant."""
    yield Path("/usr/lib/google-cloud-sdk")
    yield Path("~/google-cloud-sdk").expanduser()
    gcloud = shutil.which("gcloud")
    if gcloud is not None:
        yield Path(gcloud).resolve().parents[1]
    for name in ("CLOUDSDK_ROOT_DIR", "CLOUDSDK_ROOT"):
        if os.environ.get(name):
            yield Path(os.environ[name])
