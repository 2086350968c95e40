"""Outbox → relay → (broker) → inbox → handler: no committed event lost, order kept per key, each effect applied once."""
