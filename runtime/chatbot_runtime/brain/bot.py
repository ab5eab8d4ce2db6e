"""Runs the bot over all chats that have something new. Any number of processes may do so at once."""

import random
from datetime import timedelta
from http import HTTPStatus
from typing import Final

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from chatbot_runtime import metrics
from chatbot_runtime.brain.catalog import Catalog
from chatbot_runtime.brain.turn import note_failure, take_turn
from chatbot_runtime.db.engine import autocommit, transaction
from chatbot_runtime.db.schema_queue import channels
from chatbot_runtime.errors import DatabaseDown, Refused
from chatbot_runtime.lifecycle import Lifecycle
from chatbot_runtime.queue.enqueue import Backpressure
from chatbot_runtime.queue.lanes import LaneClaim, claim_in, put_back
from chatbot_runtime.queue.retry import backoff_s
from chatbot_runtime.redis.wake import Topic, Waker
from chatbot_runtime.settings import Settings

BATCH: Final = 20
LEASE_S: Final = 30.0
POLL_S: Final = 0.5
FAILURES_MAX: Final = 3
"""Turns in a row that raise before a person takes over."""

log = structlog.get_logger(__name__)


class Bot:
    """The bot of one process."""

    def __init__(self, engine: AsyncEngine, waker: Waker, settings: Settings) -> None:
        self._engine = engine
        self._waker = waker
        self._settings = settings
        self._catalog = Catalog()
        self._backpressure = Backpressure.of(settings)

    async def idle(self) -> None:
        """Wait until there may be something new."""
        await self._waker.wait(Topic.INBOUND, POLL_S)

    async def step(self, lifecycle: Lifecycle) -> int:
        """Claim chats and take a turn in each.

        Returns:
            How many were claimed.
        """
        claims: list[LaneClaim] = []
        async with autocommit(self._engine) as conn:
            for channel in (await conn.execute(sa.select(channels.c.id).order_by(channels.c.id))).scalars().all():
                claims += await claim_in(conn, channel, BATCH, LEASE_S)
        for claim in claims:
            with lifecycle.work():
                await self._turn(claim)
        return len(claims)

    async def _turn(self, claim: LaneClaim) -> None:
        try:
            with metrics.TURN_SECONDS.time():
                async with transaction(self._engine) as conn:
                    turn = await take_turn(
                        conn,
                        claim,
                        self._catalog,
                        default_locale=self._settings.bot_locale,
                        ttl=timedelta(minutes=self._settings.outbox_ttl_min),
                        backpressure=self._backpressure,
                        human_idle=timedelta(hours=self._settings.human_idle_h),
                    )
        except DatabaseDown:
            raise
        except Refused as error:
            if error.status != HTTPStatus.TOO_MANY_REQUESTS:  # it would be refused again, whenever it is tried
                log.warning("turn_refused", conversation_id=str(claim.conversation_id), reason=error.kind, problem=error.detail)
                await self._failed(claim)
                return
            log.warning("turn_postponed", reason=error.kind)
            async with autocommit(self._engine) as conn:
                await put_back(conn, claim, error.retry_after or 1.0)
        except Exception:  # one chat that always raises must not stop the others
            log.exception("turn_failed", conversation_id=str(claim.conversation_id))
            await self._failed(claim)
        else:
            if turn is not None and turn.reply:
                self._waker.wake(Topic.OUTBOUND)

    async def _failed(self, claim: LaneClaim) -> None:
        metrics.TURNS.labels(outcome="failed").inc()
        async with transaction(self._engine) as conn:
            delay = backoff_s(0, random.uniform)
            if await note_failure(conn, claim, limit=FAILURES_MAX, delay_s=delay):
                log.error("turn_given_up", conversation_id=str(claim.conversation_id))
