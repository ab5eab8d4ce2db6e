"""Takes keys from the queue and runs their passes, so many at a time, while this process is the leader; errors become back-off."""

import asyncio
import random
import uuid
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from chatbot_operator.clock import Clock
from chatbot_operator.engine.passes import PassReport, Result
from chatbot_operator.engine.queue import Priority, ShutDown, WorkQueue
from chatbot_operator.engine.store import NamespacedName
from chatbot_operator.errors import KubeError, LeadershipLost, OperatorError, Throttled
from chatbot_operator.metrics import Metrics

LEADER_POLL_SECONDS: Final = 0.1
"""How often it is asked whether this process leads by now, while workers hold keys."""
CHANGE_SECONDS: Final = 0.2
"""How long news of children are gathered before a pass looks at them: pods change in bursts, and each pass may write a status."""
UNSEEN_SECONDS: Final = 5.0
"""After how long an instance is tried again whose namespace was never listed completely."""
RESYNC_SPREAD: Final = 0.25
"""Resyncs are due at random between 75 % and 125 % of the period, so that instances made together are not revisited together."""

_log = structlog.get_logger(__name__)


class Runner(Protocol):
    """Runs one pass (`engine.passes.Passes`)."""

    async def run(self, key: NamespacedName) -> PassReport:
        """Make one pass."""

    async def mark_broken(self, key: NamespacedName, error: BaseException) -> None:
        """Say in the status that passes fail by a mistake of the operator's own."""


class Workers:
    """The pool. `run()` ends only when the queue was closed and the last pass has ended."""

    def __init__(
        self,
        queue: WorkQueue[NamespacedName],
        passes: Runner,
        may_act: Callable[[], bool],
        clock: Clock,
        metrics: Metrics,
        *,
        count: int,
        noun: str = "instance",
        resync_seconds: float,
        can_see: Callable[[NamespacedName], bool] = lambda _: True,
        after_pass: Callable[[], None] = lambda: None,
        rand: Callable[[], float] = random.random,
    ) -> None:
        """Prepare.

        Args:
            queue: Where keys come from.
            passes: What is done with a key.
            may_act: Whether this process is the leader.
            clock: For durations.
            metrics: Passes by result.
            count: Passes at the same time.
            noun: What log lines call the object of a pass.
            resync_seconds: Period after which an instance is looked at without a reason.
            can_see: Whether the caches are complete for an instance; one that can't be seen keeps no worker.
            after_pass: Called after each pass.
            rand: Gives [0, 1).
        """
        self._queue = queue
        self._passes = passes
        self._may_act = may_act
        self._clock = clock
        self._metrics = metrics
        self._count = count
        self._noun = noun
        self._resync_seconds = resync_seconds
        self._can_see = can_see
        self._after_pass = after_pass
        self._rand = rand
        self._released = asyncio.Event()
        """Set while workers need not wait: this process leads, or the queue was closed."""

    async def run(self) -> None:
        """Work until the queue is closed."""
        async with asyncio.TaskGroup() as group:
            follower = group.create_task(self._follow(), name="leadership of workers")
            works = [group.create_task(self._work(), name=f"worker {number}") for number in range(self._count)]
            await asyncio.wait(works)
            follower.cancel()

    async def _follow(self) -> None:
        """Ask for all workers whether this process leads: each for itself would wake a standby a hundred times a second."""
        while True:
            if self._may_act() or self._queue.closed:
                self._released.set()
            else:
                self._released.clear()
            await asyncio.sleep(LEADER_POLL_SECONDS)

    async def _work(self) -> None:
        while True:
            try:
                key = await self._queue.get()
            except ShutDown:
                return
            try:
                while not self._may_act():
                    if self._queue.closed:
                        return
                    self._released.clear()
                    await self._released.wait()
                bound = {"pass_id": uuid.uuid4().hex[:12], "namespace": key.namespace, self._noun: key.name}
                with structlog.contextvars.bound_contextvars(**bound):
                    await self._pass(key)
            finally:
                self._queue.done(key)
            self._after_pass()
            await asyncio.sleep(0)  # passes that wait for nothing must not starve the Lease and the probes

    async def _pass(self, key: NamespacedName) -> None:
        if not self._can_see(key):
            self._metrics.passes.labels("unseen").inc()
            self._queue.add_after(key, UNSEEN_SECONDS)
            return
        began = self._clock.monotonic()
        try:
            report = await self._passes.run(key)
        except LeadershipLost:
            self._metrics.passes.labels("not_leader").inc()
            self._queue.add(key)
        except Throttled as error:
            self._metrics.passes.labels("throttled").inc()
            self._queue.add_after(key, error.retry_after * (1 + self._rand()))
        except KubeError as error:
            delay = self._queue.add_rate_limited(key)
            self._metrics.passes.labels("api_error").inc()
            _log.warning("pass.api_error", reason=error.reason, error=str(error), retry_seconds=round(delay, 3))
        except OperatorError as error:
            await self._broke(key, error)
        except Exception as error:  # noqa: BLE001 a mistake met by one instance must not stop all others; it is counted and shown
            await self._broke(key, error)
        else:
            self._settle(key, report)
            self._metrics.passes.labels(report.result.value).inc()
            seconds = self._clock.monotonic() - began
            _log.debug("pass.done", result=report.result.value, seconds=round(seconds, 4), requeue_after=report.requeue_after)
        self._metrics.pass_seconds.observe(self._clock.monotonic() - began)

    def _settle(self, key: NamespacedName, report: PassReport) -> None:
        """Queue the key again as its pass asks for. One that wants to be repeated at once, again and again, is slowed down."""
        if report.result is Result.GONE:
            self._queue.drop(key)
            return
        at_once = report.requeue_after is not None and report.requeue_after <= 0
        if report.result is Result.CHANGED and not at_once and not report.error:
            self._queue.forget(key)
            self._queue.add_after(key, CHANGE_SECONDS)
        elif report.result not in (Result.STEADY, Result.BLIND) or at_once or (report.error and report.requeue_after is None):
            self._queue.add_rate_limited(key)
        else:
            self._queue.forget(key)
        if report.requeue_after is not None and not at_once:
            self._queue.add_after(key, report.requeue_after)
        if report.over and report.result is Result.STEADY:
            return
        spread = 1 + RESYNC_SPREAD * (2 * self._rand() - 1)
        self._queue.add_after(key, self._resync_seconds * spread, Priority.LOW)

    async def _broke(self, key: NamespacedName, error: Exception) -> None:
        """Log, count and show an unexpected error, and try the instance again with back-off."""
        delay = self._queue.add_rate_limited(key)
        self._metrics.passes.labels("internal_error").inc()
        self._metrics.internal_errors.inc()
        _log.error("pass.failed", retry_seconds=round(delay, 3), exc_info=error)
        try:
            await self._passes.mark_broken(key, error)
        except OperatorError as second:
            _log.warning("pass.failure_not_shown", reason=second.reason, error=str(second))
