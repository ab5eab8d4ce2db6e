"""POST and GET /api/messages: once for each idempotency key, durable before the answer, audited. Needs PostgreSQL and Redis."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from chatbot_runtime.redis.wake import Topic
from tests.component.running import NUMBER_ID, Api, api_fixture, wait_until  # noqa: F401  a fixture
from tests.component.servers import Database

pytestmark = pytest.mark.component

TO = "5215512345678"


async def send(api: Api, key: str, body: dict[str, Any]) -> httpx.Response:
    return await api.client.post("/api/messages", json=body, headers={"idempotency-key": key})


async def test_a_message_is_queued_durably_and_can_be_followed(api: Api, database: Database) -> None:
    await api.log_in()
    answer = await send(api, "k1", {"to": f"+{TO}", "text": "hola"})
    assert answer.status_code == 202, answer.text
    message = answer.json()
    assert message["status"] == "queued"
    assert message["channel"] == f"cloud:{NUMBER_ID}"
    assert database.sql("SELECT body FROM messages JOIN outbox ON outbox.message_id = messages.id") == ["hola"]
    assert (await api.client.get(f"/api/messages/{message['id']}")).json() == message


async def test_a_repeat_returns_the_first_result_and_queues_nothing(api: Api, database: Database) -> None:
    await api.log_in()
    first = await send(api, "k1", {"to": TO, "text": "hola"})
    again = await send(api, "k1", {"to": TO, "text": "hola"})
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    assert database.sql("SELECT count(*) FROM outbox") == ["1"]


async def test_the_same_request_ten_times_at_once_queues_one(api: Api, database: Database) -> None:
    await api.log_in()
    answers = await asyncio.gather(*(send(api, "storm", {"to": TO, "text": "hola"}) for _ in range(10)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert database.sql("SELECT count(*) FROM outbox") == ["1"]


async def test_a_key_used_for_another_text_is_a_conflict(api: Api) -> None:
    await api.log_in()
    await send(api, "k1", {"to": TO, "text": "hola"})
    assert (await send(api, "k1", {"to": TO, "text": "adios"})).status_code == 409


@pytest.mark.parametrize(
    "body",
    [
        {"text": "no recipient"},
        {"to": TO, "conversationId": str(uuid4()), "text": "two recipients"},
        {"to": "not a number", "text": "x"},
        {"to": TO, "text": ""},
        {"to": TO, "text": "   "},
        {"to": TO, "text": "x" * 4097},
        {"to": TO, "text": "nul \0"},
        {"to": TO, "text": "x", "origin": "bot"},
        {"to": TO, "text": "x", "channel": "cloud:other"},
        {"to": TO, "text": "x", "unknown": 1},
    ],
)
async def test_what_cannot_be_sent_is_refused_and_leaves_nothing(api: Api, database: Database, body: dict[str, Any]) -> None:
    await api.log_in()
    answer = await send(api, "k1", body)
    assert answer.status_code == 422, answer.text
    assert database.sql("SELECT count(*) FROM messages") == ["0"]


async def test_an_unknown_conversation_or_message_is_404(api: Api) -> None:
    await api.log_in()
    assert (await send(api, "k1", {"conversationId": str(uuid4()), "text": "x"})).status_code == 404
    assert (await api.client.get(f"/api/messages/{uuid4()}")).status_code == 404
    assert (await api.client.get("/api/messages/not-a-uuid")).status_code == 422


async def test_the_idempotency_key_is_required(api: Api) -> None:
    await api.log_in()
    answer = await api.client.post("/api/messages", json={"to": TO, "text": "x"})
    assert answer.status_code == 422
    assert answer.json()["fields"][0]["field"] == "header.idempotency-key"


async def test_sending_is_audited_without_the_text_or_the_number(api: Api) -> None:
    await api.log_in()
    message = (await send(api, "k1", {"to": TO, "text": "very private"})).json()
    event = (await api.client.get("/api/audit?limit=1")).json()["events"][0]
    assert (event["action"], event["target"]) == ("message.send", message["id"])
    assert "private" not in str(event)
    assert TO not in str(event)


async def test_a_person_who_writes_takes_the_conversation_over(api: Api, database: Database) -> None:
    await api.log_in()
    await send(api, "k1", {"to": TO, "text": "hola"})
    assert database.sql("SELECT mode FROM conversations") == ["human"]


@pytest.fixture
async def wakes(api: Api) -> AsyncIterator[list[str]]:
    heard: list[str] = []

    async def listen() -> None:
        async with api.services.redis.raw.pubsub() as subscription:
            await subscription.subscribe(f"{api.services.redis.prefix}wake")
            async for message in subscription.listen():
                heard.append(str(message["data"]))

    tasks = [asyncio.create_task(listen()), asyncio.create_task(api.services.wakes.run(api.services.lifecycle))]
    await wait_until(lambda: heard, "subscribed")
    yield heard
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_sender_is_woken_after_the_commit(api: Api, wakes: list[str]) -> None:
    await api.log_in()
    await send(api, "k1", {"to": TO, "text": "hola"})
    await wait_until(lambda: Topic.OUTBOUND in wakes, "the wake")
