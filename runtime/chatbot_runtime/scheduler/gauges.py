"""Global gauges of the queue, from one elected scheduler, so that replicas do not multiply them."""

from collections import Counter
from typing import Final

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from chatbot_runtime import metrics
from chatbot_runtime.db.engine import autocommit, transaction
from chatbot_runtime.db.schema_queue import channels
from chatbot_runtime.lifecycle import Lifecycle
from chatbot_runtime.queue.leases import Lease, acquire, release
from chatbot_runtime.queue.states import PRIORITY
from chatbot_runtime.queue.stats import WAITING, QueueStats, deepest_lane, read_stats

LEASE: Final = "scheduler"
TTL_S: Final = 15.0
EVERY_S: Final = 5.0
STATES: Final = ("queued", "sending", "unknown", "held", "dead")

log = structlog.get_logger(__name__)


class QueueGauges:
    """Fills the gauges while this process holds the lease, and exposes none otherwise."""

    def __init__(self, engine: AsyncEngine, holder: str, *, soft_max: int, hard_max: int) -> None:
        self._engine = engine
        self._limits = (soft_max, hard_max)
        self._holder = holder
        self._lease: Lease | None = None

    async def step(self, _lifecycle: Lifecycle) -> int:
        """Renew the lease and read the queue; always 0, as there is no more to do than one reading an interval."""
        async with autocommit(self._engine) as conn:
            lease = await acquire(conn, LEASE, self._holder, TTL_S)
        if (lease is None) is not (self._lease is None):
            log.info("queue_gauges", elected=lease is not None)
        self._lease = lease
        if lease is None:
            clear()
            return 0
        async with transaction(self._engine) as conn:
            stats = await read_stats(conn)
            kinds = set((await conn.execute(sa.select(channels.c.kind))).scalars().all())
            deepest = await deepest_lane(conn)
        show(stats, kinds)
        metrics.LANE_DEPTH_MAX.set(deepest)
        metrics.BACKPRESSURE_STATE.set(sum(stats.waiting() >= limit for limit in self._limits))
        return 0

    async def stop(self) -> None:
        """Let another scheduler take over at once."""
        clear()
        if self._lease is not None:
            async with autocommit(self._engine) as conn:
                await release(conn, self._lease)


def clear() -> None:
    """Expose nothing: a number that is no longer true is worse than none."""
    for gauge in (metrics.OUTBOX_MESSAGES, metrics.OUTBOX_PENDING, metrics.OUTBOX_OLDEST_AGE):
        gauge.clear()
    metrics.LANE_DEPTH_MAX.forget()
    metrics.BACKPRESSURE_STATE.forget()


def show(stats: QueueStats, kinds: set[str]) -> None:
    """Expose a reading; a kind of channel that exists and has nothing waiting is 0, not absent."""
    clear()
    states: Counter[tuple[str, str]] = Counter()
    waiting: Counter[tuple[str, int]] = Counter()
    oldest: dict[str, float] = dict.fromkeys(kinds, 0.0)
    for item in stats.depths:
        kind = item.channel.partition(":")[0]
        states[kind, item.state] += item.count
        if item.state in WAITING:
            waiting[kind, item.priority] += item.count
            oldest[kind] = max(oldest.get(kind, 0.0), (stats.at - item.oldest_at).total_seconds())
    for kind, age in oldest.items():
        metrics.OUTBOX_OLDEST_AGE.labels(channel=kind).set(age)
        for state in STATES:
            metrics.OUTBOX_MESSAGES.labels(channel=kind, state=state).set(states[kind, state])
        for origin, priority in PRIORITY.items():
            metrics.OUTBOX_PENDING.labels(channel=kind, priority=origin.value).set(waiting[kind, priority])
