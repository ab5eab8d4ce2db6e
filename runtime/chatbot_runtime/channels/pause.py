"""Pausing a channel: by us when the provider refuses account or token, or by a person. Each change is audited once.

A pause of ours ends by itself: then one message is tried, and if that is refused too the channel pauses again. So a new token cures it
without anybody's help. A pause without an end, which a person made, lasts until a person resumes: what the sender learns, also from
calls that were under way, never ends one that still lasts.
"""

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime.audit.events import ActorKind, AuditEvent, record
from chatbot_runtime.db.schema_queue import channels


async def pause(
    conn: AsyncConnection, channel: str, reason: str, *, seconds: float | None, actor_kind: ActorKind = "system", actor: str = "sender"
) -> None:
    """Pause a channel in the caller's transaction; a pause that lasts longer is never shortened.

    Args:
        conn: in a transaction.
        channel: id of the channel.
        reason: one sentence.
        seconds: how long; None until somebody resumes it.
        actor_kind: who does it.
        actor: user id or component.
    """
    known = channels.c
    was = (await conn.execute(sa.select(known.pause_reason).where(known.id == channel).with_for_update())).scalar_one_or_none()
    until = sa.text("'infinity'::timestamptz") if seconds is None else sa.func.now() + timedelta(seconds=seconds)
    changed = {"paused_until": sa.func.greatest(known.paused_until, until), "pause_reason": reason}
    await conn.execute(channels.update().where(known.id == channel).values(changed))
    if not was:
        await record(
            conn, AuditEvent("channel.pause", "ok", actor_kind=actor_kind, actor=actor, target=channel, details={"reason": reason})
        )


async def resume(
    conn: AsyncConnection, channel: str, *, over: bool = False, actor_kind: ActorKind = "system", actor: str = "sender"
) -> bool:
    """Let a channel send again, in the caller's transaction.

    Args:
        conn: in a transaction.
        channel: id of the channel.
        over: only if its pause does not last any more.
        actor_kind: who does it.
        actor: user id or component.

    Returns:
        Whether it was paused and is no longer.
    """
    known = channels.c
    freed = (
        channels.update()
        .where(known.id == channel, known.pause_reason != "", sa.true() if not over else known.paused_until <= sa.func.now())
        .values(paused_until=None, pause_reason="")
        .returning(known.id)
    )
    if (await conn.execute(freed)).one_or_none() is None:
        return False
    await record(conn, AuditEvent("channel.resume", "ok", actor_kind=actor_kind, actor=actor, target=channel))
    return True
