"""A person's decisions about messages that wait for one (`held`, `dead`) or that have not been sent yet. Each is audited."""

from datetime import timedelta
from typing import Literal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime.audit.events import AuditEvent, record
from chatbot_runtime.db.schema_queue import messages, outbox
from chatbot_runtime.errors import Refused
from chatbot_runtime.queue.settle import Outcome, settle
from chatbot_runtime.queue.states import Status

Decision = Literal["requeue", "discard", "mark-sent"]


async def decide(
    conn: AsyncConnection, message_id: UUID, decision: Decision, *, actor: str, ttl: timedelta, ip: str = "", request_id: str = ""
) -> Status:
    """Carry out a decision in the caller's transaction.

    Args:
        conn: in a transaction.
        message_id: about which message.
        decision: send it (again), never send it, or note that it did arrive.
        actor: user id.
        ttl: how long a requeued message may wait.
        ip: client address, for the audit trail.
        request_id: joins the audit event with the logs.

    Raises:
        Refused: 404 `message-not-found`; 409 `bad-state` when its status does not allow this (any more).
    """
    query = sa.select(messages.c.conversation_id, messages.c.status).where(messages.c.id == message_id, messages.c.origin != "contact")
    row = (await conn.execute(query)).one_or_none()
    if row is None:
        raise Refused(404, "message-not-found", "there is no such outgoing message")
    status = {"requeue": Status.QUEUED, "discard": Status.CANCELLED, "mark-sent": Status.SENT}[decision]
    waits_for_a_person = row.status in (Status.HELD, Status.DEAD) or (row.status == Status.QUEUED and decision == "discard")
    reason = "" if decision == "requeue" else f"{decision} by a person"
    if not waits_for_a_person or not await settle(conn, row.conversation_id, message_id, Outcome(status, reason)):
        raise Refused(409, "bad-state", f"the message is {row.status}")
    if decision == "requeue":
        fresh = {"strikes": 0, "expires_at": sa.func.now() + ttl}
        await conn.execute(outbox.update().where(outbox.c.message_id == message_id).values(fresh))
    await record(
        conn,
        AuditEvent(
            f"message.{decision}", "ok", actor_kind="user", actor=actor, target=str(message_id), ip=ip, request_id=request_id,
            details={"was": row.status},
        ),
    )  # fmt: skip
    return status
