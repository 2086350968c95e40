"""Kafka: one KRaft node, broker and controller in one JVM, on loopback, behind SASL.

What enters is a :class:`~reference.stack.service.Site`; what leaves is a program. Data, once formatted, survives any kill.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from reference.brokers.kafka.address import KafkaAddress
from reference.stack import artifacts, java
from reference.stack.address import Page
from reference.stack.home import Home, write_whole
from reference.stack.service import Program, Site
from reference.stack.step import run

__all__ = ["SETTINGS", "USER", "Kafka", "properties"]

USER = "lab"

# A laptop's broker, not a cluster's: one replica of everything, few internal partitions, small buffers; and quick groups,
# because a learner waits for every rebalance. Each line that is not listed is Kafka's own default.
SETTINGS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "CLIENT",
    "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.controller.protocol": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    # A misspelt topic must fail, not appear.
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    "group.consumer.heartbeat.interval.ms": "500",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.session.timeout.ms": "3000",
    "group.min.session.timeout.ms": "3000",
    "group.share.heartbeat.interval.ms": "500",
    "group.share.min.heartbeat.interval.ms": "500",
    "group.share.session.timeout.ms": "6000",
    "group.share.min.session.timeout.ms": "3000",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "num.recovery.threads.per.data.dir": "1",
    "log.cleaner.threads": "1",
    "log.cleaner.dedupe.buffer.size": str(8 * 1024 * 1024),
    "log.segment.bytes": str(64 * 1024 * 1024),
    # Index files are allocated at this size for each partition: ten megabytes would fill a disk with empty topics.
    "log.index.size.max.bytes": str(1024 * 1024),
    "log.retention.hours": "168",
}

JVM = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError")

LOG4J = """\
rootLogger.level = WARN
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %c{1} %m%n
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = INFO
"""


@dataclass(frozen=True, slots=True)
class Kafka:
    """Broker and controller on loopback; the user is ``lab``."""

    name: str = "kafka"
    variable: str = "EDA_KAFKA_URL"
    ports: Mapping[str, int] = field(default_factory=lambda: {"kafka": 19092, "kafka-controller": 19093})
    immediate_signal: str = ""

    def url(self, *, ports: Mapping[str, int], password: str) -> str:
        return f"kafka://{USER}:{password}@127.0.0.1:{ports['kafka']}"

    def page(self, url: str) -> Page | None:  # noqa: ARG002  # it comes without one
        return None

    def data(self, home: Home) -> Path:
        return home.path / "kafka"

    def prepare(self, site: Site) -> Program:
        """Write the configuration, and format the log directory if that has not been done: a JVM start of its own."""
        directory = self.data(site.home)
        directory.mkdir(mode=0o700, exist_ok=True)
        write_whole(directory / "log4j2.properties", LOG4J)
        # Paths are relative to where Kafka runs: a comma in log.dirs would be the end of one of several.
        settings = properties(site.ports, site.password) | {"log.dirs": "logs"}
        write_whole(directory / "server.properties", "".join(f"{name}={value}\n" for name, value in settings.items()))
        jvm = (java.find(), *JVM, "-cp", os.pathsep.join(map(str, artifacts.kafka_jars())))
        if not (directory / "logs").exists():
            _format(jvm, directory)
        argv = (*jvm, "-Dlog4j2.configurationFile=log4j2.properties", "kafka.Kafka", "server.properties")
        # The JVM reads its paths in the locale's encoding.
        return Program(argv, directory, environment={"LC_ALL": "C.UTF-8"})

    def probe(self, url: str) -> None:
        """Have the controller validate a topic: answered only by a broker that let us in and that leads its quorum."""
        client = KafkaAddress.parse(url).client | {"socket.timeout.ms": 2000, "reconnect.backoff.max.ms": 200}
        admin = AdminClient(client)  # type: ignore[arg-type]  # the address may carry any librdkafka setting
        topic = NewTopic("eda-probe", num_partitions=1, replication_factor=1)
        admin.create_topics([topic], validate_only=True, request_timeout=2, operation_timeout=2)["eda-probe"].result(timeout=3)


def properties(ports: Mapping[str, int], password: str) -> dict[str, str]:
    """The whole ``server.properties`` but for where the logs are."""
    client, controller = ports["kafka"], ports["kafka-controller"]
    jaas = (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'username="{USER}" password="{password}" user_{USER}="{password}";'
    )
    return {
        **SETTINGS,
        "listeners": f"CLIENT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"CLIENT://127.0.0.1:{client}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.name.client.plain.sasl.jaas.config": jaas,
        "listener.name.controller.plain.sasl.jaas.config": jaas,
    }


def _format(jvm: tuple[str, ...], directory: Path) -> None:
    """Format a directory of this call's own, then rename it: no half of it is ever taken for the whole."""
    for abandoned in directory.glob("unfinished-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=directory))
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    # An id that begins with a hyphen would be read as an option.
    words = ["kafka.tools.StorageTool", "format", "--cluster-id", f"A{cluster[1:]}", "--config", "../server.properties"]
    run([*jvm, *words], directory=unfinished)
    (unfinished / "logs").rename(directory / "logs")
    unfinished.rmdir()
