"""Derives lane counters again from the rows they count. A difference is a fault of ours: it is repaired, counted and logged."""

from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime.queue.lanes import lock_lane

log = structlog.get_logger(__name__)

_TRUTH = """
    SELECT x.conversation_id, x.kind, min(x.channel_id) AS channel_id, count(*)::int AS pending, min(x.priority)::smallint AS priority,
        min(x.open_id) AS open_id
    FROM (
        SELECT conversation_id, 'out' AS kind, channel_id, priority, CASE WHEN state <> 'queued' THEN id END AS open_id
            FROM outbox WHERE state IN ('queued', 'sending', 'unknown') {only}
        UNION ALL
        SELECT i.conversation_id, 'in', c.channel_id, 1, NULL
            FROM inbox i JOIN conversations c ON c.id = i.conversation_id WHERE true {only_in}
    ) x GROUP BY x.conversation_id, x.kind
"""

_CANDIDATES = sa.text(f"""
    SELECT coalesce(t.conversation_id, l.conversation_id) AS conversation_id, coalesce(t.kind, l.kind) AS kind
    FROM ({_TRUTH.format(only="", only_in="")}) t
    FULL JOIN chat_lanes l ON l.conversation_id = t.conversation_id AND l.kind = t.kind
    WHERE coalesce(l.pending, 0) <> coalesce(t.pending, 0) OR l.open_id IS DISTINCT FROM t.open_id
    ORDER BY 1, 2
""")  # noqa: S608  no value is formatted in

_ONE = sa.text(
    f"SELECT * FROM ({_TRUTH.format(only='AND conversation_id = :id', only_in='AND i.conversation_id = :id')}) t WHERE t.kind = :kind"  # noqa: S608  constants of this module
).bindparams(sa.bindparam("id", type_=sa.UUID()), sa.bindparam("kind", type_=sa.Text()))

_REPAIR = sa.text("""
    INSERT INTO chat_lanes AS l (conversation_id, kind, channel_id, pending, priority, next_at, open_id)
    VALUES (:id, :kind, :channel, :pending, :priority, now(), :open_id)
    ON CONFLICT (conversation_id, kind) DO UPDATE
        SET pending = excluded.pending, priority = excluded.priority, open_id = excluded.open_id, next_at = greatest(l.next_at, now())
""").bindparams(sa.bindparam("id", type_=sa.UUID()), sa.bindparam("kind", type_=sa.Text()), sa.bindparam("open_id", type_=sa.BigInteger()))


@dataclass(frozen=True, slots=True)
class Drift:
    """A lane that differed from its rows: what it said, and what is true."""

    conversation_id: UUID
    kind: str
    said: int
    counted: int


async def repair(conn: AsyncConnection) -> list[Drift]:
    """Compare all lanes with their rows and repair those that differ, in the caller's transaction.

    The comparison sees one moment, so it is repeated under the lane's lock before anything is called a difference.
    """
    candidates = (await conn.execute(_CANDIDATES)).all()
    found = []
    for row in candidates:
        drift = await _repair_lane(conn, row.conversation_id, row.kind)
        if drift is not None:
            log.error("lane_drift", conversation=str(drift.conversation_id), kind=drift.kind, said=drift.said, counted=drift.counted)
            found.append(drift)
    return found


async def _repair_lane(conn: AsyncConnection, conversation_id: UUID, kind: str) -> Drift | None:
    lane = await lock_lane(conn, conversation_id, kind)
    truth = (await conn.execute(_ONE, {"id": conversation_id, "kind": kind})).one_or_none()
    if lane is None and truth is None:
        return None
    said = (lane.pending, lane.open_id) if lane else (0, None)
    counted = (truth.pending, truth.open_id) if truth else (0, None)
    if said == counted:
        return None
    values = {
        "id": conversation_id,
        "kind": kind,
        "channel": truth.channel_id if truth else "",
        "pending": counted[0],
        "priority": truth.priority if truth else 1,
        "open_id": counted[1],
    }
    if truth:
        await conn.execute(_REPAIR, values)
    else:
        await conn.execute(
            sa.text("UPDATE chat_lanes SET pending = 0, open_id = NULL WHERE conversation_id = :id AND kind = :kind").bindparams(
                sa.bindparam("id", type_=sa.UUID())
            ),
            {"id": conversation_id, "kind": kind},
        )
    return Drift(conversation_id, kind, said[0], counted[0])
