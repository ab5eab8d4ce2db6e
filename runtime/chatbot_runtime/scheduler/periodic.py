"""Periodic jobs: the planned time of each run is a unique key, written in the same transaction as the job's effect.

So of any number of schedulers exactly one does a run, a crash in the middle leaves nothing, and after an outage only the newest missed run
is made up for. What is too much for one transaction follows in others; a crash leaves it to the next run.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chatbot_runtime import metrics
from chatbot_runtime.db.engine import transaction
from chatbot_runtime.db.schema_queue import schedule_fires

DETAIL_MAX: Final = 500
ROUNDS_MAX: Final = 50
"""Transactions of one run's rest; what is left then is the next run's, so that other jobs come to their turn."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """A periodic job.

    Attributes:
        name: key of its runs.
        every_s: seconds between planned times, which are multiples of it since 1970.
        run: the effect, in the given transaction; returns one sentence on what it did.
        rest: more of the effect, in a transaction of its own; returns whether there may be still more. None when one transaction does it.
        at_start: whether a process does it once when it starts as well, because a gauge of the process holds the result.
    """

    name: str
    every_s: int
    run: Callable[[AsyncConnection], Awaitable[str]]
    rest: Callable[[AsyncConnection], Awaitable[bool]] | None = None
    at_start: bool = False


def planned(now: datetime, every_s: int) -> datetime:
    """Return the newest planned time that is not in the future. Pure."""
    return datetime.fromtimestamp(int(now.timestamp()) // every_s * every_s, UTC)


async def run_due(engine: AsyncEngine, job: Job) -> bool:
    """Run a job if its newest planned time has not been run by anybody.

    Returns:
        Whether it ran here.

    Raises:
        DatabaseDown: nothing happened; it is due again.
    """
    async with transaction(engine) as conn:
        # Without this lock a second scheduler would wait at the unique key for as long as the job runs.
        key = sa.func.hashtextextended(f"schedule:{job.name}", 0)
        if not (await conn.execute(sa.select(sa.func.pg_try_advisory_xact_lock(key)))).scalar_one():
            return False
        now = (await conn.execute(sa.select(sa.func.clock_timestamp()))).scalar_one()
        fire = {"schedule": job.name, "fire_time": planned(now, job.every_s)}
        taken = insert(schedule_fires).values(fire).on_conflict_do_nothing().returning(schedule_fires.c.schedule)
        if (await conn.execute(taken)).one_or_none() is None:
            return False
        detail = await job.run(conn)
        mine = sa.and_(schedule_fires.c.schedule == job.name, schedule_fires.c.fire_time == fire["fire_time"])
        done = {"finished_at": sa.func.clock_timestamp(), "detail": detail[:DETAIL_MAX]}
        await conn.execute(schedule_fires.update().where(mine).values(done))
    _note(job, detail)
    return True


async def run_rest(engine: AsyncEngine, job: Job, stopping: Callable[[], bool] = lambda: False) -> int:
    """Do what a run has left over, each round in a transaction of its own.

    Args:
        engine: connection pool.
        job: has just run.
        stopping: ends it before the next round.

    Returns:
        How many rounds it took.

    Raises:
        DatabaseDown: earlier rounds are done; what is left is the next run's.
    """
    more, rounds = job.rest is not None, 0
    while job.rest is not None and more and rounds < ROUNDS_MAX and not stopping():
        async with transaction(engine) as conn:
            more = await job.rest(conn)
        rounds += 1
    if more and rounds:
        log.warning("job_left_over", job=job.name, rounds=rounds)
    return rounds


async def run_now(engine: AsyncEngine, job: Job) -> None:
    """Run a job that is not due.

    Raises:
        DatabaseDown: nothing happened.
    """
    async with transaction(engine) as conn:
        detail = await job.run(conn)
    _note(job, detail)


def _note(job: Job, detail: str) -> None:
    metrics.JOB_LAST_SUCCESS.labels(job=job.name).set_to_current_time()
    log.info("job_done", job=job.name, detail=detail)
