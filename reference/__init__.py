"""Reference implementations of event-driven architecture: outbox, relay, inbox, brokers and the evidence that they hold.

Rooms, from the top down: :mod:`reference.event`, :mod:`reference.brokers`, :mod:`reference.delivery`,
:mod:`reference.orders`. Nothing here connects to anything when it is imported.
"""
