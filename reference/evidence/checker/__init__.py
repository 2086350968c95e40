"""From a recorded history to a verdict: what was lost, invented, repeated, applied twice or put out of order.

:func:`check` judges a whole history; :class:`Checker` judges one that grows, record by record, with the same outcome.
Pure: records enter, a :class:`Verdict` leaves, nothing is read or written elsewhere. Models: Jepsen's queue checker and
its Kafka workload, and the system test of Kafka's transactions.
"""

from reference.evidence.checker.anomaly import Anomaly, Violation
from reference.evidence.checker.checker import Checker, check
from reference.evidence.checker.verdict import Verdict

__all__ = ["Anomaly", "Checker", "Verdict", "Violation", "check"]
