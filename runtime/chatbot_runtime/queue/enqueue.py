"""Puts messages into the outbox: message, outbox row and lane in the caller's transaction, once for each idempotency key."""

import hashlib
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime import metrics
from chatbot_runtime.db.ids import uuid7
from chatbot_runtime.db.schema_queue import chat_lanes, conversations, messages, outbox
from chatbot_runtime.errors import Refused
from chatbot_runtime.queue.conversations import TAKEN_OVER, Mode, set_mode
from chatbot_runtime.queue.states import PRIORITY, Origin, Status
from chatbot_runtime.queue.stats import waiting_total
from chatbot_runtime.settings import Settings

TEXT_MAX: Final = 4096
"""Characters of a text message, by the Cloud API's documentation."""

KEY_MAX: Final = 200
RETRY_AFTER_S: Final = 30


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A text to be sent.

    Attributes:
        conversation_id: to whom, and through which channel.
        origin: `human`, `bot` or `bulk`; decides priority.
        body: the text, 1 to 4096 characters.
        author: user id of a human message.
        mode_epoch: of a bot's reply: the conversation's epoch that it was computed under; an older one is dropped when its turn comes.
    """

    conversation_id: UUID
    origin: Origin
    body: str
    author: str = ""
    mode_epoch: int | None = None

    def request_hash(self) -> bytes:
        """Return what a repeat with the same idempotency key must equal."""
        return hashlib.sha256(orjson.dumps([str(self.conversation_id), self.origin, self.body])).digest()


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The message; `repeated` when this idempotency key had put it there before."""

    message_id: UUID
    status: Status
    repeated: bool


class Backpressure:
    """Refuses work when too much waits: above the soft limit mass sendings, above the hard one all but people.

    The depth is read at most once a second and process, so the limits are approximate.
    """

    FRESH_S: Final = 1.0

    def __init__(self, soft: int, hard: int) -> None:
        self._soft = soft
        self._hard = hard
        self._depth = 0
        self._read_at = float("-inf")

    @classmethod
    def of(cls, settings: Settings) -> "Backpressure":
        """Take the limits of the settings."""
        return cls(settings.queue_soft_max, settings.queue_hard_max)

    async def admit(self, conn: AsyncConnection, origin: Origin) -> None:
        """Let a message in, or refuse it.

        Raises:
            Refused: 429 `queue-full` with a Retry-After.
        """
        if origin is Origin.HUMAN:
            return
        if time.monotonic() - self._read_at > self.FRESH_S:
            self._depth = await waiting_total(conn)
            self._read_at = time.monotonic()
        limit = self._soft if origin is Origin.BULK else self._hard
        if self._depth >= limit:
            metrics.RATE_LIMITED.labels(limit="queue").inc()
            raise Refused(429, "queue-full", f"{self._depth} messages wait to be sent; try again later", retry_after=RETRY_AFTER_S)


async def enqueue_message(
    conn: AsyncConnection, message: Outgoing, *, ttl: timedelta, backpressure: Backpressure, idempotency_key: str | None = None
) -> Enqueued:
    """Queue a message in the caller's transaction. A person's message takes the conversation over from the bot.

    Args:
        conn: in a transaction that the caller commits.
        message: what to send.
        ttl: how long it may wait; afterwards it is `expired` and never sent.
        backpressure: the process's limit.
        idempotency_key: repeats with the same key and channel return the first result.

    Raises:
        Refused: 404 `conversation-not-found`, 409 `idempotency-conflict` (same key, other content), 422 `bad-message`, 429 `queue-full`.
    """
    _check(message, idempotency_key)
    channel = await _channel_of(conn, message.conversation_id)
    known = await _find(conn, channel, idempotency_key, message) if idempotency_key else None
    if known:
        return known
    await backpressure.admit(conn, message.origin)
    message_id = uuid7()
    inserted = (
        insert(messages)
        .values(
            id=message_id, conversation_id=message.conversation_id, channel_id=channel, origin=message.origin, kind="text",
            body=message.body, status=Status.QUEUED, idempotency_key=idempotency_key, request_hash=message.request_hash(),
            author=message.author,
        )
        .on_conflict_do_nothing(
            index_elements=[messages.c.channel_id, messages.c.idempotency_key], index_where=messages.c.idempotency_key.is_not(None)
        )
        .returning(messages.c.id)
    )  # fmt: skip
    if (await conn.execute(inserted)).one_or_none() is None:
        # The same request came twice at once and the other one has committed in between.
        known = await _find(conn, channel, str(idempotency_key), message)
        if known is None:
            raise RuntimeError("an idempotency key conflicts with a message that can't be read")
        return known
    if message.origin is Origin.HUMAN:
        await set_mode(conn, message.conversation_id, Mode.HUMAN, reason=TAKEN_OVER)
    await push(conn, message_id, message, channel, ttl)
    metrics.ENQUEUED.labels(channel=channel.partition(":")[0], origin=message.origin.value).inc()
    return Enqueued(message_id, Status.QUEUED, repeated=False)


async def push(conn: AsyncConnection, message_id: UUID, message: Outgoing, channel: str, ttl: timedelta) -> None:
    """Add the outbox row of a message that exists. The lane is locked first, so ids within a chat rise in the order of commits."""
    priority = PRIORITY[message.origin]
    await bump(conn, message.conversation_id, channel, priority)
    await conn.execute(
        outbox.insert().values(
            message_id=message_id,
            conversation_id=message.conversation_id,
            channel_id=channel,
            priority=priority,
            mode_epoch=message.mode_epoch,
            expires_at=sa.func.now() + ttl,
        )
    )


async def bump(conn: AsyncConnection, conversation_id: UUID, channel: str, priority: int) -> None:
    """Count one more waiting message in a chat's lane; a lane that was empty can be claimed at once."""
    lane = chat_lanes.c
    statement = insert(chat_lanes).values(
        conversation_id=conversation_id, kind="out", channel_id=channel, pending=1, priority=priority, next_at=sa.func.now()
    )
    empty = lane.pending == 0
    await conn.execute(
        statement.on_conflict_do_update(
            index_elements=[lane.conversation_id, lane.kind],
            set_={
                "pending": lane.pending + 1,
                "priority": sa.case((empty, priority), else_=sa.func.least(lane.priority, priority)),
                "next_at": sa.case((empty, sa.func.now()), else_=lane.next_at),
            },
        )
    )


def _check(message: Outgoing, key: str | None) -> None:
    if message.origin is Origin.CONTACT:
        raise ValueError("a contact's message is not sent")
    if not message.body.strip() or len(message.body) > TEXT_MAX:
        raise Refused(422, "bad-message", f"the text must have 1 to {TEXT_MAX} characters")
    if not _is_storable(message.body):
        raise Refused(422, "bad-message", "the text has a character that can't be stored")
    if key is not None and not (0 < len(key) <= KEY_MAX and _is_storable(key)):
        raise Refused(422, "bad-message", f"the idempotency key must have 1 to {KEY_MAX} characters")


def _is_storable(text: str) -> bool:
    """Whether PostgreSQL can hold a text: no NUL, and no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


async def _channel_of(conn: AsyncConnection, conversation_id: UUID) -> str:
    query = sa.select(conversations.c.channel_id).where(conversations.c.id == conversation_id)
    channel = (await conn.execute(query)).scalar_one_or_none()
    if channel is None:
        raise Refused(404, "conversation-not-found", "there is no such conversation")
    return str(channel)


async def _find(conn: AsyncConnection, channel: str, key: str, message: Outgoing) -> Enqueued | None:
    query = sa.select(messages.c.id, messages.c.status, messages.c.request_hash).where(
        messages.c.channel_id == channel, messages.c.idempotency_key == key
    )
    row = (await conn.execute(query)).one_or_none()
    if row is None:
        return None
    if row.request_hash != message.request_hash():
        raise Refused(409, "idempotency-conflict", "this idempotency key was used for another message")
    metrics.DUPLICATES_SUPPRESSED.labels(direction="outbound").inc()
    return Enqueued(row.id, Status(row.status), repeated=True)
