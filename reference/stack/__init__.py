"""The stack the labs run on: Kafka, RabbitMQ, the Pub/Sub emulator and Postgres, started by one call, answering when it returns.

Ready means that a real request was answered; :func:`down` leaves no process; a second :func:`up` is a no-op. What :func:`kill`,
:func:`stop` and :func:`freeze` break on purpose, :func:`up` mends.
"""

from reference.stack.address import Endpoints, Page
from reference.stack.clock import shifted_clock
from reference.stack.errors import StackDown, StackError
from reference.stack.outages import freeze, is_ours, kill, stop, thaw
from reference.stack.private import PrivateStack, postgres_disk, private_stack, shift_clocks
from reference.stack.report import State
from reference.stack.small_disk import SmallDisk
from reference.stack.verbs import down, endpoints, erase, status, up

__all__ = [
    "Endpoints", "Page", "PrivateStack", "SmallDisk", "StackDown", "StackError", "State", "down", "endpoints", "erase", "freeze",
    "is_ours", "kill", "postgres_disk", "private_stack", "shift_clocks", "shifted_clock", "status", "stop", "thaw", "up",
]  # fmt: skip
