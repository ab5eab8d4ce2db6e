"""Sends what waits for one Cloud API number: claims lanes, paces, writes the attempt, calls, and settles. Any number may run at once."""

import asyncio
import random
from typing import Final

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chatbot_runtime import metrics
from chatbot_runtime.channels.cloud.client import Accepted, Answer, CloudClient, Rejected
from chatbot_runtime.channels.cloud.errors import Fault
from chatbot_runtime.channels.cloud.outcome import outcome_of
from chatbot_runtime.channels.pause import pause, resume
from chatbot_runtime.db.engine import autocommit, transaction
from chatbot_runtime.db.schema_queue import channels
from chatbot_runtime.errors import DatabaseDown
from chatbot_runtime.lifecycle import Lifecycle
from chatbot_runtime.queue.attempts import Attempt, NotBegun, begin, finish
from chatbot_runtime.queue.lanes import LaneClaim, OutClaim, claim_out, put_back
from chatbot_runtime.queue.reconcile import resolve_open
from chatbot_runtime.queue.settle import Outcome
from chatbot_runtime.queue.states import Status
from chatbot_runtime.redis.limiter import Limit, Limiter
from chatbot_runtime.redis.wake import Topic, Waker
from chatbot_runtime.settings import Settings

SLOTS: Final = 32
"""Calls at once: at 70 sends a second the provider may take 450 ms each."""

POLL_S: Final = 1.0
PAUSE_S: Final = 300.0
"""How long the provider's refusal of account or token pauses the channel before one message is tried again."""

CLAIM_LEASE_S: Final = 10.0
"""How long a claimed chat may wait for its pace. Short, as after an outage it delays what was claimed and not begun; `begin` extends it."""

THROTTLE_S: Final = 1.0
PAIR_BURST: Final = 5
"""Messages that one recipient may get at once before the pair interval counts."""

LONG_WAIT_S: Final = 2.0
"""A chat that must wait longer for its pace gives its lane back instead of keeping a slot."""

log = structlog.get_logger(__name__)


class CloudSender:
    """The sender of one channel."""

    def __init__(
        self, engine: AsyncEngine, client: CloudClient, limiter: Limiter, waker: Waker, settings: Settings, *, channel: str, worker: str
    ) -> None:
        self._engine = engine
        self._client = client
        self._limiter = limiter
        self._waker = waker
        self._settings = settings
        self._channel = channel
        self._worker = worker
        self._slots = SLOTS
        self._tasks: set[asyncio.Task[None]] = set()
        self._probing = True
        self._number = Limit("number", f"rate:{channel}", 1.0 / settings.cloud_rate, max(1, settings.cloud_rate // 7))

    async def idle(self) -> None:
        """Wait until there may be something to send."""
        await self._waker.wait(Topic.OUTBOUND, POLL_S)

    @property
    def calls(self) -> frozenset[asyncio.Task[None]]:
        """Chats that are being dealt with."""
        return frozenset(self._tasks)

    async def drain(self) -> None:
        """Wait for calls in flight."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def headroom(self) -> dict[str, float]:
        """Return how much of the limits is free, by their names; pairs are left out, as each has one of its own.

        Raises:
            DatabaseDown: it is not known.
        """
        return {self._number.name: await self._limiter.headroom(self._number)}

    async def step(self, lifecycle: Lifecycle) -> int:
        """Claim as many chats as there are free slots and start on them.

        Returns:
            How many were claimed; 0 also while the channel is paused.

        Raises:
            DatabaseDown: nothing was begun.
        """
        free = self._slots - len(self._tasks)
        if free <= 0:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            return 1
        async with autocommit(self._engine) as conn:
            if await self._paused(conn):
                return 0
            # After a pause, one message finds out whether the provider has us back.
            claims = await claim_out(conn, self._channel, 1 if self._probing else free, min(CLAIM_LEASE_S, self._settings.lease_ttl_s))
        for claim in claims:
            task = asyncio.create_task(self._handle(claim, lifecycle))
            self._tasks.add(task)
            task.add_done_callback(self._done)
        if claims and self._probing:
            await asyncio.wait(self._tasks)
        return len(claims)

    async def _paused(self, conn: AsyncConnection) -> bool:
        query = sa.select(channels.c.pause_reason, (channels.c.paused_until > sa.func.now()).label("now")).where(
            channels.c.id == self._channel
        )
        row = (await conn.execute(query)).one_or_none()
        if row is None or not row.pause_reason:
            self._probing = False
            return False
        self._probing = True
        return bool(row.now)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._waker.wake(Topic.OUTBOUND)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("send_failed", exc_info=error)

    async def _handle(self, claim: OutClaim, lifecycle: Lifecycle) -> None:
        """Deal with one claimed chat. If anything fails before the attempt is committed, the lease ends and the chat is claimed again."""
        with lifecycle.work():
            try:
                await self._deal(claim, lifecycle)
            except DatabaseDown as error:
                log.debug("lane_left_to_its_lease", reason=str(error))

    async def _deal(self, claim: OutClaim, lifecycle: Lifecycle) -> None:
        if claim.head is None:
            await self._put_back(claim.lane, 0.0)
        elif claim.head.state is not Status.QUEUED:
            async with transaction(self._engine) as conn:
                became = await resolve_open(
                    conn,
                    claim.lane,
                    claim.head,
                    policy=self._settings.unknown_policy,
                    max_strikes=self._settings.outbox_max_attempts,
                    wait_s=self._settings.unknown_wait_s,
                )
            log.warning("open_send", message_id=str(claim.head.message_id), became=became)
        elif await self._paced(claim.lane, lifecycle):
            async with transaction(self._engine) as conn:
                begun = await begin(conn, claim.lane, claim.head, worker=self._worker, lease_s=self._settings.lease_ttl_s)
            if isinstance(begun, NotBegun):
                log.info("send_not_begun", message_id=str(claim.head.message_id), why=begun.why)
            else:
                await self._call(begun)

    async def _paced(self, lane: LaneClaim, lifecycle: Lifecycle) -> bool:
        """Take from both limits, waiting a little if need be.

        Returns:
            False when the lane was given back: its pace is too far off, or the process stops.
        """
        interval = self._settings.cloud_pair_interval_s
        pair = Limit("pair", f"pair:{lane.conversation_id}", interval, PAIR_BURST)
        limits = [self._number, pair] if interval > 0 else [self._number]
        waited = 0.0
        while True:
            if lifecycle.stopping.is_set():
                await self._put_back(lane, 0.0)
                return False
            wait = await self._limiter.take(limits)
            if wait is None:
                return True
            waited += wait.seconds
            if wait.seconds > LONG_WAIT_S or waited > min(CLAIM_LEASE_S, self._settings.lease_ttl_s) / 2:
                await self._put_back(lane, wait.seconds)
                return False
            await lifecycle.pause(wait.seconds)

    async def _put_back(self, lane: LaneClaim, seconds: float) -> None:
        async with autocommit(self._engine) as conn:
            await put_back(conn, lane, seconds)

    async def _call(self, attempt: Attempt) -> None:
        head = attempt.head
        with metrics.SEND_SECONDS.labels(channel="cloud").time():
            answer = await self._client.send_text(head.body, attempt.token, wa_id=head.wa_id, bsuid=head.bsuid)
        outcome = outcome_of(
            answer,
            attempts=head.attempts,
            strikes=head.strikes,
            max_strikes=self._settings.outbox_max_attempts,
            unknown_wait_s=self._settings.unknown_wait_s,
            uniform=random.uniform,
        )
        code = str(outcome.error_code) if outcome.error_code is not None else ""
        metrics.SEND_ATTEMPTS.labels(channel="cloud", result=type(answer).__name__.lower(), code=code).inc()
        if outcome.status is not Status.SENT:
            log.warning("send_answer", message_id=str(head.message_id), became=outcome.status, why=outcome.error)
        await self._finish(attempt, outcome)
        await self._react(answer, attempt)

    async def _finish(self, attempt: Attempt, outcome: Outcome) -> None:
        """Write what is known now; while the database is down keep it, as without it the message would become unknown."""
        deadline = asyncio.get_running_loop().time() + self._settings.lease_ttl_s + self._settings.unknown_wait_s
        while True:
            try:
                async with transaction(self._engine) as conn:
                    await finish(conn, attempt, outcome)
            except DatabaseDown:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(POLL_S)
            else:
                return

    async def _react(self, answer: Answer, attempt: Attempt) -> None:
        """Do what an answer means for more than its message."""
        if isinstance(answer, Accepted) and self._probing:
            async with transaction(self._engine) as conn:
                await resume(conn, self._channel, over=True)
        if not isinstance(answer, Rejected):
            return
        if answer.error.fault is Fault.THROTTLE:
            await self._limiter.penalise(self._number, answer.retry_after_s or THROTTLE_S)
        elif answer.error.fault is Fault.STOP:
            log.error("channel_paused", channel=self._channel, code=answer.error.code, reason=answer.error.text)
            async with transaction(self._engine) as conn:
                await pause(conn, self._channel, f"{answer.error.text} ({answer.error.code})", seconds=PAUSE_S)
