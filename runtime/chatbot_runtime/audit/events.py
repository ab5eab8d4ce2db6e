"""Audit events: who did what to what, with which outcome. Written in the same transaction as the deed, sealed later (`audit.sealer`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime import metrics
from chatbot_runtime.db.schema_auth import audit_events

ActorKind = Literal["user", "system", "anonymous"]
Outcome = Literal["ok", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One event.

    Attributes:
        action: `noun.verb`, such as `session.open`.
        outcome: `refused` by a rule, `failed` for other reasons.
        actor_kind: who acted.
        actor: user id or component; empty when nobody is known.
        target: id of what was acted on.
        ip: client address.
        request_id: joins the event with the logs.
        details: ids and counts; never message text or a secret, so that erasure never has to break the chain.
    """

    action: str
    outcome: Outcome
    actor_kind: ActorKind = "system"
    actor: str = ""
    target: str = ""
    ip: str = ""
    request_id: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


async def record(conn: AsyncConnection, event: AuditEvent) -> None:
    """Append an event in the caller's transaction."""
    await conn.execute(
        audit_events.insert().values(
            action=event.action,
            outcome=event.outcome,
            actor_kind=event.actor_kind,
            actor=event.actor,
            target=event.target,
            ip=event.ip,
            request_id=event.request_id,
            details=dict(event.details),
        )
    )
    metrics.AUDIT_EVENTS.inc()
