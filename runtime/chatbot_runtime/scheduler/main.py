"""The `scheduler` command: bot, Cloud API sender, statuses, audit seals and periodic jobs in one loop. More than one is harmless."""

import asyncio
import os
import secrets
import socket
import time
from functools import partial
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from chatbot_runtime import lifecycle as process
from chatbot_runtime import metrics
from chatbot_runtime.audit.sealer import BATCH as SEAL_BATCH
from chatbot_runtime.audit.sealer import seal_once
from chatbot_runtime.brain.bot import Bot
from chatbot_runtime.channels.cloud.client import CloudClient
from chatbot_runtime.channels.cloud.sender import CloudSender
from chatbot_runtime.channels.cloud.webhook import channel_of
from chatbot_runtime.clock import SystemClock
from chatbot_runtime.db.compat import CODE_VERSION
from chatbot_runtime.db.engine import create_engine, transaction
from chatbot_runtime.errors import DatabaseDown, RuntimeFault
from chatbot_runtime.health.board import Board, Finding, Status
from chatbot_runtime.health.monitor import Monitor, Probe
from chatbot_runtime.health.probes import DatabaseProbe, redis_probe
from chatbot_runtime.health.server import HealthServer
from chatbot_runtime.lifecycle import Lifecycle
from chatbot_runtime.logging import configure_logging
from chatbot_runtime.queue.reconcile import BATCH as STATUS_BATCH
from chatbot_runtime.queue.reconcile import apply_statuses
from chatbot_runtime.redis.client import RedisClient
from chatbot_runtime.redis.limiter import Limiter
from chatbot_runtime.redis.wake import Topic, Waker
from chatbot_runtime.scheduler.gauges import EVERY_S, QueueGauges
from chatbot_runtime.scheduler.jobs import JOBS
from chatbot_runtime.scheduler.loops import Work, keep
from chatbot_runtime.scheduler.periodic import run_due, run_now, run_rest
from chatbot_runtime.settings import Role, Settings

EXIT_FAILED: Final = 1
CLOSE_S: Final = 3.0
"""Longest end after the drain, of the five seconds that the operator leaves between the drain and SIGKILL."""

STATUS_POLL_S: Final = 1.0
SEAL_EVERY_S: Final = 1.0
JOBS_EVERY_S: Final = 1.0
JOB_PAUSE_S: Final = 30.0
"""How long a job that failed is left alone."""

log = structlog.get_logger(__name__)


def run(settings: Settings) -> int:
    """Work until SIGTERM; return the exit code."""
    configure_logging(settings, Role.SCHEDULER)
    metrics.expose(Role.SCHEDULER)
    return process.run(lambda lifecycle: Scheduler(settings, lifecycle).run(), settings.drain_timeout_s)


class Scheduler:
    """The parts of one scheduler process."""

    def __init__(self, settings: Settings, lifecycle: Lifecycle) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._engine: AsyncEngine = create_engine(settings)
        self._redis = RedisClient.of(settings)
        self._waker = Waker(self._redis)
        probes: list[Probe] = [DatabaseProbe(self._engine, contents=False), redis_probe(self._redis)]
        self._monitor = Monitor(Board(), SystemClock(), probes)
        # A restarted process must not pass for its predecessor: leases tell them apart by this name.
        self._name = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._client: CloudClient | None = None
        self._sender: CloudSender | None = None
        if settings.wa_phone_number_id:
            self._client = CloudClient(settings)
            self._sender = CloudSender(
                self._engine,
                self._client,
                Limiter(self._redis, self._engine),
                self._waker,
                settings,
                channel=channel_of(settings.wa_phone_number_id),
                worker=self._name,
            )
        self._gauges = QueueGauges(
            self._engine,
            self._name,
            soft_max=settings.queue_soft_max,
            hard_max=settings.queue_hard_max,
            headroom=self._sender.headroom if self._sender is not None else None,
        )
        self._sealed_seq = -1
        self._jobs_wait: dict[str, float] = {}
        self._unseen = {job.name for job in JOBS if job.at_start}

    async def run(self) -> int:
        """Run all parts; on SIGTERM stop claiming, let what is in flight end, give leases up."""
        probes = HealthServer(self._settings.bind_host, self._settings.metrics_port, ready=self._ready, registry=metrics.REGISTRY)
        try:
            await probes.start()
        except OSError as error:
            log.critical("port_taken", problem=error.strerror)
            return EXIT_FAILED
        metrics.BUILD_INFO.labels(self._settings.release_version, str(CODE_VERSION), Role.SCHEDULER.value).set(1)
        listener = asyncio.create_task(self._waker.listen())
        parts = [asyncio.create_task(keep(work, self._lifecycle, self._monitor)) for work in self._works()]
        parts.append(asyncio.create_task(self._monitor.run(self._lifecycle)))
        log.info("started", name=self._name, cloud=self._sender is not None)
        await asyncio.wait([*parts, asyncio.create_task(self._lifecycle.stopping.wait())], return_when=asyncio.FIRST_COMPLETED)
        crashed = not self._lifecycle.stopping.is_set()  # every part runs until the process stops
        self._lifecycle.stopping.set()
        late = await self._drain(parts)
        for fault in [part.exception() for part in parts if part.done() and not part.cancelled()]:
            if fault is not None:
                log.error("part_failed", exc_info=fault)
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._end(listener, late)
        except TimeoutError:
            log.warning("close_timeout", seconds=CLOSE_S)
        await probes.stop()
        log.info("stopped", crashed=crashed)
        return EXIT_FAILED if crashed else 0

    def _works(self) -> list[Work]:
        pause = self._lifecycle.pause
        bot = Bot(self._engine, self._waker, self._settings)
        works = [
            Work("bot", bot.step, bot.idle),
            Work("statuses", self._apply_statuses, partial(self._waker.wait, Topic.STATUS, STATUS_POLL_S)),
            Work("seals", self._seal, partial(pause, SEAL_EVERY_S)),
            Work("jobs", self._run_jobs, partial(pause, JOBS_EVERY_S)),
            Work("gauges", self._gauges.step, partial(pause, EVERY_S), suspend=self._gauges.clear),
        ]
        if self._sender is not None:
            works.append(Work("sender", self._sender.step, self._sender.idle))
        return works

    async def _ready(self) -> Finding:
        if self._lifecycle.stopping.is_set():
            return Finding(Status.DOWN, "stopping")
        return self._monitor.ready()

    async def _apply_statuses(self, _lifecycle: Lifecycle) -> int:
        async with transaction(self._engine, op="statuses") as conn:
            done = await apply_statuses(conn)
        if done.applied:
            self._waker.wake(Topic.OUTBOUND)
        return int(done.applied + done.parked + done.given_up == STATUS_BATCH)

    async def _seal(self, _lifecycle: Lifecycle) -> int:
        async with transaction(self._engine) as conn:
            sealed = await seal_once(conn)
        if sealed.seq != self._sealed_seq:
            self._sealed_seq = sealed.seq
            metrics.AUDIT_CHAIN_HEAD.clear()
            metrics.AUDIT_CHAIN_HEAD.labels(hash=sealed.head).set(sealed.seq)
            log.info("audit_sealed", count=sealed.count, seq=sealed.seq, head=sealed.head)
        return int(sealed.count == SEAL_BATCH)

    async def _run_jobs(self, lifecycle: Lifecycle) -> int:
        """Run what is due. A job that fails is tried again later, and keeps no other from running.

        Raises:
            DatabaseDown: one job met it; the others were tried nevertheless, as a time limit is one job's own.
        """
        down: DatabaseDown | None = None
        for job in JOBS:
            if lifecycle.stopping.is_set() or time.monotonic() < self._jobs_wait.get(job.name, 0.0):
                continue
            try:
                with lifecycle.work():
                    if await run_due(self._engine, job):
                        await run_rest(self._engine, job, lifecycle.stopping.is_set)
                    elif job.name in self._unseen:
                        await run_now(self._engine, job)
            except DatabaseDown as error:
                down = error
                log.warning("job_waits", job=job.name, reason=str(error))
            except (SQLAlchemyError, RuntimeFault):
                log.exception("job_failed", job=job.name)
            else:
                self._unseen.discard(job.name)
                continue
            self._jobs_wait[job.name] = time.monotonic() + JOB_PAUSE_S
        if down is not None:
            raise down
        return 0

    async def _drain(self, parts: list[asyncio.Task[None]]) -> list[asyncio.Task[None]]:
        """Let all parts and then the calls in flight end, together within the drain time.

        Returns:
            What did not end and is cancelled now: such a call is `unknown` afterwards, and nothing else was committed.
        """
        try:
            async with asyncio.timeout(self._lifecycle.drain_timeout_s):
                await asyncio.wait(parts)
                if self._sender is not None:
                    await self._sender.drain()
        except TimeoutError:
            log.warning("drain_timeout", in_flight=self._lifecycle.in_flight, seconds=self._lifecycle.drain_timeout_s)
        late = [task for task in (*parts, *(self._sender.calls if self._sender else ())) if not task.done()]
        for task in late:
            task.cancel()
        return late

    async def _end(self, listener: asyncio.Task[None], late: list[asyncio.Task[None]]) -> None:
        """Give leases up and close connections."""
        listener.cancel()
        await asyncio.wait([listener, *late])
        try:
            await self._gauges.stop()
        except DatabaseDown as error:
            log.debug("lease_left_to_expire", reason=str(error))
        if self._client is not None:
            await self._client.close()
        await self._redis.close()
        await self._engine.dispose()
