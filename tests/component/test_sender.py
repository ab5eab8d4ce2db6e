"""The Cloud API sender and client against the fake provider: each kind of answer, pacing, pause and doubt. Needs PostgreSQL and Redis."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from chatbot_runtime.channels.cloud.client import ANSWER_MAX, Accepted, CloudClient, NotSent, Rejected, Unknown
from chatbot_runtime.channels.cloud.errors import Fault
from chatbot_runtime.channels.cloud.sender import CloudSender
from chatbot_runtime.lifecycle import Lifecycle
from chatbot_runtime.queue.states import Origin
from chatbot_runtime.redis.client import RedisClient
from chatbot_runtime.redis.limiter import Limiter
from chatbot_runtime.redis.wake import Waker
from chatbot_runtime.settings import Settings
from testbed.providers.cloud_api import Provider, Rule
from tests.component.kit import CHANNEL, conversation, drifted, enqueue, eventually, phone, rows, run, status_of
from tests.component.servers import _free_port
from tests.component.world import provider, sent_bodies

pytestmark = pytest.mark.component


@pytest.fixture
async def cloud(engine: AsyncEngine) -> AsyncIterator[Provider]:
    async with provider(engine) as made:
        yield made


@dataclass
class Running:
    """A sender whose steps the test takes."""

    engine: AsyncEngine
    sender: CloudSender

    async def settle(self) -> None:
        """Take steps until nothing more can be claimed now."""
        while await self.sender.step(Lifecycle(1)):
            await self.sender.drain()

    async def later(self) -> None:
        """Let all back-offs and leases end, then settle."""
        await run(self.engine, "UPDATE chat_lanes SET next_at = now()")
        await self.settle()


@contextlib.asynccontextmanager
async def sender(engine: AsyncEngine, settings: Settings, url: str, **changes: object) -> AsyncIterator[Running]:
    own = {"wa_api_base": url, "instance_name": uuid4().hex, "cloud_rate": 1000, "cloud_pair_interval_s": 0.0, **changes}
    chosen = settings.model_copy(update=own)
    redis, client = RedisClient.of(chosen), CloudClient(chosen)
    yield Running(engine, CloudSender(engine, client, Limiter(redis, engine), Waker(redis), chosen, channel=CHANNEL, worker="test"))
    await client.close()
    await redis.close()


async def test_retryable_faults_are_tried_again_until_one_succeeds(engine: AsyncEngine, settings: Settings, cloud: Provider) -> None:
    cloud.script(Rule(outcome="error", code=131000, times=3))
    message = await enqueue(engine, await conversation(engine))
    async with sender(engine, settings, cloud.url) as running:
        await running.settle()
        for strikes in (1, 2, 3):
            assert await rows(engine, "SELECT state, strikes, attempts FROM outbox") == [("queued", strikes, strikes)]
            await running.later()
    assert len(cloud.records.messages) == 1
    assert await status_of(engine, message.message_id) in ("sent", "delivered", "read")
    assert len(await rows(engine, "SELECT token FROM outbox_attempts")) == 4


async def test_a_message_is_given_up_after_its_tries_and_its_chat_goes_on(engine: AsyncEngine, settings: Settings, cloud: Provider) -> None:
    cloud.script(Rule(outcome="error", code=131016, times=2))
    chat = await conversation(engine)
    first = await enqueue(engine, chat, "first")
    await enqueue(engine, chat, "second")
    async with sender(engine, settings, cloud.url, outbox_max_attempts=2) as running:
        await running.settle()
        await running.later()
        await running.later()
    assert await rows(engine, "SELECT status, error_code FROM messages WHERE id = :id", id=first.message_id) == [("dead", 131016)]
    assert sent_bodies(cloud) == {"second": 1}
    assert await drifted(engine) == []


@pytest.mark.parametrize("code", [131026, 131047, 132001, 100, 131051])
async def test_a_permanent_fault_fails_at_once_and_frees_the_chat(
    engine: AsyncEngine, settings: Settings, cloud: Provider, code: int
) -> None:
    cloud.script(Rule(outcome="error", code=code, times=1))
    chat = await conversation(engine)
    first = await enqueue(engine, chat, "first")
    await enqueue(engine, chat, "second")
    async with sender(engine, settings, cloud.url) as running:
        await running.settle()
    assert await rows(engine, "SELECT status, error_code FROM messages WHERE id = :id", id=first.message_id) == [("failed", code)]
    assert sent_bodies(cloud) == {"second": 1}


@pytest.mark.parametrize("code", [130429, 80007, 131056])
async def test_limits_of_the_provider_cost_no_try(engine: AsyncEngine, settings: Settings, cloud: Provider, code: int) -> None:
    cloud.script(Rule(outcome="error", code=code, retry_after=600, times=1))
    await enqueue(engine, await conversation(engine))
    async with sender(engine, settings, cloud.url) as running:
        await running.settle()
    assert await rows(engine, "SELECT state, strikes FROM outbox") == [("queued", 0)]
    [(wait,)] = await rows(engine, "SELECT extract(epoch FROM next_at - now())::int FROM chat_lanes")
    assert wait > 500


async def test_a_refused_account_stops_the_channel_and_one_message_asks_again(
    engine: AsyncEngine, settings: Settings, cloud: Provider
) -> None:
    cloud.script(Rule(outcome="error", code=131031))
    for number in range(5):
        await enqueue(engine, await conversation(engine, number))
    async with sender(engine, settings, cloud.url) as running:
        await running.settle()
        asked = len(cloud.records.requests)
        await running.later()
        assert len(cloud.records.requests) == asked
        await run(engine, "UPDATE channels SET paused_until = now()")
        await running.later()
        assert len(cloud.records.requests) == asked + 1
        cloud.script()
        await run(engine, "UPDATE channels SET paused_until = now()")
        await running.later()
    assert len(cloud.records.messages) == 5
    assert await rows(engine, "SELECT action FROM audit_events ORDER BY id") == [("channel.pause",), ("channel.resume",)]


async def test_an_unreachable_provider_costs_no_try(engine: AsyncEngine, settings: Settings) -> None:
    await enqueue(engine, await conversation(engine))
    async with sender(engine, settings, f"http://127.0.0.1:{_free_port()}") as running:
        for _ in range(10):
            await running.later()
    assert await rows(engine, "SELECT state, strikes, attempts FROM outbox") == [("queued", 0, 10)]


async def test_a_lost_answer_is_unknown_and_its_status_settles_it(engine: AsyncEngine, settings: Settings, cloud: Provider) -> None:
    cloud.script(Rule(outcome="drop", accepted=True, statuses=()))
    message = await enqueue(engine, await conversation(engine))
    async with sender(engine, settings, cloud.url) as running:
        await running.settle()
        assert await status_of(engine, message.message_id) == "unknown"
        await running.settle()
    assert len(cloud.records.messages) == 1


async def test_policy_resend_sends_again_when_no_status_came(engine: AsyncEngine, settings: Settings, cloud: Provider) -> None:
    cloud.script(Rule(outcome="drop", accepted=False, times=1))
    await enqueue(engine, await conversation(engine))
    async with sender(engine, settings, cloud.url, unknown_policy="resend") as running:
        await running.settle()
        await running.later()
    assert len(cloud.records.messages) == 1


async def test_a_message_whose_answers_are_always_lost_is_held_after_its_tries(
    engine: AsyncEngine, settings: Settings, cloud: Provider
) -> None:
    cloud.script(Rule(outcome="drop", accepted=False))
    message = await enqueue(engine, await conversation(engine))
    async with sender(engine, settings, cloud.url, unknown_policy="resend", outbox_max_attempts=3) as running:
        for _ in range(10):
            await running.later()
    assert len(cloud.records.requests) == 3
    assert await status_of(engine, message.message_id) == "held"
    assert await drifted(engine) == []


async def test_a_recipient_gets_a_burst_and_then_waits_while_others_do_not(
    engine: AsyncEngine, settings: Settings, cloud: Provider
) -> None:
    chat, other = await conversation(engine, 1), await conversation(engine, 2)
    for number in range(8):
        await enqueue(engine, chat, f"chat {number}")
    await enqueue(engine, other, "other")
    async with sender(engine, settings, cloud.url, cloud_pair_interval_s=60.0) as running:
        await running.settle()
    assert sum(item["to"] == phone(1) for item in cloud.records.messages) == 5
    assert sum(item["to"] == phone(2) for item in cloud.records.messages) == 1


async def test_the_pace_of_a_number_is_kept_under_the_providers_limit(engine: AsyncEngine, settings: Settings) -> None:
    async with provider(engine, rate=20.0) as cloud:
        for number in range(30):
            await enqueue(engine, await conversation(engine, number))
        async with sender(engine, settings, cloud.url, cloud_rate=14) as running:
            await running.settle()
            await eventually(lambda: _nothing_waits(engine, running), "all is sent")
        assert [item["code"] for item in cloud.records.requests if item["code"]] == []
        assert len(cloud.records.messages) == 30


async def _nothing_waits(engine: AsyncEngine, running: Running) -> bool:
    await running.settle()
    return await rows(engine, "SELECT count(*) FROM outbox") == [(0,)]


async def test_an_agent_overtakes_what_waits_for_the_pace(engine: AsyncEngine, settings: Settings, cloud: Provider) -> None:
    for number in range(60):
        await enqueue(engine, await conversation(engine, number), f"bulk {number}")
    await enqueue(engine, await conversation(engine, 99), "from a person", Origin.HUMAN)
    async with sender(engine, settings, cloud.url) as running:
        await running.settle()
    order = [item["body"]["text"]["body"] for item in cloud.records.messages]
    assert order.index("from a person") < 32  # among the first that are claimed together


# -- client


@pytest.fixture
async def client(settings: Settings, cloud: Provider) -> AsyncIterator[CloudClient]:
    made = CloudClient(settings.model_copy(update={"wa_api_base": cloud.url, "lease_ttl_s": 3}))
    yield made
    await made.close()


async def test_what_the_client_knows_after_a_call(client: CloudClient, cloud: Provider) -> None:
    async def call() -> object:
        return await client.send_text("hi", token, wa_id=phone(1), bsuid=None)

    token = uuid4()
    accepted = await call()
    assert isinstance(accepted, Accepted)
    [record] = cloud.records.messages
    assert (record["id"], record["to"], record["body"]["biz_opaque_callback_data"]) == (accepted.provider_id, phone(1), str(token))
    cloud.script(Rule(outcome="hang", hang_seconds=5))
    assert isinstance(await call(), Unknown)
    cloud.script(Rule(outcome="drop"))
    assert isinstance(await call(), Unknown)
    cloud.script(Rule(outcome="error", code=131056, retry_after=6))
    refused = await call()
    assert isinstance(refused, Rejected)
    assert (refused.error.fault, refused.retry_after_s) == (Fault.PAIR, 6.0)


async def test_a_contact_without_a_number_is_addressed_by_user_id(client: CloudClient, cloud: Provider) -> None:
    await client.send_text("hi", uuid4(), wa_id=None, bsuid="MX.1")
    assert (cloud.records.requests[-1]["body"]["recipient"], "to" in cloud.records.requests[-1]["body"]) == ("MX.1", False)


async def test_a_provider_that_is_not_there_was_surely_not_called(settings: Settings) -> None:
    client = CloudClient(settings.model_copy(update={"wa_api_base": f"http://127.0.0.1:{_free_port()}"}))
    assert isinstance(await client.send_text("hi", uuid4(), wa_id=phone(1), bsuid=None), NotSent)
    await client.close()


ACCEPTANCE = b'{"messages": [{"id": "wamid.1"}]}'


@pytest.mark.parametrize(
    ("pieces", "answer"),
    [
        ([ACCEPTANCE[:11], ACCEPTANCE[11:20], ACCEPTANCE[20:]], Accepted("wamid.1")),
        ([b" " * ANSWER_MAX, ACCEPTANCE], Unknown("status 200 without a message id")),
    ],
    ids=["in pieces", "too long"],
)
async def test_an_answer_is_read_to_its_end_up_to_a_limit(settings: Settings, pieces: list[bytes], answer: object) -> None:
    async with answering("200 OK", *pieces) as url:
        client = CloudClient(settings.model_copy(update={"wa_api_base": url}))
        assert await client.send_text("hi", uuid4(), wa_id=phone(1), bsuid=None) == answer
        await client.close()


@contextlib.asynccontextmanager
async def answering(status: str, *pieces: bytes) -> AsyncIterator[str]:
    """Serve one answer to whatever is asked, in segments, as no well-behaved provider does."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        length = sum(len(piece) for piece in pieces)
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.05)  # so that each piece is a segment of its own
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("status", "answer", "outcome"),
    [
        ("400 Bad Request", {"error": {"code": 2**31, "message": "large"}}, ("failed", -1, "large, code 2147483648 (-1)")),
        ("400 Bad Request", {"error": {"code": -(2**40), "message": "small"}}, ("failed", -1, "small, code -1099511627776 (-1)")),
        ("400 Bad Request", {"error": {"code": 100, "message": "nul \0 inside"}}, ("failed", 100, "nul \ufffd inside (100)")),
        ("200 OK", {"messages": [{"id": "wamid.\0"}]}, ("unknown", None, "status 200 without a message id")),
    ],
)
async def test_what_no_column_can_hold_does_not_keep_the_outcome_from_being_written(
    engine: AsyncEngine, settings: Settings, status: str, answer: dict[str, object], outcome: tuple[str, int | None, str]
) -> None:
    await enqueue(engine, await conversation(engine))
    async with answering(status, json.dumps(answer).encode()) as url, sender(engine, settings, url) as running:
        await running.settle()
    assert await rows(engine, "SELECT status, error_code, error FROM messages") == [outcome]


async def test_a_bare_429_makes_the_whole_number_wait(engine: AsyncEngine, settings: Settings) -> None:
    first, second = [await enqueue(engine, await conversation(engine, number)) for number in (1, 2)]
    async with answering("429 Too Many Requests\r\nRetry-After: 60") as url, sender(engine, settings, url) as running:
        await running.settle()
        calls = "SELECT count(*) FROM outbox_attempts"
        [(before,)] = await rows(engine, calls)
        await running.later()
        assert await rows(engine, calls) == [(before,)], "within the minute after it nothing more is sent"
    assert {await status_of(engine, message.message_id) for message in (first, second)} == {"queued"}


async def test_a_redirect_does_not_take_the_token_elsewhere(settings: Settings) -> None:
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    client = CloudClient(settings.model_copy(update={"wa_api_base": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}))
    assert isinstance(await client.send_text("hi", uuid4(), wa_id=phone(1), bsuid=None), NotSent)
    assert len(seen) == 1
    await client.close()
    server.close()
