"""The experiments there are, each with the size of its long form. A new one is a module, and an entry here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from reference.evidence.campaign.experiments.broker_killed import broker_killed
from reference.evidence.campaign.experiments.clock_shifted import clock_shifted
from reference.evidence.campaign.experiments.consumers_killed import consumers_killed
from reference.evidence.campaign.experiments.disk_full import disk_full
from reference.evidence.campaign.experiments.interleaved_commits import interleaved_commits
from reference.evidence.campaign.experiments.malformed import malformed
from reference.evidence.campaign.experiments.postgres_stopped import postgres_stopped
from reference.evidence.campaign.experiments.proxy_faults import proxy_faults
from reference.evidence.campaign.experiments.rebalance_storm import rebalance_storm
from reference.evidence.campaign.experiments.relays_killed import relays_killed
from reference.evidence.campaign.experiments.relays_paused import relays_paused
from reference.evidence.campaign.experiments.wild_deliveries import wild_deliveries
from reference.evidence.campaign.row import Row

__all__ = ["EXPERIMENTS", "Experiment", "named"]

BROKERS: Final = ("kafka", "rabbitmq", "pubsub")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One experiment. ``run(at, faults=, events=, seed=, tell=)`` returns a :class:`Row`.

    ``own_stack``: it breaks whole services, and gets a stack of its own to do it in, whose home is in ``at``;
    ``stack_settings`` say how that one is. ``short`` is (faults, events) of the form that tests run, on ``short_brokers`` or,
    where none is named, on all.
    """

    name: str
    words: str
    run: Callable[..., Row]
    faults: int
    events: int
    short: tuple[int, int]
    brokers: tuple[str, ...] = BROKERS
    short_brokers: tuple[str, ...] = ()
    own_stack: bool = False
    stack_settings: Mapping[str, Any] = field(default_factory=dict)


_ALL: Final = (
    Experiment(
        name="relays-killed", words="relays killed at each named point", run=relays_killed, faults=200, events=20_000,
        short=(10, 300),
    ),
    Experiment(
        name="relays-paused", words="four relays, random SIGKILL and SIGSTOP past the lease", run=relays_paused, faults=100,
        events=50_000, short=(3, 200), short_brokers=("kafka",),
    ),
    Experiment(
        name="interleaved-commits", words="interleaved commits, 1-5 s open transactions, rollbacks", run=interleaved_commits,
        faults=1_500, events=10_000, short=(15, 200), short_brokers=("rabbitmq",),
    ),
    Experiment(
        name="consumers-killed", words="consumers killed between effect and commit, and commit and ack", run=consumers_killed,
        faults=200, events=10_000, short=(4, 120), short_brokers=("rabbitmq",),
    ),
    Experiment(
        name="broker-killed", words="broker SIGKILL and restart", run=broker_killed, faults=20, events=10_000, short=(1, 400),
        own_stack=True, short_brokers=("rabbitmq",),
    ),
    Experiment(
        name="postgres-stopped", words="Postgres stopped at once, sessions terminated", run=postgres_stopped, faults=20,
        events=10_000, short=(2, 600), own_stack=True, short_brokers=("pubsub",),
    ),
    Experiment(
        name="proxy-faults", words="each proxy fault between each pair", run=proxy_faults, faults=80, events=20_000,
        short=(3, 90), short_brokers=("kafka",),
    ),
    Experiment(
        name="wild-deliveries", words="10 % duplicates, shuffle within 50, delays to 5 s", run=wild_deliveries, faults=10_000,
        events=100_000, short=(30, 300), short_brokers=("pubsub",),
    ),
    Experiment(
        name="malformed-offline", words="malformed bytes, headers and JSON, without a broker", run=malformed, faults=100_000,
        events=10_000, short=(100, 100), brokers=("memory",),
    ),
    Experiment(
        name="malformed", words="malformed bytes, headers and JSON", run=malformed, faults=10_000, events=10_000,
        short=(100, 100), short_brokers=("rabbitmq",),
    ),
    Experiment(
        name="rebalance-storm", words="rebalance storm: a consumer joins or leaves every 5 s", run=rebalance_storm, faults=100,
        events=10_000, short=(3, 45), short_brokers=("kafka",),
    ),
    Experiment(
        name="clock-shifted", words="clocks of nodes off by an hour", run=clock_shifted, faults=50, events=10_000,
        short=(4, 400), own_stack=True, short_brokers=("kafka",),
    ),
    Experiment(
        name="disk-full", words="disk full under Postgres", run=disk_full, faults=5, events=5_000, short=(2, 1_000),
        own_stack=True, short_brokers=("pubsub",), stack_settings={"postgres_disk_mb": 192},
    ),
)  # fmt: skip

EXPERIMENTS: Final = {experiment.name: experiment for experiment in _ALL}


def named(names: Iterable[str]) -> list[Experiment]:
    """The experiments by these names, all of them when there are none; raises :class:`ValueError` for one unknown."""
    wanted = list(dict.fromkeys(names)) or list(EXPERIMENTS)
    unknown = [name for name in wanted if name not in EXPERIMENTS]
    if unknown:
        raise ValueError(f"no experiment is called {', '.join(unknown)}: there are {', '.join(EXPERIMENTS)}")
    return [EXPERIMENTS[name] for name in wanted]
