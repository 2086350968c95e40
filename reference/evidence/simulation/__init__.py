"""The relay and the consumer as they are, on a made-up clock, broker and database: a seed decides who goes on when, and who dies.

Where the campaign kills some hundreds of real processes, this walks through thousands of interleavings a minute, and each
can be walked again, step by step, by its seed. What is real here: ``delivery.relay``, ``round``, ``table``, ``lanes``,
``held``, ``session``, ``outbox.append``, ``consumer`` and ``inbox``, line for line. What is not: Postgres, of which every
statement that these send is acted out (:mod:`.statements`), and the broker.
"""

from reference.evidence.simulation.designs import DESIGNS, Design
from reference.evidence.simulation.outcome import Outcome
from reference.evidence.simulation.search import Found, search
from reference.evidence.simulation.world import simulate

__all__ = ["DESIGNS", "Design", "Found", "Outcome", "search", "simulate"]
