"""Experiments that break things, on the real brokers and the real database, each beside a control that must be seen failing.

What enters is a seed and a size; what leaves is a :class:`Row` of counts from the checker. Same seed, same faults: which
process is hit, when and with what is drawn from it. Whatever is started here ends here.
"""

from reference.evidence.campaign.catalog import EXPERIMENTS, Experiment, named
from reference.evidence.campaign.row import Control, Row

__all__ = ["EXPERIMENTS", "Control", "Experiment", "Row", "named"]
