"""Pacing with Redis and without, leases, periodic jobs and statistics. Needs PostgreSQL and Redis."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from chatbot_runtime.channels.pause import pause, resume
from chatbot_runtime.db.engine import autocommit, transaction
from chatbot_runtime.queue import leases
from chatbot_runtime.queue.states import Origin
from chatbot_runtime.queue.stats import read_stats, waiting_total
from chatbot_runtime.redis.client import RedisClient
from chatbot_runtime.redis.limiter import PENALTY_MAX_S, Limit, Limiter
from chatbot_runtime.scheduler.jobs import JOBS
from chatbot_runtime.scheduler.periodic import Job, run_due
from chatbot_runtime.settings import Settings
from tests.component.kit import CHANNEL, conversation, drifted, enqueue, receive, rows, run, text

pytestmark = pytest.mark.component

NUMBER = Limit("number", "rate:1", step_s=30.0, burst=5)
PAIR = Limit("pair", "pair:1", step_s=60.0, burst=2)


@pytest.fixture(params=["redis", "postgres"])
async def limiter(request: pytest.FixtureRequest, engine: AsyncEngine, settings: Settings) -> AsyncIterator[Limiter]:
    """The limiter in each of its two stores: the same behaviour at another rate."""
    name = f"{request.node.name}"
    client = (
        RedisClient.of(settings.model_copy(update={"instance_name": name})) if request.param == "redis" else RedisClient(None, prefix="")
    )
    yield Limiter(client, engine)
    await client.close()


async def test_many_takers_at_once_get_exactly_the_burst(limiter: Limiter) -> None:
    waits = await asyncio.gather(*(limiter.take([NUMBER]) for _ in range(20)))
    assert sum(wait is None for wait in waits) == NUMBER.burst


async def test_limits_are_taken_together_or_not_at_all(limiter: Limiter) -> None:
    taken = [await limiter.take([NUMBER, PAIR]) for _ in range(4)]
    assert [wait is None for wait in taken] == [True, True, False, False]
    assert taken[-1] is not None
    assert taken[-1].limit is PAIR
    other = Limit("pair", "pair:2", 60.0, 2)
    assert await limiter.take([NUMBER, other]) is None  # the refusals cost the number nothing
    assert await limiter.take([NUMBER, other]) is None


async def test_a_penalty_stops_everybody_for_a_while(limiter: Limiter) -> None:
    await limiter.penalise(NUMBER, 500)
    wait = await limiter.take([NUMBER])
    assert wait is not None
    assert 490 < wait.seconds <= 560


async def test_the_headroom_falls_with_each_send_and_is_gone_during_a_penalty(limiter: Limiter) -> None:
    assert await limiter.headroom(NUMBER) == 1
    for taken in range(1, NUMBER.burst + 1):
        await limiter.take([NUMBER])
        assert await limiter.headroom(NUMBER) == pytest.approx(1 - taken / NUMBER.burst, abs=0.05)
    await limiter.penalise(NUMBER, 500)
    assert await limiter.headroom(NUMBER) == 0


async def test_a_lease_has_one_holder_and_a_rising_epoch(engine: AsyncEngine) -> None:
    async with autocommit(engine) as conn:
        first = await leases.acquire(conn, "web:a", "one", 60)
        assert first is not None
        assert await leases.acquire(conn, "web:a", "two", 60) is None
        assert await leases.acquire(conn, "web:a", "one", 60) == first
        assert await leases.renew(conn, first, 60)
        await run(engine, "UPDATE worker_leases SET expires_at = now() - interval '1 s'")
        assert not await leases.renew(conn, first, 60)
        second = await leases.acquire(conn, "web:a", "two", 60)
        assert second is not None
        assert second.epoch > first.epoch
        assert not await leases.is_held(conn, first)
        await leases.release(conn, first)  # a stale holder can't take it from the new one
        assert await leases.is_held(conn, second)
        await leases.release(conn, second)
        third = await leases.acquire(conn, "web:a", "one", 60)
        assert third is not None
        assert third.epoch > second.epoch


async def test_of_many_who_want_a_lease_one_gets_it(engine: AsyncEngine) -> None:
    async def want(number: int) -> bool:
        async with autocommit(engine) as conn:
            return await leases.acquire(conn, "web:a", f"holder {number}", 60) is not None

    assert sum(await asyncio.gather(*(want(number) for number in range(8)))) == 1


async def test_a_run_happens_once_however_many_schedulers_want_it(engine: AsyncEngine) -> None:
    ran = []

    async def effect(conn: AsyncConnection) -> str:
        ran.append(1)
        await asyncio.sleep(0)
        return "done"

    job = Job("test", 86_400, effect)
    done = await asyncio.gather(*(run_due(engine, job) for _ in range(6)))
    assert (sum(done), len(ran)) == (1, 1)
    assert not await run_due(engine, job)
    assert await rows(engine, "SELECT schedule, detail FROM schedule_fires") == [("test", "done")]


async def test_a_run_that_fails_leaves_nothing_and_is_due_again(engine: AsyncEngine) -> None:
    async def breaks(conn: AsyncConnection) -> str:
        await resume(conn, CHANNEL)
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        await run_due(engine, Job("test", 86_400, breaks))
    assert await rows(engine, "SELECT count(*) FROM schedule_fires") == [(0,)]


async def test_all_jobs_run_on_a_real_database(engine: AsyncEngine) -> None:
    chat = await conversation(engine)
    await enqueue(engine, chat)
    await run(
        engine,
        "INSERT INTO raw_events (reason, payload, received_at) VALUES ('old', '{}', now() - interval '40 days'), ('new', '{}', now())",
    )
    for job in JOBS:
        assert await run_due(engine, job)
    assert await rows(engine, "SELECT reason FROM raw_events") == [("new",)]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE chat_lanes SET pending = pending + 3", "UPDATE chat_lanes SET pending = 0", "UPDATE chat_lanes SET open_id = 99",
        "DELETE FROM chat_lanes", "DELETE FROM outbox WHERE priority = 2", "DELETE FROM inbox",
    ],
)  # fmt: skip
async def test_lanes_that_drifted_are_found_and_repaired(engine: AsyncEngine, damage: str) -> None:
    chat = await conversation(engine)
    await enqueue(engine, chat)
    await enqueue(engine, chat, origin=Origin.BOT, mode_epoch=0)
    await receive(engine, text(1))
    assert await drifted(engine) == []
    await run(engine, damage)
    assert await drifted(engine)
    assert await drifted(engine) == []


async def test_statistics_say_what_waits_and_what_is_paused(engine: AsyncEngine) -> None:
    chat = await conversation(engine)
    for origin in (Origin.BULK, Origin.BULK, Origin.HUMAN):
        await enqueue(engine, chat, origin=origin)
    await receive(engine, text(2))
    await run(engine, "UPDATE outbox SET created_at = now() - interval '100 s' WHERE priority = 0")
    async with transaction(engine) as conn:
        await pause(conn, CHANNEL, "test", seconds=None)
        await pause(conn, CHANNEL, "again", seconds=1)
    async with transaction(engine) as conn:
        stats = await read_stats(conn)
        assert await waiting_total(conn) == 3
    assert [(item.state, item.priority, item.count) for item in stats.depths] == [("queued", 0, 1), ("queued", 2, 2)]
    assert (stats.waiting(), stats.waiting("cloud:other"), stats.inbox) == (3, 0, 1)
    assert 99 < stats.oldest_age_s(CHANNEL) < 200
    assert [(item.channel, item.reason) for item in stats.pauses] == [(CHANNEL, "again")]
    async with transaction(engine) as conn:
        assert await resume(conn, CHANNEL, actor_kind="user", actor="u1")
        assert not await resume(conn, CHANNEL)
        assert (await read_stats(conn)).pauses == ()
    assert await rows(engine, "SELECT action, actor FROM audit_events ORDER BY id") == [
        ("channel.pause", "sender"),
        ("channel.resume", "u1"),
    ]


async def test_the_sender_ends_no_pause_that_still_lasts(engine: AsyncEngine) -> None:
    await conversation(engine)
    async with transaction(engine) as conn:
        await pause(conn, CHANNEL, "a person's", seconds=None)
        await pause(conn, CHANNEL, "the token is refused", seconds=0)
    async with transaction(engine) as conn:
        assert not await resume(conn, CHANNEL, over=True)
    await run(engine, "UPDATE channels SET paused_until = now()")
    async with transaction(engine) as conn:
        assert await resume(conn, CHANNEL, over=True)


async def test_a_huge_penalty_is_cut(limiter: Limiter) -> None:
    await limiter.penalise(NUMBER, 86_400)
    wait = await limiter.take([NUMBER])
    assert wait is not None
    assert PENALTY_MAX_S - 10 < wait.seconds <= PENALTY_MAX_S + 2 * NUMBER.step_s


async def test_a_clock_that_was_put_back_does_not_block_for_longer_than_a_penalty(engine: AsyncEngine, limiter: Limiter) -> None:
    """What was noted by a clock a day ahead is seen as what it can't be, once and not with each look anew."""
    store = limiter._redis
    if store.configured:
        await store.run("SET", store.prefix + NUMBER.key, str(round((time.time() + 86_400) * 1e6)))
    else:
        await run(engine, "INSERT INTO rate_limits VALUES (:key, now() + interval '1 day')", key=NUMBER.key)
    first = await limiter.take([NUMBER, PAIR])
    await asyncio.sleep(0.2)
    second = await limiter.take([NUMBER, PAIR])
    assert first is not None
    assert second is not None
    assert first.limit is NUMBER
    assert first.seconds <= PENALTY_MAX_S + 2 * NUMBER.step_s
    assert second.seconds <= first.seconds - 0.2
    assert await limiter.take([PAIR]) is None
