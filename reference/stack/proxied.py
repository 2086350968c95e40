"""A Jupyter server extension: jupyter-server-proxy at ``eda/proxy/PORT/``, for pages that ``proxy/PORT/`` breaks.

RabbitMQ's is one. jupyter-server-proxy hands a path on decoded, and a queue of the virtual host ``/``, at
``/api/queues/%2F/NAME``, is not found (https://github.com/jupyterhub/jupyter-server-proxy/issues/510). And Jupyter's server
gives each answer an ETag of its own, with which the browser then comes back to a RabbitMQ that never gave one, and says 412.
Here both are as without a proxy. Who may come in is jupyter-server-proxy's to decide, and the same.

It is loaded by ``binder/jupyter``, which ``eda lab`` and Binder name to their server; pages then find :data:`PLACE` in what
the server tells them of itself, as ``edaProxy``.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final

from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_path_join
from jupyter_server_proxy.handlers import LocalProxyHandler

__all__ = ["PLACE", "AsAsked"]

PLACE: Final = "eda/proxy"


class AsAsked(LocalProxyHandler):  # type: ignore[misc]  # the library has no types
    """Passes on what was asked, and what was answered, as it is."""

    def proxy(self, port: str, proxied_path: str) -> Awaitable[None]:
        self.proxy_base = f"{PLACE}/{port}"  # what the page is told of where it is
        return super().proxy(port, proxied_path)  # type: ignore[no-any-return]

    def get_client_uri(self, protocol: str, host: str, port: str, proxied_path: str) -> str:  # noqa: ARG002  # it is decoded
        _, _, asked = self.request.uri.partition(f"/{PLACE}/{port}/")
        return f"{protocol}://{host}:{port}/{asked}"

    def compute_etag(self) -> None:
        """None of ours."""


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(server: ServerApp) -> None:
    app = server.web_app
    app.add_handlers(".*", [(url_path_join(app.settings["base_url"], PLACE, r"(\d+)(/.*)"), AsAsked)])  # type: ignore[no-untyped-call]
    app.settings.setdefault("page_config_data", {})["edaProxy"] = PLACE
