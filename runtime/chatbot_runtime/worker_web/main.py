"""The `worker-web` command: holds its number's lease, tells the session's state, and answers probes that no missing pairing can fail."""

import asyncio
import socket
from uuid import uuid4

import structlog

from chatbot_runtime import lifecycle as process
from chatbot_runtime import metrics
from chatbot_runtime.clock import SystemClock
from chatbot_runtime.db.compat import CODE_VERSION
from chatbot_runtime.db.engine import create_engine
from chatbot_runtime.health.board import Board, Finding, Status
from chatbot_runtime.health.monitor import Monitor
from chatbot_runtime.health.probes import DatabaseProbe, redis_probe
from chatbot_runtime.health.server import HealthServer
from chatbot_runtime.lifecycle import Lifecycle
from chatbot_runtime.logging import configure_logging
from chatbot_runtime.redis.client import RedisClient
from chatbot_runtime.settings import Role, Settings
from chatbot_runtime.worker_web.lease import LeaseKeeper, lease_name
from chatbot_runtime.worker_web.session import Session

EXIT_FAILED = 1

log = structlog.get_logger(__name__)


def run(settings: Settings) -> int:
    """Work until SIGTERM; return the exit code."""
    configure_logging(settings, Role.WORKER_WEB)
    metrics.expose(Role.WORKER_WEB)
    return process.run(lambda lifecycle: work(settings, lifecycle), settings.drain_timeout_s)


async def work(settings: Settings, lifecycle: Lifecycle) -> int:
    """Run all parts of the worker; the lease is released last but one, the probes end last."""
    number = settings.web_number or ""
    engine, clock, redis = create_engine(settings), SystemClock(), RedisClient.of(settings)
    monitor = Monitor(Board(), clock, [DatabaseProbe(engine, contents=False), redis_probe(redis)])
    session = Session(engine, number, settings.web_profile_dir)
    holder = f"{socket.gethostname()}/{uuid4().hex[:12]}"
    keeper = LeaseKeeper(engine, clock, name=lease_name(number), holder=holder, ttl_s=settings.lease_ttl_s)

    async def ready() -> Finding:
        """Ready is a usable database and the lease. Pairing is a third thing: if readiness waited for it, no rollout would ever end."""
        if lifecycle.stopping.is_set():
            return Finding(Status.DOWN, "stopping")
        if (database := monitor.ready()).status is Status.DOWN:
            return database  # at once, not only when the lease has run out
        return Finding(Status.OK if keeper.held() else Status.DOWN, session.message)

    probes = HealthServer(settings.bind_host, settings.metrics_port, ready=ready, registry=metrics.REGISTRY)
    try:
        await probes.start()
    except OSError as error:
        log.critical("port_taken", problem=error.strerror)
        return EXIT_FAILED
    metrics.BUILD_INFO.labels(settings.release_version, str(CODE_VERSION), Role.WORKER_WEB.value).set(1)

    def may_take() -> bool:
        return monitor.ready().status is not Status.DOWN

    await monitor.round()
    parts = [asyncio.create_task(monitor.run(lifecycle)), asyncio.create_task(keeper.run(lifecycle, may_take, session.on_lease))]
    stop = asyncio.create_task(lifecycle.stopping.wait())
    await asyncio.wait([stop, *parts], return_when=asyncio.FIRST_COMPLETED)
    crashed = not stop.done()
    lifecycle.stopping.set()
    for result in await asyncio.gather(stop, *parts, return_exceptions=True):
        if isinstance(result, BaseException):
            log.error("part_failed", exc_info=result)
    await redis.close()
    await engine.dispose()
    await probes.stop()
    log.info("stopped", crashed=crashed)
    return EXIT_FAILED if crashed else 0
