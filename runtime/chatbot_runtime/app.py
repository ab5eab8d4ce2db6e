"""The `app` command: one uvicorn server in this process's loop, its health monitor, the dashboard's feed, and an orderly end."""

import asyncio
import contextlib
import gc
import socket
from collections.abc import Awaitable, Callable, Iterator

import structlog
import uvicorn
from starlette.types import ASGIApp

from chatbot_runtime import lifecycle as process
from chatbot_runtime import metrics
from chatbot_runtime.api.application import create_application
from chatbot_runtime.api.feed import Feed
from chatbot_runtime.api.services import Services
from chatbot_runtime.api.wakes import Wakes
from chatbot_runtime.auth.limits import LoginLimits
from chatbot_runtime.auth.passwords import Passwords
from chatbot_runtime.auth.tokens import Signer
from chatbot_runtime.auth.users import ensure_admin
from chatbot_runtime.clock import SystemClock
from chatbot_runtime.db.compat import CODE_VERSION
from chatbot_runtime.db.engine import create_engine, transaction
from chatbot_runtime.errors import DatabaseDown
from chatbot_runtime.health.board import Board, Finding, Status
from chatbot_runtime.health.monitor import Monitor
from chatbot_runtime.health.probes import DatabaseProbe, redis_probe
from chatbot_runtime.health.server import HealthServer
from chatbot_runtime.lifecycle import Lifecycle
from chatbot_runtime.logging import configure_logging
from chatbot_runtime.queue.conversations import ensure_channel
from chatbot_runtime.queue.enqueue import Backpressure
from chatbot_runtime.queue.intake import Intake
from chatbot_runtime.redis.client import RedisClient
from chatbot_runtime.settings import Role, Settings

KEEP_ALIVE_S = 75
"""Longer than usual proxies keep idle connections, so that it is they who close them and no request meets a closing socket."""

BACKLOG = 1024
CONNECTIONS_MAX = 800
"""Open connections, beyond which a request is 503 and its sender repeats it; fewer than the 1024 files that some systems allow."""

EXIT_FAILED = 1

log = structlog.get_logger(__name__)


def run(settings: Settings) -> int:
    """Serve until SIGTERM; return the exit code."""
    configure_logging(settings, Role.APP)
    metrics.expose(Role.APP)
    return process.run(lambda lifecycle: serve(settings, lifecycle), settings.drain_timeout_s)


async def serve(settings: Settings, lifecycle: Lifecycle) -> int:
    """Run all parts of the app, and end them in an order that loses no request."""
    services = build_services(settings, lifecycle)
    _, asgi = create_application(services)
    probes = HealthServer(settings.bind_host, settings.metrics_port, ready=_ready(services), registry=metrics.REGISTRY)
    try:
        listener = socket.create_server((settings.bind_host, settings.port), backlog=BACKLOG)
        await probes.start()
    except OSError as error:
        log.critical("port_taken", problem=error.strerror)
        return EXIT_FAILED
    metrics.BUILD_INFO.labels(settings.release_version, str(CODE_VERSION), Role.APP.value).set(1)
    server = _Server(_config(asgi, settings))
    gc.freeze()  # what was made so far stays until the end: the collector need not walk through it under load
    log.info("listening", port=settings.port, metrics_port=settings.metrics_port)
    parts = [
        asyncio.create_task(part)
        for part in (
            server.serve(sockets=[listener]),
            services.monitor.run(lifecycle),
            services.feed.run(),
            services.wakes.run(lifecycle),
            _prepare(services),
        )
    ]
    stop = asyncio.create_task(lifecycle.stopping.wait())
    await asyncio.wait([stop, *parts], return_when=asyncio.FIRST_COMPLETED)
    crashed = not stop.done()  # every part runs until the process stops
    lifecycle.stopping.set()
    server.should_exit = True
    for result in await asyncio.gather(stop, *parts, return_exceptions=True):
        if isinstance(result, BaseException):
            log.error("part_failed", exc_info=result)
    await services.redis.close()
    await services.engine.dispose()
    await probes.stop()
    log.info("stopped", crashed=crashed)
    return EXIT_FAILED if crashed else 0


def build_services(settings: Settings, lifecycle: Lifecycle) -> Services:
    """Make the parts of one app process. Connects to nothing yet."""
    engine, board, clock = create_engine(settings), Board(), SystemClock()
    if settings.jwt_secret is None:
        raise ValueError("load_settings(Role.APP) lets no app start without jwt_secret")
    redis = RedisClient.of(settings)
    signer = Signer(settings.jwt_secret.get_secret_value())
    return Services(
        settings=settings,
        clock=clock,
        lifecycle=lifecycle,
        engine=engine,
        board=board,
        monitor=Monitor(board, clock, [DatabaseProbe(engine, contents=True), redis_probe(redis)]),
        signer=signer,
        passwords=Passwords(),
        limits=LoginLimits(signer),
        backpressure=Backpressure.of(settings),
        intake=Intake(engine, quiet_s=settings.bot_quiet_s),
        redis=redis,
        wakes=Wakes(redis),
        feed=Feed(engine, lifecycle),
        prepared=asyncio.Event(),
        started_at=clock.now(),
    )


class _Server(uvicorn.Server):
    """A server that leaves signals to `lifecycle`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install nothing."""
        yield


def _config(asgi: ASGIApp, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        asgi,
        loop="none",
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=4096,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=settings.trusted_proxies,
        backlog=BACKLOG,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.drain_timeout_s,
    )


def _ready(services: Services) -> Callable[[], Awaitable[Finding]]:
    async def check() -> Finding:
        return services.ready()

    return check


async def _prepare(services: Services) -> None:
    """Prepare as soon as the database is there."""
    while not services.lifecycle.stopping.is_set() and not services.prepared.is_set():
        if services.monitor.ready().status is not Status.DOWN:
            try:
                await ensure_prepared(services)
            except DatabaseDown:
                log.debug("prepare_waits")
        await services.lifecycle.pause(0.2)
    await services.lifecycle.stopping.wait()


async def ensure_prepared(services: Services) -> None:
    """Make what requests rely on and only the database can hold: the first administrator and the cloud channel's row.

    Raises:
        DatabaseDown: nothing is lost; try again.
    """
    await ensure_admin(services.engine, services.settings, services.passwords)
    if services.settings.wa_phone_number_id:
        async with transaction(services.engine) as db:
            await ensure_channel(db, "cloud", services.settings.wa_phone_number_id)
    services.prepared.set()
