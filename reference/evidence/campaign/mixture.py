"""Good events and spoiled messages on one topic, and what a group makes of each.

What enters is how many of both, what leaves is a :class:`~reference.evidence.checker.Verdict` on all of them, and counts of
what no history shows. A message is known again by its headers and its body, whatever they are: no two of them are alike, and
one that a broker has changed is one that nobody sent. What was applied of the good ones is what the database holds.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psycopg
from psycopg.conninfo import make_conninfo

from reference.brokers import Broker, Delivery, Message, NotConfirmed
from reference.delivery import outbox
from reference.event import Event, InvalidEvent
from reference.evidence.campaign.addresses import Addresses
from reference.evidence.campaign.bursts import Tell
from reference.evidence.campaign.readers import REJECTED, Readers
from reference.evidence.checker import Verdict, check
from reference.evidence.history import History, Phase, Record
from reference.evidence.spoiled import WAYS, Spoiled, drawn
from reference.orders import shop

__all__ = ["Mixture"]

FEWEST: Final = 10 * len(WAYS)
AT_A_TIME: Final = 4_000  # drawn, and published with the good events between them
ORDERS: Final = 40
KEYS: Final = 64  # of spoiled messages: an emulator has a thread for each
PATIENCE_S: Final = 30.0
LOOK_S: Final = 0.02


class Mixture:
    """Use as a context manager. ``dsn`` of ``at`` must lead to a database of its own; ``silent`` is the control of
    :class:`Readers`."""

    def __init__(self, broker: Broker, at: Addresses, *, seed: int, silent: bool = False) -> None:
        self._design, self._at = "acked-in-silence" if silent else "malformed", at
        self._broker, self._seed, self._draw = broker, seed, random.Random(seed)
        self._dsn = make_conninfo(at.dsn, options="-c synchronous_commit=off")  # no database dies here
        self._topic, self._history = f"campaign-malformed-{time.time_ns()}", History()
        self._names: dict[bytes, str] = {}
        self._good: dict[str, Event] = {}
        self._spoiled: dict[str, str] = {}  # what was carried: why it is no event, or nothing
        self._versions, self._wrong = Counter[str](), Counter[str]()
        self._drawn = self._refused = 0
        broker.create_topic(self._topic)
        with psycopg.connect(self._dsn) as conn:
            conn.execute(outbox.schema())
            conn.execute(shop.schema())
            conn.execute("TRUNCATE inbox, ledger")
        self._readers = Readers(broker, self._dsn, self._topic, name=self._name, history=self._history, silent=silent)

    # -- pouring it ---------------------------------------------------------------------------------------------------

    def pour(self, *, faults: int, events: int, tell: Tell = lambda number: None) -> None:
        """Publish until ``faults`` messages that are no events were carried, and ``events`` good ones; wait for their ends.

        Gives up when nothing has come to an end for ``PATIENCE_S``.
        """
        while (missing := faults - (before := self._bad())) > 0:
            # The first of a chunk are alike whatever the seed.
            chunk = drawn(max(FEWEST, min(AT_A_TIME, 3 * missing)), seed=self._seed + self._drawn)
            self._publish(chunk, bad=missing, good=min(-(-events * len(chunk) // faults), events - len(self._good)))
            for number in range(before, self._bad()):
                tell(number + 1)
        self._publish([], bad=0, good=events - len(self._good))
        self._settle()

    def _bad(self) -> int:
        return sum(map(bool, self._spoiled.values()))

    def _publish(self, chunk: Sequence[Spoiled], *, bad: int, good: int) -> None:
        """Each kind between the other; of those that are no events, ``bad`` at most."""
        fresh = {event.id: event for event in (self._event() for _ in range(good))}
        named = [(name, Message(self._topic, e.key, e.to_value(), e.to_headers())) for name, e in fresh.items()]
        reasons: dict[str, str] = {}
        for one in chunk:
            name, message = f"spoiled-{self._drawn}", Message(self._topic, f"{self._drawn % KEYS}", one.value, one.headers)
            self._drawn += 1
            content = _content(message)
            if content in self._names or (reason := self._judged(one)) is None or (reason and not bad):
                continue
            self._names[content], reasons[name] = name, reason
            bad -= bool(reason)
            named.insert(self._draw.randint(0, len(named)), (name, message))
        self._names |= {_content(message): name for name, message in named}
        self._good |= fresh
        while named:
            named = self._publish_once(named, reasons)

    def _publish_once(self, named: list[tuple[str, Message]], reasons: Mapping[str, str]) -> list[tuple[str, Message]]:
        """Returns what was not sent because something with its key, before it, was refused."""
        failures: dict[int, str] = {}
        try:
            self._broker.publish([message for _, message in named])
        except NotConfirmed as error:
            failures = error.failures
        behind, refused = [], set[str]()
        for index, (name, message) in enumerate(named):
            if index in failures and message.key in refused:
                behind.append((name, message))
                continue
            phase: Phase = "fail" if index in failures else "ok"
            self._history.add(Record(op="publish", phase=phase, event=name, key=message.key))
            if index in failures:
                refused.add(message.key)
                self._wrong["good events refused by the broker"] += name in self._good
                self._refused += 1
            elif name in reasons:
                self._spoiled[name] = reasons[name]
        return behind

    def _name(self, delivery: Delivery) -> str:
        return self._names.get(_content(delivery), f"what nobody sent, at {delivery.where}")

    def _event(self) -> Event:
        order = f"order-{self._draw.randrange(ORDERS)}"
        self._versions[order] += 1
        version = self._versions[order]
        return Event(type="OrderAmended", source=shop.SOURCE, subject=order, id=f"{order}-{version}", sequence=version, data={})

    def _judged(self, message: Spoiled) -> str | None:
        """Read where it was made: why it is no event, or an empty text. ``None`` where reading could not cope with it."""
        try:
            event = Event.from_wire(message.headers, message.value)
        except InvalidEvent as error:
            self._wrong[f"taken for no event: {message.how}"] += message.event is True
            return str(error)
        except Exception as error:  # whatever it is, nobody downstream could tell it from a bug of theirs
            self._wrong[f"reading it raised {type(error).__name__}: {message.how}"] += 1
            return None
        self._wrong[f"taken for an event: {message.how}"] += message.event is False
        self._wrong[f"another event when written again: {message.how}"] += not _survives(event)
        return ""

    def _settle(self) -> None:
        """Wait until all that was carried has come to an end and was acked."""
        everything = self._good.keys() | self._spoiled.keys()
        acked, until = -1, 0.0
        while len(self._readers.acked) < len(everything) and not self._readers.failure:
            if acked != (now := len(self._readers.acked)):
                acked, until = now, time.monotonic() + PATIENCE_S
            elif time.monotonic() > until:
                return
            time.sleep(LOOK_S)

    # -- judging it ---------------------------------------------------------------------------------------------------

    @property
    def put_aside(self) -> int:
        """How many messages somebody was told are no events."""
        return sum(end.startswith(REJECTED) for end in self._readers.ends.values())

    def verdict(self) -> Verdict:
        """On all that was carried; a spoiled message counts as applied when it has come to its end, whatever that is.

        What was judged is left in ``histories`` of ``at``, if so.
        """
        with psycopg.connect(self._dsn) as conn:
            ledger = conn.execute("SELECT event_id, order_id FROM ledger ORDER BY entry").fetchall()
        records = [record for record in self._history if record.op != "apply" or record.event not in self._good]
        end = time.monotonic()
        records += [Record(op="apply", event=e, key=k, topic=self._topic, group=self._topic, at=end)
                    for e, k in ledger if e in self._good]  # fmt: skip
        if self._at.histories is not None:
            kept = Path(tempfile.mkdtemp(prefix=f"eda-{self._design}-", dir=self._at.histories))
            History(records).save(kept / "all.jsonl")
        return check(records)

    def wrong(self) -> tuple[str, ...]:
        """What must not happen and no history shows, with how often it did."""
        ends, counts = self._readers.ends, self._wrong.copy()
        for name, reason in self._spoiled.items():
            # Which of two flaws is the reason may hang on the order of the headers, and that is not every broker's to keep.
            counts["another end behind the broker"] += name in ends and bool(_reason(ends[name])) != bool(reason)
        for name in self._good:
            counts["good events put aside"] += bool(_reason(ends.get(name, "")))
        counts["never acked"] += len((self._good.keys() | self._spoiled.keys()) - self._readers.acked)
        counts[f"a member ended: {self._readers.failure}"] += bool(self._readers.failure)
        return tuple(f"{what} {count}" for what, count in counts.items() if count)

    def words(self) -> str:
        """What the spoiled messages came to, for people."""
        ends = Counter(end.partition(":")[0] for name, end in self._readers.ends.items() if name in self._spoiled)
        came = ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
        return f"{self._refused} more were refused by the broker; of {len(self._spoiled)} that it carried, no two alike, {came}"

    # -- its life -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._readers.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._readers.__exit__(kind, error, trace)


def _content(message: Message | Delivery) -> bytes:
    """What a message is known by; a broker may keep headers in another order."""
    pairs = sorted((name, text.encode() if isinstance(text, str) else text or b"") for name, text in message.headers)
    return sha256(repr((pairs, message.value or b"")).encode()).digest()


def _reason(end: str) -> str:
    return end.removeprefix(REJECTED) if end.startswith(REJECTED) else ""


def _survives(event: Event) -> bool:
    """Whether it is the same event when it was written and read again."""
    try:
        return Event.from_wire([(name, text.encode()) for name, text in event.to_headers()], event.to_value()) == event
    except Exception:  # whatever it is, it would have come on the next hop
        return False
