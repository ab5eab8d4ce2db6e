"""One turn of the bot as one transaction: what it read, what it answers and that it has seen it are written together or not at all."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime import metrics
from chatbot_runtime.audit.events import AuditEvent, record
from chatbot_runtime.brain.catalog import Catalog
from chatbot_runtime.brain.reply import Heard, Turn, decide_turn, pieces
from chatbot_runtime.db.ids import first_id
from chatbot_runtime.db.schema_queue import chat_lanes, conversations, inbox, messages
from chatbot_runtime.queue.conversations import IDLE, Conversation, Mode, get_conversation, set_mode
from chatbot_runtime.queue.enqueue import TEXT_MAX, Backpressure, Outgoing, enqueue_message
from chatbot_runtime.queue.lanes import LaneClaim, lock_lane
from chatbot_runtime.queue.states import Origin

FAILED = "bot failed"
HEARD_MAX = 500
"""Messages that one turn takes up; the rest is the next turn's. A statement can't have more than 32 767 values."""

log = structlog.get_logger(__name__)


async def take_turn(
    conn: AsyncConnection,
    claim: LaneClaim,
    catalog: Catalog,
    *,
    default_locale: str,
    ttl: timedelta,
    backpressure: Backpressure,
    human_idle: timedelta,
) -> Turn | None:
    """Answer what is new in a chat, in the caller's transaction.

    Args:
        conn: in a fresh transaction.
        claim: the chat's lane `in`.
        catalog: what the bot knows.
        default_locale: language as long as the contact's is not known.
        ttl: how long a reply may wait to be sent.
        backpressure: the process's limit.
        human_idle: a person's silence that gives the conversation back to the bot; zero never does.

    Returns:
        What was done; None when the claim is fenced or nothing is new.

    Raises:
        Refused: 429 while too many messages wait: the turn is taken later. Anything else is a reply that can't be sent.
    """
    conversation = await get_conversation(conn, claim.conversation_id, lock=True)
    lane = await lock_lane(conn, claim.conversation_id, "in")
    if conversation is None or lane is None or lane.epoch != claim.epoch:
        return None
    rows = await _unheard(conn, conversation.id)
    turn = None
    if rows:
        conversation = await _given_back(conn, conversation, rows[-1].received_at, human_idle)
        heard = [Heard(row.kind, row.body) for row in rows]
        turn = decide_turn(conversation, heard, await catalog.knowledge(conn), default_locale)
        await _carry_out(conn, conversation, turn, ttl, backpressure)
        await conn.execute(
            inbox.delete().where(inbox.c.conversation_id == conversation.id, inbox.c.message_id.in_([row.id for row in rows]))
        )
    await conn.execute(
        chat_lanes.update()
        .where(chat_lanes.c.conversation_id == conversation.id, chat_lanes.c.kind == "in")
        .values(pending=chat_lanes.c.pending - len(rows), next_at=sa.func.clock_timestamp(), failures=0)
    )
    if turn is not None:
        _count(turn, (rows[0].now - rows[0].received_at).total_seconds())
    return turn


async def _unheard(conn: AsyncConnection, conversation_id: UUID) -> Sequence[Any]:
    query = (
        sa.select(messages.c.id, messages.c.kind, messages.c.body, inbox.c.received_at, sa.func.clock_timestamp().label("now"))
        .join(messages, messages.c.id == inbox.c.message_id)
        .where(inbox.c.conversation_id == conversation_id)
        .order_by(messages.c.id)
        .limit(HEARD_MAX)
    )
    return (await conn.execute(query)).all()


async def _given_back(conn: AsyncConnection, conversation: Conversation, at: datetime, idle: timedelta) -> Conversation:
    """Return the conversation as it is at a contact's message: the bot's again if the person who has it was silent for too long.

    One that still waits for a person is not given back: nobody has answered what was asked.
    """
    if conversation.mode is not Mode.HUMAN or not idle:
        return conversation
    since = at - idle
    wrote = sa.exists().where(
        messages.c.conversation_id == conversation.id, messages.c.id >= first_id(since), messages.c.origin == Origin.HUMAN
    )
    query = sa.select(sa.or_(conversations.c.mode_changed_at > since, wrote)).where(conversations.c.id == conversation.id)
    if (await conn.execute(query)).scalar_one():
        return conversation
    epoch = await set_mode(conn, conversation.id, Mode.BOT, reason=IDLE) or conversation.mode_epoch
    details = {"was": Mode.HUMAN, "mode": Mode.BOT, "reason": IDLE}
    await record(conn, AuditEvent("conversation.mode", "ok", actor="bot", target=str(conversation.id), details=details))
    return replace(conversation, mode=Mode.BOT, mode_epoch=epoch, fallbacks=0)


async def _carry_out(conn: AsyncConnection, conversation: Conversation, turn: Turn, ttl: timedelta, backpressure: Backpressure) -> None:
    """Change the conversation first, so that the reply carries the epoch under which it is still valid."""
    epoch = conversation.mode_epoch
    if turn.handoff:
        epoch = await set_mode(conn, conversation.id, Mode.PENDING_HUMAN, reason=turn.handoff) or epoch
    elif turn.reopens:
        epoch = await set_mode(conn, conversation.id, Mode.BOT, reason="the contact wrote again") or epoch
    changed: dict[str, object] = {"locale": turn.locale, "fallbacks": turn.fallbacks}
    if turn.greets:
        changed["greeted_at"] = sa.func.now()
    await conn.execute(conversations.update().where(conversations.c.id == conversation.id).values(changed))
    bodies = pieces(turn.reply, TEXT_MAX)
    if len(bodies) > 1:
        log.warning("reply_cut", conversation_id=str(conversation.id), messages=len(bodies), why=f"it is longer than {TEXT_MAX} characters")
    for body in bodies:
        reply = Outgoing(conversation.id, Origin.BOT, body, mode_epoch=epoch)
        await enqueue_message(conn, reply, ttl=ttl, backpressure=backpressure)


async def note_failure(conn: AsyncConnection, claim: LaneClaim, *, limit: int, delay_s: float) -> bool:
    """Note, in the caller's transaction, that a turn raised. After `limit` in a row a person takes over and the bot's inbox is emptied.

    The messages stay in the conversation, unread.

    Returns:
        Whether a person took over.
    """
    conversation = await get_conversation(conn, claim.conversation_id, lock=True)
    lane = await lock_lane(conn, claim.conversation_id, "in")
    if conversation is None or lane is None or lane.epoch != claim.epoch:
        return False
    mine = sa.and_(chat_lanes.c.conversation_id == claim.conversation_id, chat_lanes.c.kind == "in")
    if lane.failures + 1 < limit:
        later = sa.func.clock_timestamp() + timedelta(seconds=delay_s)
        await conn.execute(chat_lanes.update().where(mine).values(failures=lane.failures + 1, next_at=later))
        return False
    gone = (await conn.execute(inbox.delete().where(inbox.c.conversation_id == claim.conversation_id))).rowcount
    await conn.execute(
        chat_lanes.update().where(mine).values(failures=0, pending=chat_lanes.c.pending - gone, next_at=sa.func.clock_timestamp())
    )
    if conversation.mode is Mode.BOT:
        await set_mode(conn, conversation.id, Mode.PENDING_HUMAN, reason=FAILED)
        metrics.HANDOFFS.labels(reason=FAILED).inc()
    metrics.DEAD_LETTERS.labels(reason="bot").inc(gone)
    return True


def _count(turn: Turn, seconds: float) -> None:
    metrics.TURNS.labels(outcome=turn.result).inc()
    if turn.reply:
        metrics.INBOUND_TO_REPLY.observe(max(0.0, seconds))
    if turn.result == "fallback":
        metrics.FALLBACKS.inc()
    if turn.handoff:
        metrics.HANDOFFS.labels(reason=turn.handoff).inc()
