"""Who speaks in a conversation: those that wait for a person or are with one, and giving one back to the bot or taking it over."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import sqlalchemy as sa
from fastapi import FastAPI, Query, Request
from pydantic import Field

from chatbot_runtime.api.access import client_address, request_id
from chatbot_runtime.api.models import ApiModel
from chatbot_runtime.api.services import services_of
from chatbot_runtime.audit.events import AuditEvent, record
from chatbot_runtime.db.engine import transaction
from chatbot_runtime.db.schema_queue import contact_aliases, conversations
from chatbot_runtime.errors import Refused
from chatbot_runtime.queue.conversations import BY_HAND, Mode, get_conversation, set_mode


class ConversationItem(ApiModel):
    """A conversation that is not the bot's: since when, why, and the contact's phone number if it is known."""

    id: UUID
    channel: str
    mode: str
    since: datetime
    reason: str
    unread: int
    phone: str | None


class ConversationItems(ApiModel):
    """Those that have waited longest first; `total` counts also those that are not listed."""

    items: list[ConversationItem]
    total: int


class NewMode(ApiModel):
    """Who shall speak."""

    mode: Annotated[Literal["bot", "human"], Field(description="bot gives the conversation back, human takes it over")]


class Changed(ApiModel):
    """Who speaks now."""

    mode: str


def add(app: FastAPI) -> None:
    """Register the routes."""
    app.get("/api/conversations", response_model=ConversationItems, tags=["conversations"])(items)
    app.post("/api/conversations/{conversation_id}/mode", response_model=Changed, tags=["conversations"])(change)


async def items(
    request: Request,
    mode: Literal["pending_human", "human"] = "pending_human",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> ConversationItems:
    """Return conversations that wait for a person, or that a person has."""
    known, of_mode = conversations.c, conversations.c.mode == mode
    phone = sa.select(sa.func.min(contact_aliases.c.value)).where(
        contact_aliases.c.contact_id == known.contact_id,
        contact_aliases.c.channel_id == known.channel_id,
        contact_aliases.c.kind == "wa_id",
    )
    query = (
        sa.select(
            known.id, known.channel_id.label("channel"), known.mode, known.mode_changed_at.label("since"),
            known.mode_reason.label("reason"), known.unread, phone.scalar_subquery().label("phone"),
        )
        .where(of_mode)
        .order_by(known.mode_changed_at, known.id)
        .limit(limit)
    )  # fmt: skip
    async with transaction(services_of(request).engine) as db:
        rows = (await db.execute(query)).mappings().all()
        total = (await db.execute(sa.select(sa.func.count()).where(of_mode))).scalar_one()
    return ConversationItems(items=[ConversationItem(**row) for row in rows], total=total)


async def change(request: Request, conversation_id: UUID, new: NewMode) -> Changed:
    """Say who speaks; audited. Nothing happens when it is so already."""
    mode = Mode(new.mode)
    async with transaction(services_of(request).engine) as db:
        before = await get_conversation(db, conversation_id, lock=True)
        if before is None:
            raise Refused(404, "conversation-not-found", "there is no such conversation")
        if await set_mode(db, conversation_id, mode, reason=BY_HAND) is not None:
            event = AuditEvent(
                "conversation.mode",
                "ok",
                actor_kind="user",
                actor=str(request.state.session.user_id),
                target=str(conversation_id),
                ip=client_address(request),
                request_id=request_id(request),
                details={"was": before.mode, "mode": mode},
            )
            await record(db, event)
    return Changed(mode=mode)
