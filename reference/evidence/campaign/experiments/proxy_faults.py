"""Every fault of the proxy between every two that talk: slow, cut, sliced, silent, reset, refused, for a while and then healed.

Between writers and Postgres, relays and Postgres, relays and the broker, consumers and the broker, consumers and Postgres
stands a proxy each. Promise: whatever happens to a connection, everybody comes back by himself, what was committed arrives
and is applied once, each key in order. A slow close would touch nobody while nobody closes, so with it somebody does: the
database ends the sessions of all, and only this pair hears late; or one relay, or one consumer, ends and begins again.
There is no control; that events were delivered twice shows that connections broke where it hurts.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Final

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from reference.evidence.campaign.addresses import Addresses
from reference.evidence.campaign.bursts import Tell, check_size
from reference.evidence.campaign.flow import Flow
from reference.evidence.campaign.row import Row
from reference.evidence.campaign.shop import Shop
from reference.evidence.checker import Anomaly
from reference.evidence.faults import services
from reference.evidence.faults.proxy import KINDS, Proxy

__all__ = ["PAIRS", "planned", "proxy_faults"]

PAIRS: Final[Mapping[str, str]] = {  # who talks to whom, and which of the addresses is theirs
    "writer–Postgres": "writer_dsn",
    "relay–Postgres": "relay_dsn",
    "relay–broker": "relay_broker",
    "consumer–broker": "consumer_broker",
    "consumer–Postgres": "consumer_dsn",
}
PER_S: Final = 200.0  # events, while there is a fault
HELD_S: Final = (0.5, 1.5)


def proxy_faults(
    at: Addresses, *, events: int = 20_000, faults: int = 80, seed: int = 1, tell: Tell = lambda number: None
) -> Row:
    """Two relays and two consumers. Each fault strikes within ``events / faults`` events, and more come while it lasts."""
    check_size(events=events, faults=faults)
    started, draw = time.monotonic(), random.Random(seed)
    struck, recoveries = Counter[str](), []
    with _between(at, seed=seed) as (proxies, through), Shop(through, name="proxy faults", consumers=2, seed=seed) as shop:
        shop.assemble()
        for number, (pair, kind) in enumerate(planned(faults, seed=seed)):
            with Flow(shop.writers, per_s=PER_S):
                shop.begun(shop.writers.ended + draw.randint(1, events // faults))
                begun = shop.strike(f"{pair}: {kind}")
                struck[kind] += _hold(shop, proxies[pair], pair, kind, draw)
            shop.caught_up()
            recoveries.append(time.monotonic() - begun)
            tell(number + 1)
        verdict = shop.verdict()
        where, ordered = shop.broker.url, shop.broker.capabilities.ordered_by_key
    return Row(
        experiment="each proxy fault between each pair", broker=where, faults=struck.total(), seconds=time.monotonic() - started,
        verdict=verdict, wrong=shop.complaints, recoveries_s=tuple(recoveries),
        tolerated=frozenset() if ordered else frozenset({Anomaly.OUT_OF_ORDER}),
        note=f"{', '.join(f'{kind} {count}' for kind, count in struck.items())}; each held for {HELD_S[0]} to {HELD_S[1]} s,"
        f" which is in its recovery; commits cut off {shop.writers.failures.total()}",
    )  # fmt: skip


def planned(count: int, *, seed: int) -> list[tuple[str, str]]:
    """Which pair is hit by which fault: each of both as often as the others, and after 40 each by each."""
    kinds = random.Random(seed).sample(KINDS, len(KINDS))
    rounds = [[(pair, kinds[(place + turn) % len(kinds)]) for place, pair in enumerate(PAIRS)] for turn in range(len(kinds))]
    every = [hit for one in rounds for hit in one]
    return [every[number % len(every)] for number in range(count)]


@contextmanager
def _between(at: Addresses, *, seed: int) -> Iterator[tuple[dict[str, Proxy], Addresses]]:
    """A proxy for each pair, and the addresses through them."""
    proxies: dict[str, Proxy] = {}
    changed: dict[str, Any] = {}
    with ExitStack() as opened:
        for pair, name in PAIRS.items():
            if name.endswith("dsn"):
                where = conninfo_to_dict(at.dsn)
                proxy = opened.enter_context(Proxy(str(where["host"]), int(where["port"] or 5432), seed=seed, name=pair))
                changed[name] = make_conninfo(at.dsn, host=proxy.host, port=proxy.port)
            else:
                proxy = opened.enter_context(Proxy.before(at.broker, seed=seed, name=pair))
                changed[name] = proxy.url(at.broker)
            proxies[pair] = proxy
        yield proxies, replace(at, **changed)


def _hold(shop: Shop, proxy: Proxy, pair: str, kind: str, draw: random.Random) -> bool:
    """Put the fault on, keep it, and heal it; whether any connection had it."""
    until = time.monotonic() + draw.uniform(*HELD_S)
    with proxy.add(kind, **_attributes(kind, draw)) as fault:
        if kind == "slow_close":
            _close_something(shop, pair)
        time.sleep(max(0.0, until - time.monotonic()))
        return fault.fired > 0


def _close_something(shop: Shop, pair: str) -> None:
    if PAIRS[pair].endswith("dsn"):
        services.terminate_backends(shop.at.dsn, history=shop.history)
    else:
        worker = (shop.relays if pair.startswith("relay") else shop.consumers)[0]
        worker.stop()
        worker.start()


def _attributes(kind: str, draw: random.Random) -> dict[str, Any]:
    """In which direction, and harsh enough for a second to be long."""
    ranges: dict[str, dict[str, tuple[int, int]]] = {
        "latency": {"latency_ms": (100, 400), "jitter_ms": (0, 100)},
        "bandwidth": {"rate_kb": (1, 8)},
        "slow_close": {"delay_ms": (200, 1_000)},
        "timeout": {"timeout_ms": (0, 1_000)},
        "reset_peer": {"timeout_ms": (0, 300)},
        "slicer": {"average_size": (1, 32), "size_variation": (0, 16), "delay_us": (100, 2_000)},
        "limit_data": {"bytes": (1, 5_000)},
    }
    if kind == "down":
        return {}
    stream = draw.choice(("upstream", "downstream"))
    return {"stream": stream} | {name: draw.randint(*between) for name, between in ranges[kind].items()}
