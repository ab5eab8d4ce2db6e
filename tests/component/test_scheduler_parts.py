"""Parts of the scheduler inside this process, where a test can make one fail or hang. Needs PostgreSQL and Redis."""

import asyncio
import time
from collections import Counter
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chatbot_runtime.db.engine import transaction
from chatbot_runtime.lifecycle import Lifecycle
from chatbot_runtime.queue.enqueue import Outgoing, enqueue_message
from chatbot_runtime.queue.reconcile import BATCH
from chatbot_runtime.queue.states import Origin
from chatbot_runtime.scheduler import main
from chatbot_runtime.scheduler.jobs import JOBS
from chatbot_runtime.scheduler.periodic import ROUNDS_MAX, Job, run_due, run_rest
from chatbot_runtime.settings import Settings
from testbed.providers.cloud_api import Provider, Rule
from tests.component.kit import NO_LIMIT, conversation, drifted, enqueue, eventually, rows
from tests.component.servers import _free_port
from tests.component.world import provider

pytestmark = pytest.mark.component

DRAIN_S = 2


@pytest.fixture
def own(settings: Settings) -> Settings:
    return settings.model_copy(update={"metrics_port": _free_port(), "drain_timeout_s": DRAIN_S, "cloud_pair_interval_s": 0.0})


async def test_whatever_is_under_way_the_end_comes_in_time(engine: AsyncEngine, own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()

    async def endless(_conn: AsyncConnection) -> str:
        begun.set()
        await asyncio.sleep(3600)
        return "never"

    monkeypatch.setattr(main, "JOBS", (Job("endless", 1, endless),))
    async with provider(engine) as cloud:
        cloud.script(Rule(outcome="hang", hang_seconds=3600))
        await enqueue(engine, await conversation(engine))
        lifecycle = Lifecycle(own.drain_timeout_s)
        running = asyncio.create_task(main.Scheduler(own.model_copy(update={"wa_api_base": cloud.url}), lifecycle).run())
        await eventually(lambda: _both(begun, cloud), "a job and a call are under way")
        stopped = time.monotonic()
        lifecycle.stopping.set()
        async with asyncio.timeout(30):
            assert await running == 0
        assert DRAIN_S - 0.1 <= time.monotonic() - stopped < DRAIN_S + main.CLOSE_S + 1


async def _both(begun: asyncio.Event, cloud: Provider) -> bool:
    return begun.is_set() and bool(cloud.records.requests)


async def test_a_job_that_fails_keeps_no_other_from_running(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: Counter[str] = Counter()

    def job(name: str, statement: str) -> Job:
        async def run(conn: AsyncConnection) -> str:
            tries[name] += 1
            await conn.execute(sa.text(statement))
            return "done"

        return Job(name, 1, run, at_start=True)

    jobs = (job("wrong", "SELECT 1 / 0"), job("slow", "SELECT pg_sleep(60)"), job("good", "SELECT 1"))
    monkeypatch.setattr(main, "JOBS", jobs)
    own = own.model_copy(update={"db_statement_timeout_ms": 500})
    lifecycle = Lifecycle(own.drain_timeout_s)
    running = asyncio.create_task(main.Scheduler(own, lifecycle).run())
    await eventually(lambda: _many(tries), "the good one has run again and again")
    lifecycle.stopping.set()
    assert await running == 0
    assert (tries["wrong"], tries["slow"]) == (1, 1), "one that has just failed waits"


async def test_all_that_waited_too_long_expires_in_one_run_a_transaction_a_batch(engine: AsyncEngine) -> None:
    chats = [await conversation(engine, number) for number in range(5)]
    count = 2 * BATCH + 7
    async with transaction(engine) as conn:
        for number in range(count):
            message = Outgoing(chats[number % 5], Origin.BULK, "hi")
            await enqueue_message(conn, message, ttl=timedelta(seconds=-1), backpressure=NO_LIMIT)
    await enqueue(engine, chats[0], "still in time")
    [job] = [job for job in JOBS if job.name == "expire"]
    assert await run_due(engine, job)
    assert await run_rest(engine, job) == 2
    assert await rows(engine, "SELECT status, count(*), count(DISTINCT xmin::text) FROM messages GROUP BY 1 ORDER BY 1") == [
        ("expired", count, 3),
        ("queued", 1, 1),
    ]
    assert await drifted(engine) == []


async def test_a_rest_without_end_leaves_time_for_other_jobs_and_a_stop_ends_it(engine: AsyncEngine) -> None:
    async def nothing(_conn: AsyncConnection) -> str:
        return ""

    async def endless(_conn: AsyncConnection) -> bool:
        return True

    job = Job("endless", 1, nothing, rest=endless)
    assert await run_rest(engine, job) == ROUNDS_MAX
    assert await run_rest(engine, job, lambda: True) == 0


async def _many(tries: Counter[str]) -> bool:
    return tries["good"] >= 3
