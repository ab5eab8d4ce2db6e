"""Conversations: finding or opening one, and who speaks in it. A change of mode raises `mode_epoch`, which drops older replies."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime import metrics
from chatbot_runtime.db.schema_queue import channels, contact_aliases, contacts, conversations

TAKEN_OVER: Final = "taken over"
"""Reason of a mode that changed because a person wrote."""

BY_HAND: Final = "by hand"
"""Reason of a mode that a person chose."""

IDLE: Final = "the person was silent"
"""Reason of a mode that came back to the bot by itself."""


class Mode(StrEnum):
    """Who speaks: the bot, nobody until a person comes, a person, or nobody as the matter is closed."""

    BOT = "bot"
    PENDING_HUMAN = "pending_human"
    HUMAN = "human"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as the bot and the UI need it."""

    id: UUID
    channel: str
    mode: Mode
    mode_epoch: int
    locale: str
    greeted_at: datetime | None
    fallbacks: int


async def get_conversation(conn: AsyncConnection, conversation_id: UUID, *, lock: bool = False) -> Conversation | None:
    """Read a conversation; with `lock` it stays as read until the transaction ends."""
    known = conversations.c
    query = sa.select(known.id, known.channel_id, known.mode, known.mode_epoch, known.locale, known.greeted_at, known.fallbacks).where(
        known.id == conversation_id
    )
    row = (await conn.execute(query.with_for_update(key_share=True) if lock else query)).one_or_none()
    return None if row is None else Conversation(row.id, row.channel_id, Mode(row.mode), *row[3:])


async def set_mode(conn: AsyncConnection, conversation_id: UUID, mode: Mode, *, reason: str) -> int | None:
    """Change who speaks, in the caller's transaction.

    Returns:
        The new epoch, or None if the mode was this already or there is no such conversation.
    """
    known = conversations.c
    before = sa.select(known.id, known.mode, known.mode_changed_at).where(known.id == conversation_id).with_for_update(key_share=True)
    old = before.subquery("old").c  # an UPDATE returns new values only
    changed = (
        conversations.update()
        .where(known.id == old.id, known.mode != mode)
        .values(mode=mode, mode_epoch=known.mode_epoch + 1, mode_reason=reason, mode_changed_at=sa.func.now(), fallbacks=0)
        .returning(known.mode_epoch, old.mode, (known.mode_changed_at - old.mode_changed_at).label("lasted"))
    )
    row = (await conn.execute(changed)).one_or_none()
    if row is None:
        return None
    if (row.mode, mode) == (Mode.PENDING_HUMAN, Mode.HUMAN):
        metrics.HANDOFF_WAIT.observe(max(0.0, row.lasted.total_seconds()))
    return int(row.mode_epoch)


async def ensure_channel(conn: AsyncConnection, kind: str, external_id: str) -> str:
    """Register a channel if it is new, and return its id, `kind:external_id`."""
    channel = f"{kind}:{external_id}"
    await conn.execute(insert(channels).values(id=channel, kind=kind, external_id=external_id).on_conflict_do_nothing())
    return channel


async def ensure_conversation(conn: AsyncConnection, channel: str, wa_id: str) -> UUID:
    """Return the conversation with a phone number, opened if there is none, in the caller's transaction.

    Args:
        conn: in a transaction.
        channel: id of a registered channel.
        wa_id: phone number in digits, as the provider has it.
    """
    alias = contact_aliases.c
    await conn.execute(contacts.insert().values(id=(fresh := uuid4())))
    taken = insert(contact_aliases).values(channel_id=channel, kind="wa_id", value=wa_id, contact_id=fresh)
    same = taken.on_conflict_do_update(index_elements=[alias.channel_id, alias.kind, alias.value], set_={"value": taken.excluded.value})
    contact = (await conn.execute(same.returning(alias.contact_id))).scalar_one()
    if contact != fresh:
        await conn.execute(contacts.delete().where(contacts.c.id == fresh))
    opened = insert(conversations).values(id=uuid4(), channel_id=channel, contact_id=contact)
    existing = opened.on_conflict_do_update(
        index_elements=[conversations.c.channel_id, conversations.c.contact_id], set_={"contact_id": opened.excluded.contact_id}
    )
    return UUID(str((await conn.execute(existing.returning(conversations.c.id))).scalar_one()))
