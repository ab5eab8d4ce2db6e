"""How full the queue is: for the dashboard, for metrics, and for the limit that keeps it from growing without end."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime.db.schema_queue import channels, chat_lanes, inbox, outbox

WAITING = ("queued", "sending", "unknown")
"""States of the outbox that still end by themselves; `held` and `dead` wait for a person."""


@dataclass(frozen=True, slots=True)
class Depth:
    """Messages of one channel, state and priority.

    Attributes:
        channel: id of the channel.
        state: state of the outbox.
        priority: 0 human, 1 bot, 2 bulk.
        count: messages.
        oldest_at: when the oldest was queued.
    """

    channel: str
    state: str
    priority: int
    count: int
    oldest_at: datetime


@dataclass(frozen=True, slots=True)
class ChannelPause:
    """A channel that does not send: until when (the far future: until somebody resumes it), and why."""

    channel: str
    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class QueueStats:
    """A picture of the queue at the database's time `at`. `inbox` counts messages that the bot has not seen."""

    at: datetime
    depths: tuple[Depth, ...]
    inbox: int
    inbox_oldest_at: datetime | None
    pauses: tuple[ChannelPause, ...]

    def waiting(self, channel: str | None = None) -> int:
        """Count messages that wait to be sent."""
        return sum(item.count for item in self._waiting(channel))

    def oldest_age_s(self, channel: str | None = None) -> float:
        """Age of the oldest waiting message in seconds; 0 when none waits."""
        return max(((self.at - item.oldest_at).total_seconds() for item in self._waiting(channel)), default=0.0)

    def _waiting(self, channel: str | None) -> list[Depth]:
        return [item for item in self.depths if item.state in WAITING and channel in (None, item.channel)]


async def read_stats(conn: AsyncConnection) -> QueueStats:
    """Read the queue: a scan of the outbox, which holds unfinished messages only. Cheap each few seconds, not for each request."""
    at = (await conn.execute(sa.select(sa.func.clock_timestamp()))).scalar_one()
    groups = (outbox.c.channel_id, outbox.c.state, outbox.c.priority)
    depths = (await conn.execute(sa.select(*groups, sa.func.count(), sa.func.min(outbox.c.created_at)).group_by(*groups))).all()
    unseen, oldest = (await conn.execute(sa.select(sa.func.count(), sa.func.min(inbox.c.received_at)))).one()
    paused = sa.select(
        channels.c.id, sa.func.least(channels.c.paused_until, sa.func.now() + sa.text("interval '100 years'")), channels.c.pause_reason
    ).where(channels.c.paused_until > sa.func.now())
    pauses = (await conn.execute(paused)).all()
    return QueueStats(at, tuple(Depth(*row) for row in sorted(depths)), unseen, oldest, tuple(ChannelPause(*row) for row in sorted(pauses)))


async def waiting_total(conn: AsyncConnection) -> int:
    """Count waiting outbound messages from the lanes' counters: cheap however deep a chat is."""
    query = sa.select(sa.func.coalesce(sa.func.sum(chat_lanes.c.pending), 0)).where(chat_lanes.c.kind == "out", chat_lanes.c.pending > 0)
    return int((await conn.execute(query)).scalar_one())


async def deepest_lane(conn: AsyncConnection) -> int:
    """Return how many outbound messages wait in the chat that has most of them."""
    query = sa.select(sa.func.coalesce(sa.func.max(chat_lanes.c.pending), 0)).where(chat_lanes.c.kind == "out", chat_lanes.c.pending > 0)
    return int((await conn.execute(query)).scalar_one())
