"""Entry of the operator process: settings, logs, probes, caches, Lease, passes, and an orderly end."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final

import structlog

from chatbot_operator.clock import Clock, SystemClock
from chatbot_operator.config import Config
from chatbot_operator.context import Context, build
from chatbot_operator.engine.health import ProcessHealth
from chatbot_operator.engine.server import metrics_app, probe_app, serving
from chatbot_operator.errors import ConfigError
from chatbot_operator.kube.crds import wait_established
from chatbot_operator.logging import configure
from chatbot_operator.metrics import Metrics

EXIT_STOPPED: Final = 0
EXIT_FAILED: Final = 1
EXIT_MISCONFIGURED: Final = 2
LEADER_POLL_SECONDS: Final = 0.2
SIGHT_POLL_SECONDS: Final = 1.0
CANCEL_SECONDS: Final = 5.0

_log = structlog.get_logger(__name__)


class Process:
    """One run of the operator: background tasks of which none may end, until a signal comes."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._metrics = Metrics()
        self._health = ProcessHealth(clock, config.watch_silence_seconds)
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> int:
        """Run until SIGTERM, SIGINT or a failure, and return the exit code."""
        self._take_signals()
        async with (
            serving(probe_app(self._health), self._config.probe_port),
            serving(metrics_app(self._metrics.registry), self._config.metrics_port),
        ):
            context = await build(self._config, self._clock, self._metrics, self._health, self._take_signals)
            try:
                return await self._operate(context)
            finally:
                await context.client.close()

    async def _operate(self, context: Context) -> int:
        async with self._supervised():
            self._spawn("start", self._start(context))
            failed = await self._wait()
            self._health.ready_reason = "Stopping"
            for loop in context.loops:
                loop.queue.close()
            await self._drain()
            await context.elector.release()
        _log.info("operator.stopped", failed=failed)
        return EXIT_FAILED if failed else EXIT_STOPPED

    async def _start(self, context: Context) -> None:
        """Start part after part, then follow the Lease. kopf comes after the CRDs, because it looks for them only once."""
        self._health.ready_reason = "WaitingForCrds"
        await wait_established(context.client)
        self._health.ready_reason = "WaitingForCaches"
        self._spawn("reflectors", context.reflectors.run())
        self._spawn("kopf", context.shell.run())
        for loop in context.loops:
            self._spawn("relist", loop.relist.run())
        refused = await context.reflectors.wait_synced()
        if refused:
            _log.warning(
                "namespaces.refused", namespaces=refused, hint="give the operator its Role there, or take them from watchNamespaces"
            )
        self._health.ready_reason = ""
        _log.info(
            "operator.ready", instances=len(context.loops[0].store), backups=len(context.loops[1].store), children=context.reflectors.size()
        )
        for loop in context.loops:
            self._spawn("workers", loop.workers.run())
        self._spawn("leadership", self._follow_leadership(context))
        self._spawn("sight", self._follow_sight(context))
        await context.elector.acquire()
        await context.elector.run()

    async def _follow_leadership(self, context: Context) -> None:
        """Wake every instance whenever this process becomes the leader (again)."""
        was = False
        while True:
            leads = context.elector.is_leader()
            if leads != was:
                _log.info("leadership.changed", leads=leads)
                if leads:
                    context.wake_all()
                was = leads
            await asyncio.sleep(LEADER_POLL_SECONDS)

    async def _follow_sight(self, context: Context) -> None:
        """Wake the instances of a namespace whenever a watch of it begins to fail, or recovers."""
        was: dict[str, tuple[str, ...]] = dict.fromkeys(context.reflectors.namespaces, ())
        while True:
            for namespace in context.reflectors.namespaces:
                blind = context.reflectors.blind(namespace)
                if blind != was[namespace]:
                    _log.warning("watch.sight_changed", namespace=namespace, blind=blind)
                    context.wake_all(namespace)
                    was[namespace] = blind
            await asyncio.sleep(SIGHT_POLL_SECONDS)

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))
        self._tasks[-1].add_done_callback(lambda _: self._stop.set())

    async def _wait(self) -> bool:
        """Wait for a signal or for the end of any task; return whether it was the latter."""
        await self._stop.wait()
        ended = [task for task in self._tasks if task.done()]
        for task in ended:
            error = None if task.cancelled() else task.exception()
            _log.error("task.ended", task=task.get_name(), exc_info=error, hint="the process ends and is started anew")
        return bool(ended)

    async def _drain(self) -> None:
        """Let running passes end; the Lease is renewed meanwhile."""
        workers = [task for task in self._tasks if task.get_name() == "workers" and not task.done()]
        if workers:
            _, late = await asyncio.wait(workers, timeout=self._config.shutdown_seconds)
            if late:
                _log.warning("passes.cut_off", hint="what they left is done by the next leader")

    @contextlib.asynccontextmanager
    async def _supervised(self) -> AsyncIterator[None]:
        """Cancel every task at the end of the block."""
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=CANCEL_SECONDS)

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)

    def _signalled(self, number: signal.Signals) -> None:
        _log.info("operator.stopping", signal=number.name)
        self._stop.set()


async def _run(config: Config) -> int:
    return await Process(config, SystemClock()).run()


def main() -> int:
    """Run the operator and return the exit code: 0 after a signal, 1 after a failure, 2 when it was started wrongly."""
    try:
        config = Config.from_env()
    except ConfigError as error:
        configure("info")
        _log.error("operator.misconfigured", error=str(error))
        return EXIT_MISCONFIGURED
    configure(config.log_level, pod=config.pod_name)
    _log.info("operator.starting", version=config.version, namespaces=config.namespaces or "all")
    try:
        return asyncio.run(_run(config))
    except ConfigError as error:
        _log.error("operator.misconfigured", error=str(error))
        return EXIT_MISCONFIGURED
    except OSError as error:
        _log.error("operator.no_port", error=str(error), hint="set CHATBOT_PROBE_PORT and CHATBOT_METRICS_PORT to free ports")
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
