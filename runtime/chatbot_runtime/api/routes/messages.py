"""Sending: a message is accepted once for each Idempotency-Key, and its fate can be followed."""

from datetime import datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

import sqlalchemy as sa
from fastapi import FastAPI, Header, Request, Response
from pydantic import Field, model_validator
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime.api.access import client_address, request_id
from chatbot_runtime.api.models import ApiModel
from chatbot_runtime.api.services import services_of
from chatbot_runtime.audit.events import AuditEvent, record
from chatbot_runtime.channels.cloud.webhook import channel_of
from chatbot_runtime.db.engine import transaction
from chatbot_runtime.db.schema_queue import channels, messages, outbox
from chatbot_runtime.errors import Refused
from chatbot_runtime.queue.conversations import ensure_conversation
from chatbot_runtime.queue.enqueue import KEY_MAX, TEXT_MAX, Outgoing, enqueue_message
from chatbot_runtime.queue.states import Origin
from chatbot_runtime.redis.wake import Topic


class NewMessage(ApiModel):
    """A text for a phone number, or for a conversation that exists."""

    to: Annotated[str, Field(pattern=r"^\+?[0-9]{8,15}$", description="phone number with country code")] | None = None
    conversation_id: UUID | None = None
    channel: Annotated[str, Field(max_length=200, description="channel id; the Cloud API number when absent")] | None = None
    text: Annotated[str, Field(min_length=1, max_length=TEXT_MAX)]
    origin: Annotated[Literal["human", "bulk"], Field(description="bulk waits behind everything else and is refused first")] = "human"

    @model_validator(mode="after")
    def _one_recipient(self) -> "NewMessage":
        if (self.to is None) == (self.conversation_id is None):
            raise ValueError("give either to or conversationId")
        return self


class Message(ApiModel):
    """A message and what became of it. Times are null as long as it has not happened."""

    id: UUID
    conversation_id: UUID
    channel: str
    origin: str
    status: str
    created_at: datetime
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    failed_at: datetime | None
    error_code: int | None
    error: str
    attempts: Annotated[int | None, Field(description="calls of the provider so far; null once the message has left the queue")]


def add(app: FastAPI) -> None:
    """Register the routes."""
    app.post("/api/messages", response_model=Message, status_code=202, tags=["messages"])(send)
    app.get("/api/messages/{message_id}", response_model=Message, tags=["messages"])(get)


async def send(
    request: Request,
    response: Response,
    new: NewMessage,
    idempotency_key: Annotated[str, Header(min_length=1, max_length=KEY_MAX, description="any text that is new for each message")],
) -> Message:
    """Queue a text: 202 when it is durable, 200 with the first result for a repeated key, 409 for a key used with another text."""
    services, session = services_of(request), request.state.session
    async with transaction(services.engine) as db:
        conversation = new.conversation_id or await ensure_conversation(db, await _channel(db, request, new), (new.to or "").lstrip("+"))
        queued = await enqueue_message(
            db,
            Outgoing(conversation, Origin(new.origin), new.text, author=str(session.user_id)),
            ttl=timedelta(minutes=services.settings.outbox_ttl_min),
            backpressure=services.backpressure,
            idempotency_key=idempotency_key,
        )
        if not queued.repeated:
            event = AuditEvent(
                "message.send",
                "ok",
                actor_kind="user",
                actor=str(session.user_id),
                target=str(queued.message_id),
                ip=client_address(request),
                request_id=request_id(request),
                details={"origin": new.origin},
            )
            await record(db, event)
        message = await _read(db, queued.message_id)
    if queued.repeated:
        response.status_code = 200
    else:
        services.wakes.soon(Topic.OUTBOUND)
    return message


async def get(request: Request, message_id: UUID) -> Message:
    """Return a message with its status."""
    async with transaction(services_of(request).engine) as db:
        return await _read(db, message_id)


async def _channel(db: AsyncConnection, request: Request, new: NewMessage) -> str:
    """Choose the channel of a message to a phone number.

    Raises:
        Refused: 422 without a usable channel.
    """
    number = services_of(request).settings.wa_phone_number_id
    wanted = new.channel or (channel_of(number) if number else None)
    if wanted is None:
        raise Refused(422, "no-channel", "No Cloud API number is configured; name the channel.")
    if (await db.execute(sa.select(channels.c.id).where(channels.c.id == wanted))).one_or_none() is None:
        raise Refused(422, "no-channel", "There is no such channel.")
    return wanted


async def _read(db: AsyncConnection, message_id: UUID) -> Message:
    known = messages.c
    query = (
        sa.select(
            known.id, known.conversation_id, known.channel_id.label("channel"), known.origin, known.status, known.created_at, known.sent_at,
            known.delivered_at, known.read_at, known.failed_at, known.error_code, known.error, outbox.c.attempts,
        )
        .outerjoin(outbox, outbox.c.message_id == known.id)
        .where(known.id == message_id)
    )  # fmt: skip
    row = (await db.execute(query)).mappings().one_or_none()
    if row is None:
        raise Refused(404, "message-not-found", "There is no such message.")
    return Message(**row)
