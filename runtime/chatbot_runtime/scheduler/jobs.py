"""What is done periodically, and how often."""

from datetime import timedelta
from typing import Final

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime import metrics
from chatbot_runtime.audit.verify import verify_chain
from chatbot_runtime.db.schema_queue import outbox, outbox_attempts, rate_limits, raw_events, schedule_fires
from chatbot_runtime.queue import drift, reconcile
from chatbot_runtime.scheduler.periodic import Job

KEEP_ATTEMPTS: Final = timedelta(days=8)
"""The provider repeats webhooks for up to seven days, and a status finds its message by the attempt."""

KEEP_RAW: Final = timedelta(days=30)
KEEP_FIRES: Final = timedelta(days=14)
KEEP_RATES: Final = timedelta(days=1)
DELETE_BATCH: Final = 5_000
DELETE_BATCHES: Final = 20

log = structlog.get_logger(__name__)


async def expire_waiting(conn: AsyncConnection) -> str:
    """Expire a first batch of what waited longer than it may."""
    return f"{await reconcile.expire(conn)} expired"


async def expire_more(conn: AsyncConnection) -> bool:
    """Expire another batch. One a minute would let a channel's long outage be sent late for hours."""
    return await reconcile.expire(conn) == reconcile.BATCH


async def derive_lanes(conn: AsyncConnection) -> str:
    """Derive all lane counters again."""
    found = await drift.repair(conn)
    metrics.LANE_DRIFT.set(len(found))
    return f"{len(found)} lanes differed"


async def verify_audit(conn: AsyncConnection) -> str:
    """Recompute the audit chain."""
    result = await verify_chain(conn)
    metrics.AUDIT_CHAIN_OK.set(result.ok)
    if not result.ok:
        log.error("audit_chain_broken", problem=result.problem)
    return result.problem or f"{result.checked} seals hold, head {result.head}"


async def forget(conn: AsyncConnection) -> str:
    """Delete what has served its purpose, in batches that fit the statement's time limit; the rest follows next time."""
    waits = sa.exists(sa.select(outbox.c.id).where(outbox.c.message_id == outbox_attempts.c.message_id))
    rules = (
        (outbox_attempts, outbox_attempts.c.token, sa.and_(outbox_attempts.c.started_at < sa.func.now() - KEEP_ATTEMPTS, ~waits)),
        (raw_events, raw_events.c.id, raw_events.c.received_at < sa.func.now() - KEEP_RAW),
        (rate_limits, rate_limits.c.key, rate_limits.c.tat < sa.func.now() - KEEP_RATES),
        (schedule_fires, schedule_fires.c.fire_time, schedule_fires.c.fire_time < sa.func.now() - KEEP_FIRES),
    )
    counts = {}
    for table, key, old in rules:
        counts[table.name] = 0
        for _ in range(DELETE_BATCHES):
            some = sa.select(key).where(old).limit(DELETE_BATCH).scalar_subquery()
            gone = (await conn.execute(table.delete().where(key.in_(some), old))).rowcount
            counts[table.name] += gone
            if gone < DELETE_BATCH:
                break
        metrics.RETENTION_DELETED.labels(table.name).inc(counts[table.name])
    return ", ".join(f"{name} {count}" for name, count in counts.items())


JOBS: Final = (
    Job("expire", 60, expire_waiting, rest=expire_more),
    Job("lanes", 3600, derive_lanes, at_start=True),
    Job("retention", 3600, forget),
    Job("audit-verify", 86_400, verify_audit, at_start=True),
)
