"""`GET /metrics`: the node's numbers for Prometheus, on an address of the operator's choice.

Off unless config.toml names an address. Plain HTTP without a password: meant for loopback, or a
network that only monitoring reaches.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry

from p2pfl.runtime.config import CONFIG_BYTES_MAX, split_listen
from p2pfl.runtime.driver import Driver
from p2pfl.runtime.errors import EXIT_UNAVAILABLE, OperatorError
from p2pfl.runtime.metrics import NodeMetrics, RoundTimes, Seen
from p2pfl.runtime.surroundings import Observer

if TYPE_CHECKING:
    from gossip.libp2p_transport import Libp2pTransport

PATH: Final = "/metrics"
Text = Callable[[], Awaitable[bytes]]


class MetricsPage:
    """Serves the text that `text` makes. Used from the node's loop."""

    def __init__(self, address: str, text: Text) -> None:
        self._address = address
        self._text = text
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises OperatorError when the address cannot be had."""
        app = web.Application(client_max_size=CONFIG_BYTES_MAX)
        app.router.add_get(PATH, self._answer)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        host, port = split_listen(self._address)
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self.stop()
            raise OperatorError(
                f"The node cannot show its metrics on {self._address}: {error.strerror}.",
                fix="Free the address, or change `metrics` in config.toml (leave it out: none).",
                exit_code=EXIT_UNAVAILABLE,
            ) from error

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, _request: web.Request) -> web.Response:
        body = await self._text()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


class Measured:
    """What a node that is measured has more than another.

    address: host:port of the page. observer: it is told whatever `times` is told."""

    def __init__(self, address: str, observer: Observer) -> None:
        self._address = address
        self._registry = CollectorRegistry()
        self.times = RoundTimes(observer, self._registry)

    def page(self, driver: Driver, transport: Libp2pTransport) -> MetricsPage:
        """The page of this node, not listening yet."""
        metrics = NodeMetrics(self._registry, self.times, driver)

        async def text() -> bytes:
            return metrics.text(Seen(await transport.links(), transport.counts))

        return MetricsPage(self._address, text)
