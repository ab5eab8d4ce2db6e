"""Serves probes and metrics. Our own, because they must answer before the Lease and whatever state kopf is in."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from chatbot_operator.engine.health import ProcessHealth


def probe_app(health: ProcessHealth) -> web.Application:
    """Return the application with `/livez` and `/readyz`: 200 `ok`, or 503 with the reason."""

    async def livez(_: web.Request) -> web.Response:
        return _answer(health.not_alive())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(health.not_ready())

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    return app


def metrics_app(registry: CollectorRegistry) -> web.Application:
    """Return the application with `/metrics` in Prometheus' text format."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    return app


@asynccontextmanager
async def serving(app: web.Application, port: int) -> AsyncIterator[int]:
    """Serve on all addresses until the block ends; yields the port, for 0 the one that the system chose for IPv4.

    Raises:
        OSError: The port is taken.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, port=port)
        await site.start()
        # With port 0 each family gets a port of its own, in no certain order.
        yield next((int(address[1]) for address in runner.addresses if len(address) == 2), int(runner.addresses[0][1]))
    finally:
        await runner.cleanup()


def _answer(reason: str) -> web.Response:
    return web.Response(text=reason, status=503) if reason else web.Response(text="ok")
