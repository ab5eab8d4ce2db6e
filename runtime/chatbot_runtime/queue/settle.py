"""Writes what became of an outgoing message: message, outbox row and lane together, whoever found it out.

A worker that got an answer, a status from the provider, the end of a wait and a person's decision all pass through `settle`, which takes
the lane's lock, refuses what the table of states does not allow, and keeps the lane's counter equal to its rows.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime import metrics
from chatbot_runtime.db.schema_queue import chat_lanes, messages, outbox
from chatbot_runtime.queue.lanes import LockedLane, lock_lane
from chatbot_runtime.queue.states import Status, may_become
from chatbot_runtime.queue.stats import WAITING

log = structlog.get_logger(__name__)

_KEPT: Final = frozenset({Status.QUEUED, Status.UNKNOWN, Status.HELD, Status.DEAD})
"""Statuses in which a message keeps its outbox row."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message.

    Attributes:
        status: its new status.
        error: why, one sentence; empty when all is well.
        error_code: the provider's code.
        provider_id: the provider's id of a message it accepted.
        at: when, if the provider said so.
        delay_s: `queued` and `unknown`: seconds until its lane is claimed again.
        strike: whether a retry counts against the limit of tries.
    """

    status: Status
    error: str = ""
    error_code: int | None = None
    provider_id: str | None = None
    at: datetime | None = None
    delay_s: float = 0.0
    strike: bool = False


async def settle(conn: AsyncConnection, conversation_id: UUID, message_id: UUID, outcome: Outcome, *, epoch: int | None = None) -> bool:
    """Write an outcome in the caller's transaction.

    Args:
        conn: in a transaction that holds no lock of another chat.
        conversation_id: whose lane.
        message_id: which message.
        outcome: what became of it.
        epoch: of the claim under which the outcome was found; None when it does not come from a claim.

    Returns:
        False when nothing was written: the claim is fenced, the message is settled already, or it may not become this.
    """
    lane = await lock_lane(conn, conversation_id, "out")
    if lane is None or (epoch is not None and lane.epoch != epoch):
        return False
    query = sa.select(outbox.c.id, outbox.c.state, outbox.c.channel_id).where(outbox.c.message_id == message_id).with_for_update()
    row = (await conn.execute(query)).one_or_none()
    if row is None or not may_become(Status(row.state), outcome.status):
        return False
    await _write_outbox(conn, row.id, outcome)
    await write_message(conn, message_id, row.channel_id, outcome)
    await _write_lane(conn, conversation_id, lane, row.id, Status(row.state), outcome, claimed=epoch is not None)
    _count(row.channel_id, Status(row.state), outcome)
    return True


async def _write_outbox(conn: AsyncConnection, outbox_id: int, outcome: Outcome) -> None:
    if outcome.status not in _KEPT:
        await conn.execute(outbox.delete().where(outbox.c.id == outbox_id))
        return
    changed = {
        "state": outcome.status.value,
        "state_at": sa.func.clock_timestamp(),
        "reason": outcome.error,
        "strikes": outbox.c.strikes + int(outcome.strike),
    }
    await conn.execute(outbox.update().where(outbox.c.id == outbox_id).values(changed))


async def _write_lane(
    conn: AsyncConnection, conversation_id: UUID, lane: LockedLane, outbox_id: int, before: Status, outcome: Outcome, *, claimed: bool
) -> None:
    """Keep counter, priority, open row and next time true. Only the head's outcome moves the lane's time."""
    pending = lane.pending + int(outcome.status in WAITING) - int(before in WAITING)
    changed: dict[str, object] = {"pending": pending}
    was_head = claimed or lane.open_id == outbox_id
    if was_head:
        changed["open_id"] = outbox_id if outcome.status is Status.UNKNOWN else None
    if was_head or (lane.pending == 0 and pending > 0):
        changed["next_at"] = sa.func.clock_timestamp() + timedelta(seconds=outcome.delay_s)
    # A row that is open keeps its urgency; else the head of those that wait decides.
    head = (
        sa.select(outbox.c.priority)
        .where(outbox.c.conversation_id == conversation_id, outbox.c.state == Status.QUEUED)
        .order_by(outbox.c.priority, outbox.c.id)
        .limit(1)
        .scalar_subquery()
    )
    changed["priority"] = sa.func.coalesce(head, chat_lanes.c.priority)
    await conn.execute(
        chat_lanes.update().where(chat_lanes.c.conversation_id == conversation_id, chat_lanes.c.kind == "out").values(changed)
    )


async def write_message(conn: AsyncConnection, message_id: UUID, channel: str, outcome: Outcome) -> None:
    """Move a message forward. One time stamp a status is kept, also of one that comes late and no longer shows."""
    known = messages.c
    at = sa.func.clock_timestamp() if outcome.at is None else outcome.at
    changed: dict[str, object] = {}
    stamp = {
        Status.SENT: known.sent_at, Status.DELIVERED: known.delivered_at, Status.READ: known.read_at, Status.FAILED: known.failed_at,
    }.get(outcome.status)  # fmt: skip
    if stamp is not None:
        changed[stamp.name] = sa.func.coalesce(stamp, at)
    stages = (known.created_at, known.sent_at, known.delivered_at, sa.func.clock_timestamp().label("now"))
    row = (
        await conn.execute(sa.select(known.status, known.provider_message_id, *stages).where(known.id == message_id).with_for_update())
    ).one()
    if may_become(Status(row.status), outcome.status):
        changed |= {"status": outcome.status.value, "error": outcome.error, "error_code": outcome.error_code}
        metrics.MESSAGES.labels(channel=channel.partition(":")[0], direction="outbound", status=outcome.status.value).inc()
        _time_stage(row, outcome)
    if outcome.provider_id and row.provider_message_id is None and not await _is_taken(conn, channel, outcome.provider_id):
        changed["provider_message_id"] = outcome.provider_id
    if changed:
        await conn.execute(messages.update().where(known.id == message_id).values(changed))


def _time_stage(row: sa.Row[*tuple[Any, ...]], outcome: Outcome) -> None:
    """Observe the time since the stage before, if that is known: a status may come before the one that precedes it."""
    before = {Status.SENT: row.created_at, Status.DELIVERED: row.sent_at, Status.READ: row.delivered_at}.get(outcome.status)
    if before is not None:
        seconds = ((outcome.at or row.now) - before).total_seconds()
        metrics.DELIVERY_SECONDS.labels(stage=outcome.status.value).observe(max(0.0, seconds))


async def _is_taken(conn: AsyncConnection, channel: str, provider_id: str) -> bool:
    """Whether a provider gave the same id to two messages, which must not keep us from noting that it accepted both."""
    query = sa.select(messages.c.id).where(messages.c.channel_id == channel, messages.c.provider_message_id == provider_id)
    taken = (await conn.execute(query)).one_or_none() is not None
    if taken:
        log.error("provider_id_repeated", channel=channel)
    return taken


def _count(channel: str, before: Status, outcome: Outcome) -> None:
    kind = channel.partition(":")[0]
    if before in (Status.UNKNOWN, Status.HELD) and outcome.status is not before:
        metrics.UNKNOWN_OUTCOMES.labels(channel=kind, resolution=outcome.status.value).inc()
    if outcome.status is Status.DEAD:
        metrics.DEAD_LETTERS.labels(reason=str(outcome.error_code or "unreachable")).inc()
