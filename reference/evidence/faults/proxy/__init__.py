"""A TCP proxy with Toxiproxy's faults: :class:`Proxy`, and :data:`KINDS`, the names of what it can do to a connection."""

from reference.evidence.faults.proxy.proxy import Applied, Proxy
from reference.evidence.faults.proxy.toxic import Stream
from reference.evidence.faults.proxy.toxics import KINDS

__all__ = ["KINDS", "Applied", "Proxy", "Stream"]
