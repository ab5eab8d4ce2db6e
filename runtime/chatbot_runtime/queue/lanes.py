"""Claims lanes: whoever leases a chat's lane owns its head. The cost does not depend on how deep any chat is.

A claim is fenced by the lane's epoch, which rises with each claim. Its lease is `next_at`: when it passes, the lane can be claimed again.
"""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime import metrics
from chatbot_runtime.db.schema_queue import chat_lanes
from chatbot_runtime.queue.states import Origin, Status

_PICK = """
WITH picked AS (
    SELECT l.conversation_id
    FROM (VALUES (0), (1), (2)) AS p(priority)
    CROSS JOIN LATERAL (
        SELECT c.conversation_id, c.next_at FROM chat_lanes c
        WHERE c.channel_id = :channel AND c.kind = :kind AND c.priority = p.priority AND c.pending > 0 AND c.next_at <= now()
        ORDER BY c.next_at LIMIT :batch FOR UPDATE SKIP LOCKED
    ) l
    ORDER BY p.priority, l.next_at
    LIMIT :batch
), leased AS (
    UPDATE chat_lanes c SET lease_epoch = c.lease_epoch + 1, next_at = clock_timestamp() + :lease
    FROM picked WHERE c.conversation_id = picked.conversation_id AND c.kind = :kind
    RETURNING c.conversation_id, c.lease_epoch, c.open_id
)
"""

_HEADS = """
SELECT leased.conversation_id, leased.lease_epoch, o.id, o.message_id, o.state, o.attempts, o.strikes, o.priority, m.body, m.origin,
    a.wa_id, a.bsuid
FROM leased
LEFT JOIN LATERAL (
    (SELECT x.* FROM outbox x WHERE x.id = leased.open_id)
    UNION ALL
    (SELECT x.* FROM outbox x
        WHERE leased.open_id IS NULL AND x.conversation_id = leased.conversation_id AND x.state = 'queued'
        ORDER BY x.priority, x.id LIMIT 1)
) o ON true
LEFT JOIN messages m ON m.id = o.message_id
LEFT JOIN LATERAL (
    SELECT max(ca.value) FILTER (WHERE ca.kind = 'wa_id') AS wa_id, max(ca.value) FILTER (WHERE ca.kind = 'bsuid') AS bsuid
    FROM conversations cv JOIN contact_aliases ca ON ca.contact_id = cv.contact_id AND ca.channel_id = cv.channel_id
    WHERE cv.id = leased.conversation_id
) a ON true
ORDER BY o.priority, o.id
"""
_TYPES = (sa.bindparam("lease", type_=sa.Interval()), sa.bindparam("channel", type_=sa.Text()), sa.bindparam("kind", type_=sa.Text()))

CLAIM_OUT = sa.text(_PICK + _HEADS).bindparams(*_TYPES)
CLAIM_IN = sa.text(f"{_PICK} SELECT leased.conversation_id, leased.lease_epoch FROM leased").bindparams(*_TYPES)  # noqa: S608  a constant


@dataclass(frozen=True, slots=True)
class LaneClaim:
    """A leased lane."""

    conversation_id: UUID
    kind: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Head:
    """The message that a lane's holder has to deal with.

    Attributes:
        outbox_id: its row.
        message_id: its message.
        state: `queued`, or what an earlier holder left: `sending` (it died in between) or `unknown` (the wait is over).
        attempts: calls of the provider so far.
        strikes: those that it answered with a retryable fault.
        body: text.
        origin: who wrote it.
        wa_id: the contact's phone number in digits, if known.
        bsuid: the contact's business-scoped user id, if known.
    """

    outbox_id: int
    message_id: UUID
    state: Status
    attempts: int
    strikes: int
    body: str
    origin: Origin
    wa_id: str | None
    bsuid: str | None


@dataclass(frozen=True, slots=True)
class OutClaim:
    """A leased outgoing lane with its head; no head when another holder finished it this very moment."""

    lane: LaneClaim
    head: Head | None


async def claim_out(conn: AsyncConnection, channel: str, batch: int, lease_s: float) -> list[OutClaim]:
    """Lease up to `batch` chats of a channel that have something to send, the most urgent first.

    Args:
        conn: an `autocommit` connection: the claim is one statement, and its locks end with it.
        channel: id of the channel.
        batch: at most so many chats.
        lease_s: seconds until another may claim them.
    """
    parameters = {"channel": channel, "kind": "out", "batch": batch, "lease": timedelta(seconds=lease_s)}
    with metrics.CLAIM_SECONDS.time():
        rows = (await conn.execute(CLAIM_OUT, parameters)).all()
    claims = []
    for row in rows:
        lane = LaneClaim(row.conversation_id, "out", row.lease_epoch)
        head = None
        if row.id is not None:
            head = Head(
                row.id, row.message_id, Status(row.state), row.attempts, row.strikes, row.body, Origin(row.origin), row.wa_id, row.bsuid
            )
        claims.append(OutClaim(lane, head))
    return claims


async def claim_in(conn: AsyncConnection, channel: str, batch: int, lease_s: float) -> list[LaneClaim]:
    """Lease up to `batch` chats of a channel that have something for the bot; arguments as for `claim_out`."""
    parameters = {"channel": channel, "kind": "in", "batch": batch, "lease": timedelta(seconds=lease_s)}
    rows = (await conn.execute(CLAIM_IN, parameters)).all()
    return [LaneClaim(row.conversation_id, "in", row.lease_epoch) for row in rows]


async def put_back(conn: AsyncConnection, lane: LaneClaim, delay_s: float = 0.0) -> bool:
    """Give a lane back undone, claimable after a delay.

    Returns:
        False when the claim had been fenced: somebody else has the lane.
    """
    freed = (
        chat_lanes.update()
        .where(chat_lanes.c.conversation_id == lane.conversation_id, chat_lanes.c.kind == lane.kind, chat_lanes.c.lease_epoch == lane.epoch)
        .values(next_at=sa.func.clock_timestamp() + timedelta(seconds=delay_s))
        .returning(chat_lanes.c.pending)
    )
    return (await conn.execute(freed)).one_or_none() is not None


@dataclass(frozen=True, slots=True)
class LockedLane:
    """A lane as it is while the caller's transaction holds its lock."""

    epoch: int
    pending: int
    open_id: int | None
    failures: int


async def lock_lane(conn: AsyncConnection, conversation_id: UUID, kind: str) -> LockedLane | None:
    """Lock a lane to the end of the transaction; everything that changes a lane's rows does so under this lock."""
    lane = chat_lanes.c
    query = sa.select(lane.lease_epoch, lane.pending, lane.open_id, lane.failures).where(
        lane.conversation_id == conversation_id, lane.kind == kind
    )
    row = (await conn.execute(query.with_for_update())).one_or_none()
    return None if row is None else LockedLane(*row)
