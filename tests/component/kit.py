"""Small helpers of the component tests: conversations and messages made by the real functions, and waiting for conditions."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from chatbot_runtime.db.engine import autocommit, transaction
from chatbot_runtime.db.schema_queue import messages
from chatbot_runtime.queue.conversations import ensure_channel, ensure_conversation
from chatbot_runtime.queue.enqueue import Backpressure, Enqueued, Outgoing, enqueue_message
from chatbot_runtime.queue.inbound import Inbound, InboundMessage
from chatbot_runtime.queue.ingest import Ingested, record_inbound
from chatbot_runtime.queue.states import Origin

NUMBER = "106540352242922"
CHANNEL = f"cloud:{NUMBER}"
NO_LIMIT = Backpressure(10**9, 10**9)
DAY = timedelta(days=1)

_serial = itertools.count(1)


def phone(index: int) -> str:
    """Return the phone number of a person."""
    return f"5215500{index:06d}"


async def conversation(engine: AsyncEngine, index: int = 1, channel: str = CHANNEL) -> UUID:
    """Return the conversation with a person."""
    kind, _, external = channel.partition(":")
    async with transaction(engine) as conn:
        await ensure_channel(conn, kind, external)
        return await ensure_conversation(conn, channel, phone(index))


async def enqueue(engine: AsyncEngine, chat: UUID, body: str = "hi", origin: Origin = Origin.BULK, **options: Any) -> Enqueued:
    """Queue a message in a transaction of its own; `ttl`, `idempotency_key`, `backpressure`, `mode_epoch` as options."""
    message = Outgoing(chat, origin, body, mode_epoch=options.pop("mode_epoch", None))
    async with transaction(engine) as conn:
        return await enqueue_message(conn, message, **{"ttl": DAY, "backpressure": NO_LIMIT, **options})


def text(index: int = 1, body: str = "hola", provider_id: str = "", **fields: Any) -> InboundMessage:
    """Return a person's text."""
    values = {"channel": CHANNEL, "wa_id": phone(index), "bsuid": None, "name": "Ana", "kind": "text", **fields}
    return InboundMessage(provider_id=provider_id or f"wamid.{next(_serial)}", body=body, **values)


async def receive(engine: AsyncEngine, *items: InboundMessage) -> Ingested:
    """Take in messages as a webhook does."""
    async with autocommit(engine) as conn:
        return await record_inbound(conn, Inbound(items))


async def rows(engine: AsyncEngine, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """Run SQL and return its rows."""
    async with transaction(engine) as conn:
        return [tuple(row) for row in (await conn.execute(sa.text(statement), parameters)).all()]


async def run(engine: AsyncEngine, statement: str, **parameters: Any) -> None:
    """Run SQL that returns nothing."""
    async with transaction(engine) as conn:
        await conn.execute(sa.text(statement), parameters)


async def status_of(engine: AsyncEngine, message_id: UUID) -> str:
    """Return a message's status."""
    async with transaction(engine) as conn:
        return str((await conn.execute(sa.select(messages.c.status).where(messages.c.id == message_id))).scalar_one())


async def drifted(engine: AsyncEngine) -> list[Any]:
    """Return the lanes whose counters differ from their rows, by the same code that repairs them hourly."""
    from chatbot_runtime.queue.drift import repair

    async with transaction(engine) as conn:
        return await repair(conn)


async def eventually(check: Callable[[], Awaitable[Any]], what: str, seconds: float = 30.0) -> Any:
    """Wait for a condition and return its value; a fault of the condition's own counts as not yet."""
    deadline = time.monotonic() + seconds
    last: Any = None
    while time.monotonic() < deadline:
        last = await check()
        if last:
            return last
        await asyncio.sleep(0.05)
    raise AssertionError(f"did not happen within {seconds} s: {what} (last: {last!r})")
