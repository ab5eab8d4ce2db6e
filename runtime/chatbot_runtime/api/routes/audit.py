"""Reading the audit trail."""

from datetime import datetime
from typing import Annotated, Any, Final

import sqlalchemy as sa
from fastapi import FastAPI, Query, Request

from chatbot_runtime.api.models import ApiModel
from chatbot_runtime.api.services import services_of
from chatbot_runtime.db.engine import transaction
from chatbot_runtime.db.schema_auth import audit_events, audit_seals, users

ID_MAX: Final = 2**63 - 1
"""Greatest id that the database can compare."""


class Event(ApiModel):
    """One event; `sealed` once the hash chain covers it."""

    id: int
    at: datetime
    action: str
    outcome: str
    actor_kind: str
    actor: str
    actor_name: str
    target: str
    ip: str
    request_id: str
    details: dict[str, Any]
    sealed: bool


class Events(ApiModel):
    """A page of events, newest first; `next` is the `before` of the following page, null at the end."""

    events: list[Event]
    next: int | None


def add(app: FastAPI) -> None:
    """Register the route."""
    app.get("/api/audit", response_model=Events, tags=["audit"])(read)


async def read(
    request: Request, before: Annotated[int | None, Query(ge=1, le=ID_MAX)] = None, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> Events:
    """Return audit events, newest first."""
    query = (
        sa.select(
            audit_events,
            sa.func.coalesce(users.c.username, "").label("actor_name"),
            audit_seals.c.seq.is_not(None).label("sealed"),
        )
        .outerjoin(users, sa.cast(users.c.id, sa.Text) == audit_events.c.actor)
        .outerjoin(audit_seals, audit_seals.c.event_id == audit_events.c.id)
        .order_by(audit_events.c.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(audit_events.c.id < before)
    async with transaction(services_of(request).engine) as db:
        rows = (await db.execute(query)).mappings().all()
    events = [Event(**row) for row in rows]
    return Events(events=events, next=events[-1].id if len(events) == limit else None)
