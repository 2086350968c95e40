"""What one member holds of its group's messages: in which order it hands them out, and what it owes the service for them.

Messages enter as the service sends them; deliveries leave, and lists of what to ack and what to give back. Nothing here
waits, asks or locks. All of it is lost with the process: what was not acked at the service is delivered to another member.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from reference.brokers.protocol import Delivery
from reference.brokers.pubsub.held import Held, Pause, Place
from reference.brokers.pubsub.wire import bucket, to_delivery

__all__ = ["Backlog"]

RETURN_S: Final = 5.0  # given back, a message is here again in a fraction of this, or somebody else has it


class Backlog:
    """``after`` is how many deliveries a message has before it is dead, ``None`` where the service does not count.

    Where nobody counts, a nack is this member's own affair: the message stays leased and waits here with its bucket, so
    that nothing can pass it. Where the service counts, it must get the message back; what stands behind it stays leased
    and waits until it is here again, or dead, for had they gone back too, each would have been counted as failed.
    """

    def __init__(self, group: str, *, ordered: bool = True, after: int | None = None) -> None:
        self._group, self._ordered, self._after = group, ordered, after
        self._known: dict[tuple[str, str], Held] = {}  # by topic and message id, in order of arrival
        self._waiting: deque[Held] = deque()
        self._out: dict[Place, dict[int, Held]] = {}  # handed out, in order, until all before it is acked as well
        self._paused: dict[Place, Pause] = {}
        self._numbers: dict[Place, int] = {}
        self.to_ack: list[Held] = []
        self.to_give_back: list[Held] = []

    def __len__(self) -> int:
        return len(self._known)

    def arrived(self, topic: str, received: Any) -> None:
        """Queue a message; one that is held already only changes its lease, and comes back to its place if it was away."""
        held = self._known.get((topic, received.message.message_id))
        if held is None:
            place = (topic, bucket(received.message.ordering_key))
            number = self._numbers[place] = self._numbers.get(place, -1) + 1
            delivery = to_delivery(received, topic=topic, group=self._group, partition=place[1], offset=number)
            held = Held(delivery, received.message.message_id, received.ack_id)
            self._known[topic, held.message_id] = held
            self._waiting.append(held)
        else:
            held.ack_id, held.away_until = received.ack_id, 0.0
            if held.delivery.attempt is not None and held.delivery.offset not in self._out.get(held.place, ()):
                held.delivery = replace(held.delivery, attempt=received.delivery_attempt)

    def take(self, limit: int, now: float) -> list[Delivery]:
        """Up to ``limit`` deliveries in order of arrival, past buckets that are paused."""
        self._go_on(now)
        taken: list[Delivery] = []
        while self._waiting and len(taken) < limit:
            held = self._waiting.popleft()
            place = held.place
            if self._paused and place in self._paused:
                self._paused[place].aside.append(held)
                continue
            self._out.setdefault(place, {})[held.delivery.offset] = held
            if held.acked:  # before one in front of it was nacked
                self._settle(place)
            else:
                taken.append(held.delivery)
        return taken

    def next_change(self) -> float | None:
        """When a bucket may go on at the earliest, if one is paused."""
        return min((self._goes_on(pause) for pause in self._paused.values() if pause.aside), default=None)

    def ack(self, delivery: Delivery) -> None:
        """Done, unless it is void. The service hears of it once all before it in its bucket is done.

        It would otherwise deliver it again with the one before it, whose lease is still ours.
        """
        place = (delivery.topic, delivery.partition)
        held = self._out.get(place, {}).get(delivery.offset)
        if held is not None:
            held.acked = True
            self._settle(place)

    def nack(self, delivery: Delivery, *, now: float, delay_s: float) -> None:
        """This and all behind it in its bucket is void, and waits to be handed out again; what is acked stays so."""
        place = (delivery.topic, delivery.partition)
        out = self._out.get(place, {})
        held = out.get(delivery.offset)
        if held is None or held.acked:
            return
        void = list(out.values())
        void = void[void.index(held) :]
        for other in void:
            del out[other.delivery.offset]
        held.owed = self._after is not None
        pause = self._paused.setdefault(place, Pause(0.0))
        pause.aside.extendleft(reversed(void))
        pause.until = max(pause.until, now + delay_s)
        self._go_on(now)

    def leases(self) -> dict[str, list[str]]:
        """By topic, the ack ids that must not run out."""
        ids: dict[str, list[str]] = {}
        for (topic, _), held in self._known.items():
            if not held.away_until:
                ids.setdefault(topic, []).append(held.ack_id)
        return ids

    def leave(self) -> None:
        """Nothing is handed out any more: what is acked is acked, whatever stands before it; the rest goes back in order."""
        held = list(self._known.values())
        self.to_ack += [one for one in held if one.acked]
        self.to_give_back += [one for one in held if not one.acked and not one.away_until]
        for store in (self._known, self._waiting, self._out, self._paused):
            store.clear()

    def _settle(self, place: Place) -> None:
        out = self._out[place]
        while out and (first := next(iter(out.values()))).acked:
            del out[first.delivery.offset]
            self._forget(first)
            self.to_ack.append(first)

    def _goes_on(self, pause: Pause) -> float:
        if self._after is None:  # nothing is ever away, and there can be very much to look through
            return pause.until
        return max(pause.until, *(held.away_until for held in pause.aside))

    def _go_on(self, now: float) -> None:
        """Give back what is due, and let buckets go on that miss nothing any more."""
        for place, pause in list(self._paused.items()):
            if pause.until > now:
                continue
            for held in [held for held in pause.aside if held.owed]:
                self._give_back(held, pause, now)
            for held in [held for held in pause.aside if held.away_until and held.away_until <= now]:
                self._give_up(held, pause)
            if not any(held.away_until for held in pause.aside):
                self._waiting.extendleft(reversed(pause.aside))
                del self._paused[place]

    def _give_back(self, held: Held, pause: Pause, now: float) -> None:
        held.owed = False
        self.to_give_back.append(held)
        dead = self._after is not None and (held.delivery.attempt or 0) >= self._after
        if dead or not self._ordered:  # it does not come again, or nothing has to wait until it does
            pause.aside.remove(held)
            self._forget(held)
        else:
            held.away_until = now + RETURN_S

    def _give_up(self, missing: Held, pause: Pause) -> None:
        """Another member has it, and is owed what comes after it in its key."""
        for held in list(self._of_key(missing, pause)):
            if held.acked:
                self.to_ack.append(held)
            elif not held.away_until:
                self.to_give_back.append(held)
            self._forget(held)
        pause.aside = deque(held for held in pause.aside if self._is_known(held))
        self._waiting = deque(held for held in self._waiting if self._is_known(held))

    def _of_key(self, missing: Held, pause: Pause) -> Iterator[Held]:
        for held in (*pause.aside, *self._waiting):
            if held.place == missing.place and held.delivery.key == missing.delivery.key:
                yield held

    def _is_known(self, held: Held) -> bool:
        return (held.delivery.topic, held.message_id) in self._known

    def _forget(self, held: Held) -> None:
        self._known.pop((held.delivery.topic, held.message_id), None)
