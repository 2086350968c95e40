"""The stack the labs run on: Kafka, RabbitMQ, the Pub/Sub emulator and Postgres, started by one call, answering when it returns.

Ready means that a real request was answered; :func:`down` leaves no process; a second :func:`up` is a no-op.
"""

from reference.stack.address import Endpoints
from reference.stack.errors import StackDown, StackError
from reference.stack.report import State
from reference.stack.verbs import down, endpoints, erase, status, up

__all__ = ["Endpoints", "StackDown", "StackError", "State", "down", "endpoints", "erase", "status", "up"]
