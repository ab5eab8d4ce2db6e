"""The small HTTP server on METRICS_PORT that every long-running command has: /livez, /readyz, /metrics.

Its answers never wait for the work it reports on: readiness is a function that the process gives and that must be quick.
"""

from collections.abc import Awaitable, Callable

import prometheus_client
from aiohttp import web

from chatbot_runtime.health.board import Finding, Status

Check = Callable[[], Awaitable[Finding]]


async def always_ok() -> Finding:
    """Live: whoever answers has a running event loop, and nothing else may restart the process."""
    return Finding(Status.OK, "ok")


class HealthServer:
    """Serves probes and metrics in the caller's event loop."""

    def __init__(
        self, host: str, port: int, *, ready: Check, registry: prometheus_client.CollectorRegistry, live: Check = always_ok
    ) -> None:
        self._host = host
        self._port = port
        self._registry = registry
        app = web.Application()
        app.router.add_get("/livez", _answer(live))
        app.router.add_get("/readyz", _answer(ready))
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> None:
        """Bind the port.

        Raises:
            OSError: the port is taken.
        """
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def stop(self) -> None:
        """Close the port and open connections."""
        await self._runner.cleanup()

    async def _metrics(self, _request: web.Request) -> web.Response:
        body = prometheus_client.generate_latest(self._registry)
        return web.Response(body=body, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})


def _answer(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(_request: web.Request) -> web.Response:
        finding = await check()
        return web.json_response(
            {"status": finding.status, "message": finding.message}, status=503 if finding.status is Status.DOWN else 200
        )

    return handler
