"""Attempts to send: written and committed before the provider is called, so that a crash can never look like "not sent".

`begin` is the send transaction. It re-reads the conversation, so a bot's reply that was computed before a person took over is dropped here.
"""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime.db.schema_queue import chat_lanes, conversations, messages, outbox, outbox_attempts, status_inbox
from chatbot_runtime.queue.lanes import Head, LaneClaim, lock_lane
from chatbot_runtime.queue.settle import Outcome, settle
from chatbot_runtime.queue.states import Origin, Status


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that stands in the database. `token` goes to the provider and comes back in its statuses."""

    token: UUID
    lane: LaneClaim
    head: Head
    channel: str


@dataclass(frozen=True, slots=True)
class NotBegun:
    """No attempt was written, and why: `fenced`, `gone`, or what the message became: `expired`, `cancelled`."""

    why: str


async def begin(conn: AsyncConnection, lane: LaneClaim, head: Head, *, worker: str, lease_s: float) -> Attempt | NotBegun:
    """Write an attempt in the caller's transaction, which must be committed before the provider is called.

    Args:
        conn: in a fresh transaction.
        lane: the claim.
        head: its head, in state `queued`.
        worker: name of this process, for people.
        lease_s: seconds that the lane is ours from now; the call of the provider must end well within.
    """
    epoch = await _mode_epoch(conn, lane.conversation_id)
    locked = await lock_lane(conn, lane.conversation_id, "out")
    if epoch is None or locked is None or locked.epoch != lane.epoch or locked.open_id is not None:
        return NotBegun("fenced")
    query = (
        sa.select(outbox.c.mode_epoch, outbox.c.attempts, outbox.c.channel_id, (outbox.c.expires_at <= sa.func.now()).label("expired"))
        .where(outbox.c.id == head.outbox_id, outbox.c.state == Status.QUEUED)
        .with_for_update()
    )
    row = (await conn.execute(query)).one_or_none()
    if row is None:
        await _free(conn, lane)
        return NotBegun("gone")
    dropped = None
    if row.expired:
        dropped = Outcome(Status.EXPIRED, "it waited longer than it may")
    elif head.origin is Origin.BOT and row.mode_epoch != epoch:
        dropped = Outcome(Status.CANCELLED, "the conversation changed hands after the bot had written this")
    if dropped is not None:
        await settle(conn, lane.conversation_id, head.message_id, dropped, epoch=lane.epoch)
        return NotBegun(dropped.status.value)
    return await _write(conn, lane, head, row.channel_id, row.attempts + 1, worker, lease_s)


async def _mode_epoch(conn: AsyncConnection, conversation_id: UUID) -> int | None:
    """Read who speaks and keep it so to the end of the transaction: a take-over waits for an attempt that has begun, never races it."""
    query = sa.select(conversations.c.mode_epoch).where(conversations.c.id == conversation_id).with_for_update(read=True)
    epoch: int | None = (await conn.execute(query)).scalar_one_or_none()
    return epoch


async def _write(conn: AsyncConnection, lane: LaneClaim, head: Head, channel: str, number: int, worker: str, lease_s: float) -> Attempt:
    token = uuid4()
    now = sa.func.clock_timestamp()
    await conn.execute(
        chat_lanes.update()
        .where(chat_lanes.c.conversation_id == lane.conversation_id, chat_lanes.c.kind == "out")
        .values(open_id=head.outbox_id, next_at=now + timedelta(seconds=lease_s))
    )
    await conn.execute(outbox.update().where(outbox.c.id == head.outbox_id).values(state=Status.SENDING, state_at=now, attempts=number))
    await conn.execute(messages.update().where(messages.c.id == head.message_id).values(status=Status.SENDING))
    await conn.execute(outbox_attempts.insert().values(token=token, message_id=head.message_id, number=number, worker=worker))
    return Attempt(token, lane, head, channel)


async def _free(conn: AsyncConnection, lane: LaneClaim) -> None:
    await conn.execute(
        chat_lanes.update()
        .where(chat_lanes.c.conversation_id == lane.conversation_id, chat_lanes.c.kind == "out")
        .values(next_at=sa.func.clock_timestamp())
    )


async def finish(conn: AsyncConnection, attempt: Attempt, outcome: Outcome) -> bool:
    """Write an attempt's outcome in the caller's transaction.

    What a fenced worker learned is still true: an acceptance is then left as a status, which the applier works in by the token.

    Returns:
        Whether the outcome was written under this claim.
    """
    settled = await settle(conn, attempt.lane.conversation_id, attempt.head.message_id, outcome, epoch=attempt.lane.epoch)
    result = {"finished_at": sa.func.clock_timestamp(), "result": outcome.status.value, "error_code": outcome.error_code}
    await conn.execute(outbox_attempts.update().where(outbox_attempts.c.token == attempt.token).values(result))
    if not settled and outcome.status is Status.SENT and outcome.provider_id:
        await conn.execute(
            status_inbox.insert().values(
                channel_id=attempt.channel,
                provider_message_id=outcome.provider_id,
                token=attempt.token,
                status="sent",
                at=sa.func.clock_timestamp(),
            )
        )
    return settled
