"""Parts of the scheduler inside this process, where a test can make one fail or hang. Needs PostgreSQL and Redis."""

import asyncio
import time

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chatbot_runtime.lifecycle import Lifecycle
from chatbot_runtime.scheduler import main
from chatbot_runtime.scheduler.periodic import Job
from chatbot_runtime.settings import Settings
from testbed.providers.cloud_api import Provider, Rule
from tests.component.kit import conversation, enqueue, eventually
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
