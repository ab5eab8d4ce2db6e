"""Reads what the bot knows from PostgreSQL, again after a few seconds, so that an edit takes effect without a restart."""

import time
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from chatbot_runtime.brain.matcher import Intent
from chatbot_runtime.brain.reply import Knowledge
from chatbot_runtime.db.schema_queue import bot_intents, bot_texts

FRESH_S: Final = 5.0


class Catalog:
    """The bot's knowledge, at most five seconds old."""

    def __init__(self) -> None:
        self._knowledge = Knowledge((), {})
        self._read_at = float("-inf")

    async def knowledge(self, conn: AsyncConnection) -> Knowledge:
        """Return the knowledge, read if it is not fresh."""
        if time.monotonic() - self._read_at > FRESH_S:
            self._knowledge = await read_knowledge(conn)
            self._read_at = time.monotonic()
        return self._knowledge


async def read_knowledge(conn: AsyncConnection) -> Knowledge:
    """Read enabled intents and all texts."""
    known = bot_intents.c
    query = sa.select(known.name, known.locale, known.keywords, known.reply, known.action, known.rank).where(known.enabled)
    intents = tuple(
        Intent(row.name, row.locale, tuple(row.keywords), row.reply, row.action, row.rank) for row in (await conn.execute(query)).all()
    )
    texts = (await conn.execute(sa.select(bot_texts.c.key, bot_texts.c.locale, bot_texts.c.body))).all()
    return Knowledge(intents, {(row.key, row.locale): row.body for row in texts})
