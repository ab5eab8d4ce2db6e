"""What the dashboard shows, read in one go. Sections are replaced as a whole when they change."""

from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime.db.ids import first_id
from chatbot_runtime.db.schema_queue import channels, conversations, messages, worker_leases
from chatbot_runtime.health.judge import QUEUE_AGE_LIMIT_S, QUEUE_DEPTH_LIMIT
from chatbot_runtime.queue.conversations import Mode
from chatbot_runtime.queue.stats import QueueStats, read_stats
from chatbot_runtime.worker_web.lease import lease_name

TRAFFIC_WINDOW: Final = timedelta(seconds=60)

Picture = dict[str, Any]


async def read_picture(conn: AsyncConnection) -> Picture:
    """Return `queue`, `traffic`, `conversations` and `channels` as JSON-ready values; no phone, name or text is among them."""
    stats = await read_stats(conn)
    return {
        "queue": _queue(stats),
        "traffic": await _traffic(conn, stats.at),
        "conversations": await _with_people(conn),
        "channels": await _channels(conn, stats),
    }


async def _with_people(conn: AsyncConnection) -> dict[str, int]:
    """Count conversations that wait for a person, and those that a person has."""
    modes = (Mode.PENDING_HUMAN, Mode.HUMAN)
    query = sa.select(*(sa.func.count().filter(conversations.c.mode == mode) for mode in modes)).where(conversations.c.mode.in_(modes))
    return {mode.value: count for mode, count in zip(modes, (await conn.execute(query)).one(), strict=True)}


def _queue(stats: QueueStats) -> dict[str, Any]:
    states: dict[str, int] = {}
    for item in stats.depths:
        states[item.state] = states.get(item.state, 0) + item.count
    waiting = stats.waiting()
    return {
        "pending": waiting,
        "depthLimit": QUEUE_DEPTH_LIMIT,
        "oldestAgeSeconds": round(stats.oldest_age_s()) if waiting else None,
        "ageLimitSeconds": QUEUE_AGE_LIMIT_S,
        "inboxPending": stats.inbox,
        "inboxOldestAgeSeconds": round((stats.at - stats.inbox_oldest_at).total_seconds()) if stats.inbox_oldest_at else None,
        "states": states,
    }


async def _traffic(conn: AsyncConnection, now: datetime) -> dict[str, int]:
    """Count messages of the last minute; their ids begin with the time, so the primary key finds them."""
    inbound = messages.c.origin == "contact"
    query = sa.select(
        sa.func.count().filter(inbound),
        sa.func.count().filter(~inbound, messages.c.status.in_(("sent", "delivered", "read"))),
        sa.func.count().filter(~inbound, messages.c.status.in_(("failed", "dead", "expired"))),
    ).where(messages.c.id >= first_id(now - TRAFFIC_WINDOW))
    received, sent, failed = (await conn.execute(query)).one()
    return {"windowSeconds": int(TRAFFIC_WINDOW.total_seconds()), "received": received, "sent": sent, "failed": failed}


async def _channels(conn: AsyncConnection, stats: QueueStats) -> list[dict[str, Any]]:
    pauses = {item.channel: item.reason for item in stats.pauses}
    rows = (await conn.execute(sa.select(channels.c.id, channels.c.kind, channels.c.external_id).order_by(channels.c.id))).all()
    alive = sa.select(worker_leases.c.name).where(worker_leases.c.expires_at > sa.func.now())
    held = set((await conn.execute(alive)).scalars())
    return [
        {
            "id": row.id,
            "kind": row.kind,
            "paused": row.id in pauses,
            "pauseReason": pauses.get(row.id, ""),
            "worker": None if row.kind == "cloud" else lease_name(row.external_id) in held,
        }
        for row in rows
    ]
