"""Deliveries that come together are stored together, and still succeed or fail each on its own. Needs PostgreSQL."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from chatbot_runtime.errors import DatabaseDown
from chatbot_runtime.queue.inbound import Inbound
from chatbot_runtime.queue.ingest import NotJson
from chatbot_runtime.queue.intake import Intake
from tests.component.kit import drifted, rows, text
from tests.component.servers import Database, Postgres
from tests.component.wiretap import Wiretap

pytestmark = pytest.mark.component


def delivery(person: int, provider_id: str = "") -> Inbound:
    return Inbound((text(person, provider_id=provider_id),))


async def test_a_flood_shares_statements_and_loses_nothing(database: Database) -> None:
    async with Wiretap(database.server.port) as wire:
        url = database.url().replace(f":{database.server.port}/", f":{wire.port}/").replace("postgresql://", "postgresql+asyncpg://")
        engine = create_async_engine(url, pool_size=4)
        try:
            intake = Intake(engine, quiet_s=0)
            await asyncio.gather(*(intake.store(delivery(number)) for number in range(4)))  # connects
            before = wire.round_trips
            await asyncio.gather(*(intake.store(delivery(number % 7, f"flood.{number % 150}")) for number in range(200)))
            assert wire.round_trips - before <= 20
            assert await rows(engine, "SELECT count(*) FROM messages") == [(154,)]
            assert await drifted(engine) == []
        finally:
            await engine.dispose()


async def test_one_that_the_database_refuses_takes_no_other_with_it(engine: AsyncEngine) -> None:
    intake = Intake(engine, quiet_s=0)
    bad = replace(text(1), kind=None)  # type: ignore[arg-type]
    items = [delivery(number) for number in range(10)]
    items[5] = Inbound((bad,))
    done = await asyncio.gather(*(intake.store(item) for item in items), return_exceptions=True)
    assert [isinstance(item, DBAPIError) for item in done] == [number == 5 for number in range(10)]
    assert await rows(engine, "SELECT count(*) FROM messages") == [(9,)]


async def test_one_that_is_no_json_takes_no_other_with_it(engine: AsyncEngine) -> None:
    intake = Intake(engine, quiet_s=0)
    items = [delivery(number) for number in range(10)]
    items[5] = Inbound((replace(text(1), payload={"not": object()}),))
    done = await asyncio.gather(*(intake.store(item) for item in items), return_exceptions=True)
    assert [isinstance(item, NotJson) for item in done] == [number == 5 for number in range(10)]
    assert await rows(engine, "SELECT count(*) FROM messages") == [(9,)]


async def test_a_request_that_went_away_does_not_disturb_the_others(engine: AsyncEngine) -> None:
    intake = Intake(engine, quiet_s=0)
    tasks = [asyncio.create_task(intake.store(delivery(number))) for number in range(10)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [item for index, item in enumerate(done) if index != 3] == [None] * 9


async def test_while_the_database_is_down_every_delivery_learns_it(engine: AsyncEngine, outage: Postgres) -> None:
    intake = Intake(engine, quiet_s=0)
    await intake.store(delivery(1))
    await asyncio.to_thread(outage.stop)
    done = await asyncio.gather(*(intake.store(delivery(number)) for number in range(20)), return_exceptions=True)
    assert all(isinstance(item, DatabaseDown) for item in done)
    await asyncio.to_thread(outage.start)
    await intake.store(delivery(2))
    assert await rows(engine, "SELECT count(*) FROM messages") == [(2,)]
