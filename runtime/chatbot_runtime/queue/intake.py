"""Stores deliveries that come at the same time together: what arrives while a statement is under way shares the next one.

Nobody waits for company: a delivery alone goes at once. Under a flood one commit carries many deliveries, and each of them is answered only
after that commit.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from chatbot_runtime.db.engine import autocommit
from chatbot_runtime.errors import DatabaseDown
from chatbot_runtime.queue.inbound import Inbound
from chatbot_runtime.queue.ingest import NotJson, record_inbound

WRITERS: Final = 2
"""Statements at once: one is prepared while the other is committed."""

TOGETHER_MAX: Final = 64
"""Deliveries in one statement."""

REFUSALS: Final = (DBAPIError, NotJson)
"""What says that something in a delivery can't be stored, however often it is tried."""

log = structlog.get_logger(__name__)


class Intake:
    """The intake of one process."""

    def __init__(self, engine: AsyncEngine, *, quiet_s: float) -> None:
        self._engine = engine
        self._quiet_s = quiet_s
        self._waiting: deque[tuple[Inbound, asyncio.Future[None]]] = deque()
        self._writers: set[asyncio.Task[None]] = set()

    async def store(self, inbound: Inbound) -> None:
        """Return once a delivery is durable.

        Raises:
            DatabaseDown: nothing of it was stored, or it is not known; the provider repeats it.
            REFUSALS: something in it can't be stored, and nothing of it was.
        """
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((inbound, done))
        self._start_writer()
        await done

    def _start_writer(self) -> None:
        if self._waiting and len(self._writers) < WRITERS:
            writer = asyncio.create_task(self._write())
            self._writers.add(writer)
            writer.add_done_callback(self._ended)

    def _ended(self, writer: asyncio.Task[None]) -> None:
        """Follow a writer: what came while it was ending, or waits as a fault of ours has ended it, would find none."""
        self._writers.discard(writer)
        if writer.cancelled():
            _fail(self._waiting, asyncio.CancelledError())
            self._waiting.clear()
            return
        if (error := writer.exception()) is not None:
            log.error("intake_writer_failed", exc_info=error)
        self._start_writer()

    async def _write(self) -> None:
        """Store what waits until nothing does."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(TOGETHER_MAX, len(self._waiting)))]
            try:
                await self._record_all(batch)
            except DatabaseDown as error:
                _fail(batch, error)
            except BaseException as error:
                _fail(batch, error)  # a fault of ours, or the end of the process: whoever waits must learn it
                raise
            else:
                for _, done in batch:
                    _succeed(done)

    async def _record_all(self, batch: list[tuple[Inbound, asyncio.Future[None]]]) -> None:
        try:
            await self._record(*(inbound for inbound, _ in batch))
        except REFUSALS as error:
            await self._one_by_one(batch, error)

    async def _one_by_one(self, batch: list[tuple[Inbound, asyncio.Future[None]]], error: Exception) -> None:
        """Find the delivery that can't be stored, so that it takes none of the others with it."""
        if len(batch) == 1:
            _fail(batch, error)
            return
        log.warning("intake_split", cause=cause_of(error), deliveries=len(batch))
        for item in batch:
            try:
                await self._record(item[0])
            except (DatabaseDown, *REFUSALS) as own:
                _fail([item], own)
            else:
                _succeed(item[1])

    async def _record(self, *deliveries: Inbound) -> None:
        together = Inbound(
            tuple(item for inbound in deliveries for item in inbound.messages),
            tuple(item for inbound in deliveries for item in inbound.statuses),
            tuple(item for inbound in deliveries for item in inbound.unrecognised),
        )
        async with autocommit(self._engine, op="ingest") as conn:
            await record_inbound(conn, together, quiet_s=self._quiet_s)


def cause_of(refusal: BaseException) -> str:
    """Name a refusal in logs."""
    return type(refusal.orig if isinstance(refusal, DBAPIError) else refusal).__name__


def _succeed(done: asyncio.Future[None]) -> None:
    if not done.done():  # its request may have gone away
        done.set_result(None)


def _fail(batch: Iterable[tuple[Inbound, asyncio.Future[None]]], error: BaseException) -> None:
    for _, done in batch:
        if not done.done():
            done.set_exception(error if isinstance(error, Exception) else DatabaseDown("the process is ending"))
