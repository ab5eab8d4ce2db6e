"""Messages that wait for a person: which they are, and what the person decides."""

from datetime import datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

import sqlalchemy as sa
from fastapi import FastAPI, Query, Request
from pydantic import Field

from chatbot_runtime.api.access import client_address, request_id
from chatbot_runtime.api.models import ApiModel
from chatbot_runtime.api.services import services_of
from chatbot_runtime.db.engine import transaction
from chatbot_runtime.db.schema_queue import messages, outbox
from chatbot_runtime.queue.operate import Decision, decide
from chatbot_runtime.redis.wake import Topic


class Item(ApiModel):
    """A message in the outbox that does not go on by itself."""

    id: UUID
    channel: str
    state: str
    since: datetime
    reason: str
    attempts: int
    text: str


class Items(ApiModel):
    """Oldest first; `total` counts also those that are not listed."""

    items: list[Item]
    total: int


class Decided(ApiModel):
    """A person's decision: send it again, never send it, or note that it did arrive."""

    decision: Annotated[Decision, Field(description="requeue, discard or mark-sent")]


class NewStatus(ApiModel):
    """What the message became."""

    status: str


def add(app: FastAPI) -> None:
    """Register the routes."""
    app.get("/api/queue/items", response_model=Items, tags=["queue"])(items)
    app.post("/api/queue/items/{message_id}/decision", response_model=NewStatus, tags=["queue"])(decision)


async def items(
    request: Request, state: Literal["held", "dead", "unknown"] = "held", limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> Items:
    """Return messages of one state, oldest first."""
    of_state = outbox.c.state == state
    query = (
        sa.select(
            messages.c.id,
            messages.c.channel_id.label("channel"),
            outbox.c.state,
            outbox.c.state_at.label("since"),
            outbox.c.reason,
            outbox.c.attempts,
            messages.c.body.label("text"),
        )
        .join(messages, messages.c.id == outbox.c.message_id)
        .where(of_state)
        .order_by(outbox.c.id)
        .limit(limit)
    )
    async with transaction(services_of(request).engine) as db:
        rows = (await db.execute(query)).mappings().all()
        total = (await db.execute(sa.select(sa.func.count()).where(of_state))).scalar_one()
    return Items(items=[Item(**row) for row in rows], total=total)


async def decision(request: Request, message_id: UUID, decided: Decided) -> NewStatus:
    """Carry out a decision about a held or dead message (or discard a queued one); audited. 409 when it is too late."""
    services = services_of(request)
    async with transaction(services.engine) as db:
        status = await decide(
            db,
            message_id,
            decided.decision,
            actor=str(request.state.session.user_id),
            ttl=timedelta(minutes=services.settings.outbox_ttl_min),
            ip=client_address(request),
            request_id=request_id(request),
        )
    services.wakes.soon(Topic.OUTBOUND)
    return NewStatus(status=status)
