"""The probes of the app: what the database and what lies in it say, and Redis."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import asyncpg
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from chatbot_runtime import metrics
from chatbot_runtime.db.compat import check_schema
from chatbot_runtime.db.engine import READ_ONLY, UNREACHABLE, check_writable, name_of, transaction
from chatbot_runtime.errors import DatabaseDown
from chatbot_runtime.health.board import BOT, CHANNEL, DATABASE, QUEUE, REDIS, Finding, Status
from chatbot_runtime.health.judge import judge_bot, judge_channel, judge_queue
from chatbot_runtime.health.monitor import Probe
from chatbot_runtime.queue.stats import read_stats
from chatbot_runtime.redis.client import RedisClient

TIMEOUT_S: Final = 4.0
"""Longer is as good as no answer."""

_NOT_CHECKED: Final = Finding(Status.DEGRADED, "could not be checked, because the database does not answer", "NotChecked")


def redis_probe(redis: RedisClient) -> Probe:
    """Return the probe of Redis, which is degraded at worst."""

    async def probe() -> Mapping[str, Finding]:
        finding = await redis.check()
        return {REDIS: finding if finding.status is Status.OK else replace(finding, reason="RedisUnreachable")}

    return probe


class DatabaseProbe:
    """Checks that the database answers, fits and takes writes; with `contents`, also judges queue, channels and bot from what it holds."""

    def __init__(self, engine: AsyncEngine, *, contents: bool) -> None:
        self._engine = engine
        self._contents = contents
        self.schema = 0

    async def __call__(self) -> Mapping[str, Finding]:
        """Probe once; whatever the database does becomes a finding."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._look()
        except TimeoutError:
            down = Finding(Status.DOWN, "the database does not answer", UNREACHABLE)
        except DatabaseDown as error:
            down = Finding(Status.DOWN, str(error), error.reason)
            if error.reason == READ_ONLY:
                await self._engine.dispose()  # a session keeps the default that it began with, also when the database takes writes again
        except (SQLAlchemyError, asyncpg.PostgresError) as error:
            # Nobody foresaw it, and a probe that raised would end the process instead of naming it.
            down = Finding(Status.DOWN, f"the database could not be checked ({name_of(error)})", "DatabaseCheckFailed")
        return {DATABASE: down, **self._unchecked()}

    def _unchecked(self) -> dict[str, Finding]:
        return dict.fromkeys((QUEUE, CHANNEL, BOT), _NOT_CHECKED) if self._contents else {}

    async def _look(self) -> Mapping[str, Finding]:
        async with transaction(self._engine, op="probe") as db:
            schema = await check_schema(db)
            self.schema = schema.version
            metrics.SCHEMA_COMPATIBLE.set(schema.ok)
            if not schema.ok:
                return {DATABASE: Finding(Status.DOWN, schema.problem, "SchemaIncompatible"), **self._unchecked()}
            await check_writable(db)
            if not self._contents:
                return {DATABASE: Finding(Status.OK)}
            stats = await read_stats(db)
        return {DATABASE: Finding(Status.OK), QUEUE: judge_queue(stats), CHANNEL: judge_channel(stats), BOT: judge_bot(stats)}
