"""The scheduler as a process: it answers, drains, and survives kill -9 and outages without loss or repeat. Needs PostgreSQL, Redis."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from chatbot_runtime.db.engine import transaction
from chatbot_runtime.queue.operate import decide
from chatbot_runtime.queue.states import Origin
from chatbot_runtime.scheduler.jobs import JOBS
from chatbot_runtime.scheduler.periodic import run_due
from testbed.providers.cloud_api import Provider, Rule
from tests.component.conftest import ACCESS_TOKEN
from tests.component.kit import DAY, conversation, drifted, enqueue, eventually, phone, receive, rows, run, text
from tests.component.servers import Postgres
from tests.component.servers import Redis as RedisServer
from tests.component.world import provider, scheduler_process, sent_bodies

pytestmark = pytest.mark.component


@pytest.fixture
async def cloud(engine: AsyncEngine) -> AsyncIterator[Provider]:
    async with provider(engine) as made:
        yield made


async def count(engine: AsyncEngine, *statuses: str) -> int:
    [(found,)] = await rows(
        engine, "SELECT count(*) FROM messages WHERE origin <> 'contact' AND status = ANY(:statuses)", statuses=list(statuses)
    )
    return int(found)


async def test_a_message_is_answered_and_its_statuses_come_back(
    engine: AsyncEngine, cloud: Provider, runtime_env: dict[str, str], tmp_path: Path
) -> None:
    with scheduler_process(runtime_env, cloud, tmp_path) as scheduler:
        scheduler.start()
        await scheduler.ready()
        _, taken = await cloud.receive(phone(1), "¿A qué HORA abren?")
        assert taken
        await eventually(lambda: count(engine, "read"), "the answer is read")
        [answer] = cloud.records.messages
        assert answer["to"] == phone(1)
        assert "9:00" in answer["body"]["text"]["body"]
        assert await rows(engine, "SELECT count(*) FROM inbox") == [(0,)]
        assert await drifted(engine) == []
        assert await scheduler.metric('chatbot_turns_total{outcome="reply"}') == 1
        assert await scheduler.metric('chatbot_send_attempts_total{channel="cloud",code="",result="accepted"}') == 1
        assert await scheduler.stop() == 0
        assert ACCESS_TOKEN not in scheduler.log.read_text()


async def test_killed_at_random_points_nothing_is_lost_and_nothing_sent_twice(
    engine: AsyncEngine, cloud: Provider, runtime_env: dict[str, str], tmp_path: Path
) -> None:
    """A kill after the call is settled by the status; one between commit and call leaves a message that is held, never sent twice."""
    cloud.script(Rule(latency_ms=20))
    chosen = random.Random(7)
    people, each = 12, 10
    chats = [await conversation(engine, number) for number in range(people)]
    for turn in range(each):
        for number, chat in enumerate(chats):
            await enqueue(engine, chat, f"{number}:{turn}")
    with scheduler_process(runtime_env, cloud, tmp_path, LEASE_TTL_S="3", UNKNOWN_WAIT_S="3") as scheduler:
        for _ in range(6):
            scheduler.start()
            await scheduler.ready()
            done = await count(engine, "sent", "delivered", "read")
            await eventually(lambda done=done: _more(engine, done), "it sends again")  # type: ignore[misc]
            await asyncio.sleep(chosen.uniform(0, 0.15))  # the random point, not a wait for something
            scheduler.kill()
        await receive(engine, *(text(number, "hola") for number in range(people)))
        scheduler.start()
        await scheduler.ready()
        await eventually(lambda: _all(engine, people * each + people), "every message is settled", 90)
        assert await count(engine, "dead", "failed") == 0
        held = await rows(engine, "SELECT id, body FROM messages WHERE status = 'held'")
        bodies = sent_bodies(cloud)
        assert {body: bodies[body] for _, body in held if bodies[body]} == {}
        assert sum(bodies.values()) + len(held) == people * each + people
        assert max(bodies[f"{number}:{turn}"] for number in range(people) for turn in range(each)) == 1
        assert await drifted(engine) == []
        assert "lane_drift" not in {line["event"] for line in scheduler.lines()}  # each start has looked too, and would have repaired it
        for number in range(people):
            turns = [item["body"]["text"]["body"].split(":") for item in cloud.records.messages if item["to"] == phone(number)]
            order = [int(parts[1]) for parts in turns if parts[0] == str(number)]
            assert order == sorted(order)
        for message_id, _ in held:
            async with transaction(engine) as conn:
                await decide(conn, message_id, "requeue", actor="a person", ttl=DAY)
        await eventually(lambda: _sent(engine, people * each + people), "what was held is sent too")
        assert sum(sent_bodies(cloud).values()) == people * each + people


async def _more(engine: AsyncEngine, done: int) -> bool:
    return await count(engine, "sent", "delivered", "read") > done or await count(engine, "queued") == 0


async def _all(engine: AsyncEngine, total: int) -> bool:
    return await count(engine, "read", "held", "dead", "failed") == total


async def test_two_schedulers_share_the_work_without_repeats(
    engine: AsyncEngine, cloud: Provider, runtime_env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with scheduler_process(runtime_env, cloud, tmp_path / "a") as one, scheduler_process(runtime_env, cloud, tmp_path / "b") as two:
        for item in (one, two):
            item.start()
        for item in (one, two):
            await item.ready()
        for number in range(40):
            await receive(engine, text(number, "hola"))
            await enqueue(engine, await conversation(engine, number), f"bulk {number}")
        await eventually(lambda: _all(engine, 80), "all is read")
        assert len(cloud.records.messages) == 80
        fires = await rows(engine, "SELECT schedule, fire_time, count(*) FROM schedule_fires GROUP BY 1, 2 HAVING count(*) > 1")
        assert fires == []
        gauges = [await item.metric('chatbot_outbox_messages{channel="cloud",state="queued"}') for item in (one, two)]
        assert sorted(value is None for value in gauges) == [False, True]


async def test_sigterm_ends_the_send_in_flight(engine: AsyncEngine, cloud: Provider, runtime_env: dict[str, str], tmp_path: Path) -> None:
    cloud.script(Rule(latency_ms=1500))
    await enqueue(engine, await conversation(engine), "slow")
    with scheduler_process(runtime_env, cloud, tmp_path) as scheduler:
        scheduler.start()
        await eventually(lambda: count(engine, "sending"), "the send has begun")
        assert await scheduler.stop() == 0
        assert await count(engine, "sent", "delivered", "read") == 1
        assert [line["event"] for line in scheduler.lines()][-1] == "stopped"


async def test_a_database_outage_ends_without_loss(
    engine: AsyncEngine, cloud: Provider, runtime_env: dict[str, str], tmp_path: Path, outage: Postgres
) -> None:
    cloud.script(Rule(latency_ms=300))
    with scheduler_process(runtime_env, cloud, tmp_path) as scheduler:
        scheduler.start()
        await scheduler.ready()
        for number in range(10):
            await enqueue(engine, await conversation(engine, number), f"bulk {number}")
        await eventually(lambda: count(engine, "sending"), "sends are in flight")
        outage.stop()
        await eventually(lambda: _is_down(scheduler), "it says so")
        assert (await scheduler.get("/livez"))[0] == 200
        delivery = asyncio.create_task(cloud.receive(phone(1), "hola"))
        await eventually(lambda: _refused(cloud), "the provider keeps the webhook")
        outage.start()
        _, taken = await delivery
        assert taken
        await eventually(lambda: _sent(engine, 11), "all is sent, and the message that came meanwhile is answered", 60)
        assert len(cloud.records.messages) == 11
        assert len([line for line in scheduler.lines() if line["level"] == "error"]) == 0


async def _is_down(scheduler) -> bool:  # type: ignore[no-untyped-def]
    return (await scheduler.get("/readyz"))[0] == 503


async def _sent(engine: AsyncEngine, total: int) -> bool:
    return await count(engine, "sent", "delivered", "read") == total


async def _refused(cloud: Provider) -> bool:
    return any(item["status"] == 503 for item in cloud.records.deliveries)


async def test_without_redis_messages_still_flow(
    engine: AsyncEngine, cloud: Provider, runtime_env: dict[str, str], tmp_path: Path, redis_outage: RedisServer
) -> None:
    with scheduler_process(runtime_env, cloud, tmp_path) as scheduler:
        scheduler.start()
        await scheduler.ready()
        redis_outage.stop()
        for number in range(10):
            await receive(engine, text(number, "hola"))
        await eventually(lambda: _all(engine, 10), "all is answered")
        assert await scheduler.metric("chatbot_redis_up") == 0
        assert (await scheduler.get("/readyz"))[0] == 200
        redis_outage.start()
        await eventually(lambda: _is_up(scheduler), "Redis is used again")
        events = [line["event"] for line in scheduler.lines()]
        assert (events.count("redis_down"), events.count("redis_up")) == (1, 1)


async def _is_up(scheduler) -> bool:  # type: ignore[no-untyped-def]
    return await scheduler.metric("chatbot_redis_up") == 1


async def test_a_refused_token_pauses_the_channel_and_a_good_one_resumes_it(
    engine: AsyncEngine, owner_engine: AsyncEngine, cloud: Provider, runtime_env: dict[str, str], tmp_path: Path
) -> None:
    cloud.script(Rule(outcome="error", code=190))
    for number in range(20):
        await enqueue(engine, await conversation(engine, number), f"bulk {number}")
    with scheduler_process(runtime_env, cloud, tmp_path) as scheduler:
        scheduler.start()
        [(reason,)] = await eventually(
            lambda: rows(engine, "SELECT pause_reason FROM channels WHERE pause_reason <> ''"), "the channel is paused"
        )
        assert "190" in reason
        await eventually(lambda: _none_in_flight(engine), "nothing is in flight")
        tried = len(cloud.records.requests)
        cloud.script()
        async with asyncio.timeout(30):
            await rows(owner_engine, "UPDATE channels SET paused_until = now() RETURNING id")
        await eventually(lambda: _all(engine, 20), "all is read", 60)
        assert tried <= 20
        assert len(cloud.records.messages) == 20
        assert await rows(engine, "SELECT action FROM audit_events ORDER BY id") == [("channel.pause",), ("channel.resume",)]
        await eventually(lambda: _sealed(engine, 2), "both events are sealed")


async def _none_in_flight(engine: AsyncEngine) -> bool:
    return await count(engine, "sending") == 0


async def _sealed(engine: AsyncEngine, number: int) -> bool:
    return await rows(engine, "SELECT count(*) FROM audit_seals") == [(number,)]


async def test_an_unknown_send_without_a_status_is_held_for_a_person(
    engine: AsyncEngine, cloud: Provider, runtime_env: dict[str, str], tmp_path: Path
) -> None:
    cloud.script(Rule(outcome="drop", accepted=False, times=1))
    chat = await conversation(engine)
    first = await enqueue(engine, chat, "first", Origin.BULK)
    await enqueue(engine, chat, "second", Origin.BULK)
    with scheduler_process(runtime_env, cloud, tmp_path, UNKNOWN_WAIT_S="1") as scheduler:
        scheduler.start()
        await eventually(lambda: count(engine, "held"), "it is held")
        await eventually(lambda: count(engine, "read"), "the chat goes on")
        assert sent_bodies(cloud) == {"second": 1}
        assert await rows(engine, "SELECT status FROM messages WHERE id = :id", id=first.message_id) == [("held",)]
        assert await eventually(
            lambda: scheduler.metric('chatbot_unknown_outcomes_total{channel="cloud",resolution="held"}'), "it is counted"
        )


async def test_a_cut_connection_after_acceptance_is_settled_by_the_status(
    engine: AsyncEngine, cloud: Provider, runtime_env: dict[str, str], tmp_path: Path
) -> None:
    cloud.script(Rule(outcome="drop", accepted=True))
    for number in range(5):
        await enqueue(engine, await conversation(engine, number), f"bulk {number}")
    with scheduler_process(runtime_env, cloud, tmp_path, UNKNOWN_WAIT_S="60") as scheduler:
        scheduler.start()
        await eventually(lambda: _all(engine, 5), "all is read")
        assert len(cloud.records.messages) == 5


async def test_a_result_of_an_earlier_process_is_found_again_and_never_shown_as_a_fault(
    engine: AsyncEngine, cloud: Provider, runtime_env: dict[str, str], tmp_path: Path
) -> None:
    """All jobs have run for their present times, so that a new process owes nothing; its gauges must be absent or true nevertheless."""
    for job in JOBS:
        assert await run_due(engine, job)
    await enqueue(engine, await conversation(engine))
    await run(engine, "UPDATE chat_lanes SET pending = pending + 3, next_at = 'infinity'")
    with scheduler_process(runtime_env, cloud, tmp_path) as scheduler:
        scheduler.start()
        seen = await eventually(lambda: _both(scheduler), "the gauges are known")
        assert seen == {"chatbot_audit_chain_ok": 1, "chatbot_lane_drift": 1}


async def _both(scheduler) -> dict[str, float] | None:  # type: ignore[no-untyped-def]
    _, page = await scheduler.get("/metrics")
    found = dict(row.rsplit(" ", 1) for row in page.splitlines() if row.startswith(("chatbot_audit_chain_ok ", "chatbot_lane_drift ")))
    values = {name: float(value) for name, value in found.items()}
    assert 0 not in values.values()
    return values if len(values) == 2 else None


async def test_during_an_outage_no_reading_of_the_queue_is_shown(
    engine: AsyncEngine, cloud: Provider, runtime_env: dict[str, str], tmp_path: Path, outage: Postgres
) -> None:
    names = (
        "chatbot_lane_depth_max",
        "chatbot_backpressure_state",
        'chatbot_outbox_oldest_age_seconds{channel="cloud"}',
        'chatbot_pacing_headroom_ratio{limit="number"}',
        'chatbot_table_bytes{table="messages"}',
    )
    await enqueue(engine, await conversation(engine))
    with scheduler_process(runtime_env, cloud, tmp_path) as scheduler:
        scheduler.start()

        async def shown(wanted: bool) -> bool:
            return [await scheduler.metric(name) is not None for name in names] == [wanted] * len(names)

        await eventually(lambda: shown(True), "the queue is shown")
        outage.stop()
        await eventually(lambda: shown(False), "the readings are taken back")
        assert await scheduler.metric("chatbot_schema_compatible") == 1
        outage.start()
        await eventually(lambda: shown(True), "the queue is shown again")
