"""The one question AMQP has no answer to: how many messages a queue's consumer holds without an ack.

RabbitMQ's management API answers as of the broker's last tick: up to 5 s ago, unless its setting ``quorum_tick_interval``
says otherwise.
"""

from __future__ import annotations

import base64
import http.client
import json
import urllib.error
import urllib.request
from typing import Any, Final
from urllib.parse import quote

from reference.brokers.protocol import BrokerUnavailable
from reference.brokers.rabbitmq.address import RabbitMQAddress

__all__ = ["unacked"]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """The password is for this address alone."""


_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)  # nor is it for a proxy


def unacked(address: RabbitMQAddress, *, timeout_s: float) -> dict[str, int]:
    """By queue of the vhost, what its consumers hold. Raises :class:`BrokerUnavailable` with the API's address."""
    # The view without statistics is the fresher one: the other is collected and then kept for seconds more.
    url = f"{address.management}/api/queues/{quote(address.vhost, safe='')}?disable_stats=true&enable_queue_totals=true"
    credentials = base64.b64encode(f"{address.user}:{address.password}".encode()).decode()
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {credentials}"})  # noqa: S310  # its scheme is the address's
    try:
        with _OPENER.open(request, timeout=timeout_s) as answer:
            queues: list[dict[str, Any]] = json.load(answer)
        return {queue["name"]: int(queue.get("messages_unacknowledged") or 0) for queue in queues}
    except urllib.error.HTTPError as error:
        raise BrokerUnavailable(f"{address.management} does not tell user {address.user!r} of vhost {address.vhost!r}: "
                                f"{error.code} {error.reason}; it takes the tag monitoring") from error  # fmt: skip
    except (OSError, ValueError, TypeError, LookupError, http.client.HTTPException) as error:  # or something else answers
        raise BrokerUnavailable(f"the management API does not answer at {address.management}: {error}; "
                                "enable rabbitmq_management, or name its port with ?management=PORT") from error  # fmt: skip
