"""Global gauges of queue, pace and tables, from one elected scheduler, so that replicas do not multiply them."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chatbot_runtime import metrics
from chatbot_runtime.db.engine import autocommit, transaction
from chatbot_runtime.db.metadata import metadata
from chatbot_runtime.db.schema_queue import channels
from chatbot_runtime.lifecycle import Lifecycle
from chatbot_runtime.queue.leases import Lease, acquire, release
from chatbot_runtime.queue.states import PRIORITY
from chatbot_runtime.queue.stats import WAITING, QueueStats, deepest_lane, read_stats

LEASE: Final = "scheduler"
TTL_S: Final = 15.0
EVERY_S: Final = 5.0
SIZES_EVERY_S: Final = 60.0
STATES: Final = ("queued", "sending", "unknown", "held", "dead")

_QUEUE: Final = (metrics.OUTBOX_MESSAGES, metrics.OUTBOX_PENDING, metrics.OUTBOX_OLDEST_AGE)
_SIZES: Final = sa.text(
    "SELECT relname, reltuples, pg_total_relation_size(oid) AS bytes FROM pg_class"
    " WHERE relnamespace = 'public'::regnamespace AND relname = ANY(:names)"
)

Headroom = Callable[[], Awaitable[Mapping[str, float]]]

log = structlog.get_logger(__name__)


class QueueGauges:
    """Fills the gauges while this process holds the lease, and exposes none otherwise."""

    def __init__(self, engine: AsyncEngine, holder: str, *, soft_max: int, hard_max: int, headroom: Headroom | None) -> None:
        self._engine = engine
        self._limits = (soft_max, hard_max)
        self._holder = holder
        self._headroom = headroom
        self._lease: Lease | None = None
        self._sizes_due_at = 0.0

    async def step(self, _lifecycle: Lifecycle) -> int:
        """Renew the lease and read the queue; always 0, as there is no more to do than one reading an interval."""
        async with autocommit(self._engine) as conn:
            lease = await acquire(conn, LEASE, self._holder, TTL_S)
        if (lease is None) is not (self._lease is None):
            log.info("queue_gauges", elected=lease is not None)
        self._lease = lease
        if lease is None:
            self.clear()
            return 0
        async with transaction(self._engine) as conn:
            stats = await read_stats(conn)
            kinds = set((await conn.execute(sa.select(channels.c.kind))).scalars().all())
            deepest = await deepest_lane(conn)
            if time.monotonic() >= self._sizes_due_at:
                await show_sizes(conn)
                self._sizes_due_at = time.monotonic() + SIZES_EVERY_S
        headroom = {} if self._headroom is None else await self._headroom()
        show(stats, kinds)
        metrics.LANE_DEPTH_MAX.set(deepest)
        metrics.BACKPRESSURE_STATE.set(sum(stats.waiting() >= limit for limit in self._limits))
        for limit, free in headroom.items():
            metrics.PACING_HEADROOM.labels(limit=limit).set(free)
        return 0

    def clear(self) -> None:
        """Expose nothing: a number that is no longer true is worse than none."""
        for gauge in (*_QUEUE, metrics.PACING_HEADROOM, metrics.TABLE_ROWS, metrics.TABLE_BYTES):
            gauge.clear()
        metrics.LANE_DEPTH_MAX.forget()
        metrics.BACKPRESSURE_STATE.forget()
        self._sizes_due_at = 0.0

    async def stop(self) -> None:
        """Let another scheduler take over at once."""
        self.clear()
        if self._lease is not None:
            async with autocommit(self._engine) as conn:
                await release(conn, self._lease)


async def show_sizes(conn: AsyncConnection) -> None:
    """Expose the sizes of this release's tables; a table that was never analysed has no estimate of its rows."""
    metrics.TABLE_ROWS.clear()
    metrics.TABLE_BYTES.clear()
    for row in (await conn.execute(_SIZES, {"names": list(metadata.tables)})).all():
        if row.reltuples >= 0:
            metrics.TABLE_ROWS.labels(table=row.relname).set(row.reltuples)
        if row.bytes is not None:  # dropped in this moment
            metrics.TABLE_BYTES.labels(table=row.relname).set(row.bytes)


def show(stats: QueueStats, kinds: set[str]) -> None:
    """Expose a reading; a kind of channel that exists and has nothing waiting is 0, not absent."""
    for gauge in _QUEUE:
        gauge.clear()
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
