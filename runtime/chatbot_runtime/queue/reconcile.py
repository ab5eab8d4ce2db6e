"""Finds out what became of sends nobody knows about: by the provider's statuses first, by policy when none came in time."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime import metrics
from chatbot_runtime.db.schema_queue import messages, outbox, outbox_attempts, raw_events, status_inbox
from chatbot_runtime.queue.lanes import Head, LaneClaim, put_back
from chatbot_runtime.queue.settle import Outcome, settle, write_message
from chatbot_runtime.queue.states import Status

BATCH: Final = 200
GIVE_UP_AFTER: Final = timedelta(hours=24)
"""A status whose message is still not known then goes to the events that nobody understood."""

SETTLING_S: Final = 1.0
"""How soon to look again when a status of the message is about to be applied."""

Policy = Literal["hold", "resend"]


async def resolve_open(
    conn: AsyncConnection, lane: LaneClaim, head: Head, *, policy: Policy, max_strikes: int, wait_s: float
) -> Status | None:
    """Deal with a message that an earlier holder of the lane left open, in the caller's transaction.

    `sending` means that it died or hung after the attempt was written: the message becomes `unknown` and waits for a status. `unknown`
    means that the wait is over: the policy decides, unless a status is about to be applied. Sending again costs a strike, and a message
    that has no more is held under either policy: each try may have reached its recipient.

    Returns:
        What it became; None when nothing changed.
    """
    if head.state is Status.SENDING:
        outcome = Outcome(Status.UNKNOWN, "the sender died or hung after calling the provider", delay_s=wait_s)
    elif await _has_status(conn, head.message_id):
        await put_back(conn, lane, SETTLING_S)
        return None
    elif policy == "resend" and head.strikes + 1 < max_strikes:
        outcome = Outcome(Status.QUEUED, "no status came; sent again by policy", strike=True)
    else:
        outcome = Outcome(Status.HELD, "it is not known whether the provider took it; decide whether to send it again")
    settled = await settle(conn, lane.conversation_id, head.message_id, outcome, epoch=lane.epoch)
    return outcome.status if settled else None


async def _has_status(conn: AsyncConnection, message_id: UUID) -> bool:
    query = (
        sa.select(status_inbox.c.id)
        .join(outbox_attempts, outbox_attempts.c.token == status_inbox.c.token)
        .where(outbox_attempts.c.message_id == message_id)
        .limit(1)
    )
    return (await conn.execute(query)).one_or_none() is not None


@dataclass(frozen=True, slots=True)
class Applied:
    """What one pass of the applier did: statuses applied, statuses without a message yet, statuses given up."""

    applied: int
    parked: int
    given_up: int


async def apply_statuses(conn: AsyncConnection, batch: int = BATCH) -> Applied:
    """Apply waiting statuses in the caller's transaction. Two appliers never take the same status.

    A status may come before our own commit, twice, or late: it waits for its message, and only ever moves it forward.
    """
    # The conversation is read first, as lanes must be locked in the same order by everybody who locks several.
    by_token = sa.select(outbox_attempts.c.message_id).where(outbox_attempts.c.token == status_inbox.c.token).scalar_subquery()
    by_id = (
        sa.select(messages.c.id)
        .where(messages.c.channel_id == status_inbox.c.channel_id, messages.c.provider_message_id == status_inbox.c.provider_message_id)
        .scalar_subquery()
    )
    waiting = (
        sa.select(status_inbox, sa.func.coalesce(by_token, by_id).label("message_id"))
        .where(status_inbox.c.next_at <= sa.func.now())
        .order_by(status_inbox.c.id)
        .limit(batch)
        .with_for_update(skip_locked=True, of=status_inbox)
    )
    rows = (await conn.execute(waiting)).all()
    wanted = {row.message_id for row in rows if row.message_id is not None}
    found = sa.select(messages.c.id, messages.c.conversation_id).where(messages.c.id.in_(wanted), messages.c.origin != "contact")
    lanes = {row.id: row.conversation_id for row in (await conn.execute(found)).all()} if wanted else {}
    matched = sorted((row for row in rows if row.message_id in lanes), key=lambda row: (lanes[row.message_id], row.id))
    for row in matched:
        await _apply(conn, lanes[row.message_id], row)
    await conn.execute(status_inbox.delete().where(status_inbox.c.id.in_([row.id for row in matched])))
    given_up = await _park(conn, [row.id for row in rows if row.message_id not in lanes])
    return Applied(len(matched), len(rows) - len(matched) - given_up, given_up)


async def _apply(conn: AsyncConnection, conversation_id: UUID, row: sa.Row[tuple[object, ...]]) -> None:
    """Apply one status. A message that is still in the outbox was accepted by the provider whatever else the status says."""
    status = Status(row.status)
    outcome = Outcome(status, row.error, row.error_code, row.provider_message_id, row.at)
    if not await settle(conn, conversation_id, row.message_id, outcome):
        await write_message(conn, row.message_id, row.channel_id, outcome)
    metrics.WEBHOOK_EVENTS.labels(kind="status", result="applied").inc()


async def _park(conn: AsyncConnection, ids: list[int]) -> int:
    """Let statuses without a message wait as long again as they have waited; keep as raw those that waited for a day."""
    if not ids:
        return 0
    old = sa.and_(status_inbox.c.id.in_(ids), status_inbox.c.received_at < sa.func.now() - GIVE_UP_AFTER)
    gone = (await conn.execute(status_inbox.delete().where(old).returning(status_inbox))).mappings().all()
    if gone:
        payloads = [
            {"reason": "a status of an unknown message", "payload": {name: str(value) for name, value in row.items()}} for row in gone
        ]
        await conn.execute(raw_events.insert(), payloads)
    age = sa.func.now() - status_inbox.c.received_at
    later = sa.func.now() + sa.func.greatest(age, timedelta(seconds=1))
    await conn.execute(status_inbox.update().where(status_inbox.c.id.in_(ids)).values(next_at=later))
    return len(gone)


async def expire(conn: AsyncConnection, batch: int = BATCH) -> int:
    """Expire messages that waited longer than they may, also those of a channel that sends nothing; in the caller's transaction.

    Returns:
        How many; a full batch means that there may be more.
    """
    query = (
        sa.select(outbox.c.conversation_id, outbox.c.message_id)
        .where(outbox.c.state == Status.QUEUED, outbox.c.expires_at <= sa.func.now())
        .order_by(outbox.c.conversation_id, outbox.c.id)
        .limit(batch)
    )
    count = 0
    for row in (await conn.execute(query)).all():
        count += await settle(conn, row.conversation_id, row.message_id, Outcome(Status.EXPIRED, "it waited longer than it may"))
    return count
