"""What a notebook drives: a lab opens cold on the running brokers, runs an experiment, shows it and judges it."""

from reference.lab.session import Lab
from reference.lab.source import show

__all__ = ["Lab", "show"]
