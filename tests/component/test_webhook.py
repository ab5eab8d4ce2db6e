"""The Cloud API webhook: 200 only for what is durable, and every bad input of the table answered without losing a good message beside it.

Needs PostgreSQL and Redis.
"""

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from chatbot_runtime.channels.cloud import webhook as cloud
from chatbot_runtime.queue.inbound import Inbound
from tests.component.conftest import APP_SECRET, VERIFY_TOKEN
from tests.component.running import (
    NUMBER_ID,
    Api,
    RuntimeProcess,
    api_fixture,  # noqa: F401  a fixture
    signed,
    start_fixture,  # noqa: F401  a fixture
    text_webhook,
    wait_for,
    wait_until,
    webhook,
)
from tests.component.servers import Database, Postgres

pytestmark = pytest.mark.component

PATH = "/webhooks/cloud"
MIB = 1024 * 1024


async def deliver(api: Api, body: bytes, **headers: str) -> httpx.Response:
    return await api.client.post(PATH, content=body, headers={**signed(body), **headers})


def stored(database: Database) -> list[str]:
    return database.sql("SELECT provider_message_id FROM messages ORDER BY 1")


async def test_a_message_is_durable_when_the_answer_comes(api: Api, database: Database) -> None:
    assert (await deliver(api, text_webhook(("wamid.1", "hola")))).status_code == 200
    assert stored(database) == ["wamid.1"]
    assert database.sql("SELECT count(*) FROM inbox") == ["1"]
    assert database.sql("SELECT kind, pending FROM chat_lanes") == ["in|1"]


async def test_forged_large_bodies_that_stop_half_way_keep_no_good_webhook_out(api: Api, database: Database) -> None:
    """Their signatures are well-formed, so that they are read; nobody knows that they are false before they are whole."""
    gone = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * (MIB - 1)
        await gone.wait()

    async def forge() -> httpx.Response:
        async with api.fresh_client() as client:
            return await client.post(PATH, content=slow(), headers=signed(b"another body"))

    forged = [asyncio.create_task(forge()) for _ in range(40)]
    await wait_until(lambda: any(task.done() for task in forged), "the first refusal")
    assert (await deliver(api, text_webhook(("wamid.1", "hola")))).status_code == 200
    gone.set()
    answers = await asyncio.gather(*forged)
    assert {answer.status_code for answer in answers} == {401, 503}
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)
    assert (await deliver(api, text_webhook(("wamid.2", "x" * 2 * MIB)))).status_code == 200
    assert stored(database) == ["wamid.1", "wamid.2"]


async def test_a_replay_is_200_and_stored_once(api: Api, database: Database) -> None:
    body = text_webhook(("wamid.1", "hola"))
    answers = [await deliver(api, body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert stored(database) == ["wamid.1"]
    assert database.sql("SELECT count(*) FROM inbox") == ["1"]


async def test_twenty_replays_at_once_are_stored_once(api: Api, database: Database) -> None:
    body = text_webhook(("wamid.1", "hola"), ("wamid.2", "¿qué tal?"))
    answers = await asyncio.gather(*(deliver(api, body) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert stored(database) == ["wamid.1", "wamid.2"]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "sha256=",
        "sha256=" + "0" * 64,
        "sha1=" + "0" * 40,
        signed(b"other")["x-hub-signature-256"],
        signed(text_webhook(("wamid.1", "hola")), "another-key-0123456789")["x-hub-signature-256"],
        signed(text_webhook(("wamid.1", "hola")))["x-hub-signature-256"].upper(),
        signed(text_webhook(("wamid.1", "hola")))["x-hub-signature-256"] + " ",
    ],
)
async def test_a_bad_signature_is_401_and_stores_nothing(api: Api, database: Database, header: str) -> None:
    headers = {"x-hub-signature-256": header.removesuffix(" ") + ("0" if header.endswith(" ") else "")} if header else {}
    answer = await api.client.post(PATH, content=text_webhook(("wamid.1", "hola")), headers=headers)
    assert answer.status_code == 401
    assert stored(database) == []


async def test_the_signature_covers_the_raw_bytes(api: Api) -> None:
    body = text_webhook(("wamid.1", "hola"))
    answer = await api.client.post(PATH, content=body + b" ", headers=signed(body))
    assert answer.status_code == 401


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b"null", b'"text"', b"{", b"\xff\xfe{}", b"[" * 50_000])
async def test_a_body_that_is_not_a_json_object_is_400(api: Api, body: bytes) -> None:
    answer = await deliver(api, body)
    assert answer.status_code == 400
    assert answer.json()["type"].endswith(":not-json")


STRANGE: list[dict[str, Any]] = [
    {"messages": [None, 7, "text", [], {}]},
    {"messages": {"id": "wamid.x"}},
    {"messages": [{"id": "wamid.x" * 200, "from": "5215512345678", "type": "text"}]},
    {"messages": [{"id": "wamid.x", "type": "text"}]},
    {"messages": [{"id": "wamid.\0", "from": "5215512345678", "type": "text", "text": {"body": "nul"}}]},
    {"messages": [{"id": "wamid.x", "from": "5215512345678", "type": "text", "text": "not an object"}]},
    {"messages": [{"id": "wamid.x", "from": "5215512345678", "type": ["list"], "timestamp": "soon"}]},
    {"messages": [{"id": "wamid.x", "from": "5215512345678", "type": "text", "timestamp": "9" * 30, "text": {"body": "far future"}}]},
    {"messages": [{"id": "wamid.x", "from": "5215512345678", "type": "text", "timestamp": "-99999999999", "text": {"body": "bc"}}]},
    {"messages": [{"id": "wamid.x", "from": "5215512345678", "type": "text", "text": {"body": "nul \0 inside"}}]},
    {"messages": [{"id": "wamid.x", "from": "5215512345678", "type": "text", "text": {"body": "x" * 200_000}}]},
    {"messages": [{"id": "wamid.x", "from": "5215512345678", "type": "hologram", "hologram": {"深": [[[[[]]]]]}}]},
    {"statuses": [{"id": "wamid.x", "status": "teleported"}]},
    {"statuses": [{"id": "wamid.x", "status": "failed", "errors": [{"code": 10**30, "title": None}]}]},
    {"statuses": [{"id": "wamid.x", "status": "sent", "biz_opaque_callback_data": "not-ours", "timestamp": None}]},
    {"statuses": [{"id": "wamid.x", "status": "read", "recipient_id": "half an emoji \ud83d"}]},
    {"messages": [{"id": "wamid.x", "from": "5215512345678", "type": "text", "text": {"body": "half an emoji \ud83d"}}]},
    {},
]


@pytest.mark.parametrize("value", STRANGE, ids=range(len(STRANGE)))
async def test_a_good_message_beside_a_strange_one_is_kept(api: Api, database: Database, value: dict[str, Any]) -> None:
    good = {"id": "wamid.good", "from": "5215512345678", "timestamp": "1764000000", "type": "text", "text": {"body": "hola"}}
    document = json.loads(webhook({"messages": [good]}))
    document["entry"][0]["changes"].append(json.loads(webhook(value))["entry"][0]["changes"][0])
    answer = await deliver(api, json.dumps(document).encode())
    assert answer.status_code == 200, answer.text
    assert "wamid.good" in stored(database)
    strange = int(database.sql("SELECT (SELECT count(*) FROM raw_events) + (SELECT count(*) FROM status_inbox)")[0])
    assert strange + len(stored(database)) >= 2, "what was strange is kept too"


@pytest.mark.parametrize("levels", [250, 1022, 1024, 20_000])
@pytest.mark.parametrize(
    "value",
    [
        {"messages": [{"id": "wamid.x", "from": "5215512345678", "type": "hologram", "hologram": "DEEP"}]},
        {"statuses": [{"id": "wamid.x", "status": "sent", "conversation": "DEEP"}]},
        {"messages": ["DEEP"]},
        {"calls": "DEEP"},
    ],
    ids=["message", "status", "no message", "unknown"],
)
async def test_what_is_nested_deeply_takes_no_good_message_with_it(
    api: Api, database: Database, value: dict[str, Any], levels: int
) -> None:
    text = "[{" * 500 + '\\"'
    good = {"id": "wamid.good", "from": "5215512345678", "timestamp": "1764000000", "type": "text", "text": {"body": text}}
    document = json.loads(webhook({"messages": [good]}))
    document["entry"][0]["changes"].append(json.loads(webhook(value))["entry"][0]["changes"][0])
    body = json.dumps(document).replace('"DEEP"', '{"x":[' * (levels // 2) + "]}" * (levels // 2)).encode()
    answer = await deliver(api, body)
    assert answer.status_code == 200, answer.text
    assert database.sql("SELECT body FROM messages WHERE provider_message_id = 'wamid.good'") == [text]
    strange = "(SELECT count(*) FROM raw_events) + (SELECT count(*) FROM status_inbox) + (SELECT count(*) FROM messages)"
    assert database.sql(f"SELECT {strange}") == ["2"], "what was strange is kept too"


async def test_what_the_database_refuses_takes_no_good_message_with_it(
    api: Api, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No input is known that gets this far, so the parser is made to let one through: an id that no index of PostgreSQL can hold."""
    body = text_webhook(("wamid.bad", "x"), ("wamid.good", "hola"))
    bad, good = cloud.parse_webhook(body, NUMBER_ID).messages
    noise = random.Random(7)
    bad = replace(bad, provider_id="".join(chr(noise.randrange(0x4E00, 0x9FFF)) for _ in range(20_000)))
    monkeypatch.setattr("chatbot_runtime.api.routes.webhooks.parse_webhook", lambda *_: Inbound(messages=(bad, good)))
    answer = await deliver(api, body)
    assert answer.status_code == 200, answer.text
    assert stored(database) == ["wamid.good"]
    assert database.sql("SELECT reason FROM raw_events")[0].startswith("refused by the database")


async def test_what_can_not_be_kept_at_all_stays_with_the_provider_and_the_rest_is_stored(
    api: Api, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = text_webhook(("wamid.bad", "x"), ("wamid.good", "hola"))
    bad, good = cloud.parse_webhook(body, NUMBER_ID).messages
    bad = replace(bad, payload={"no JSON": object()})
    monkeypatch.setattr("chatbot_runtime.api.routes.webhooks.parse_webhook", lambda *_: Inbound(messages=(bad, good)))
    answer = await deliver(api, body)
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (503, "not-stored")
    assert stored(database) == ["wamid.good"]


async def test_a_webhook_of_another_number_is_kept_and_answered(api: Api, database: Database) -> None:
    assert (await deliver(api, text_webhook(("wamid.1", "hola"), number="999"))).status_code == 200
    assert stored(database) == []
    assert database.sql("SELECT reason FROM raw_events") == ["for another phone number"]


@pytest.mark.parametrize("chunked", [False, True])
async def test_three_mib_pass_and_more_is_413(api: Api, database: Database, chunked: bool) -> None:
    async def pieces(body: bytes) -> Any:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    fits = text_webhook(("wamid.1", "x" * (3 * MIB - 500)))
    assert 3 * MIB - 1000 < len(fits) <= 3 * MIB
    assert (await api.client.post(PATH, content=pieces(fits) if chunked else fits, headers=signed(fits))).status_code == 200
    big = text_webhook(("wamid.2", "x" * (3 * MIB)))
    answer = await api.client.post(PATH, content=pieces(big) if chunked else big, headers=signed(big))
    assert answer.status_code == 413
    assert stored(database) == ["wamid.1"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"hub.mode": "subscribe", "hub.verify_token": VERIFY_TOKEN, "hub.challenge": "1158201444"}, 200),
        ({"hub.mode": "subscribe", "hub.verify_token": "wrong", "hub.challenge": "1"}, 403),
        ({"hub.mode": "subscribe", "hub.verify_token": "wröng", "hub.challenge": "1"}, 403),
        ({"hub.mode": "other", "hub.verify_token": VERIFY_TOKEN, "hub.challenge": "1"}, 403),
        ({"hub.mode": "subscribe", "hub.verify_token": VERIFY_TOKEN, "hub.challenge": "x" * 300}, 403),
        ({}, 403),
    ],
)
async def test_the_subscription_is_confirmed_to_who_knows_the_token(api: Api, query: dict[str, str], status: int) -> None:
    answer = await api.client.get(PATH, params=query)
    assert answer.status_code == status
    if status == 200:
        assert answer.text == "1158201444"
        assert answer.headers["content-type"].startswith("text/plain")


def test_without_a_cloud_channel_there_is_no_webhook(start: Callable[..., RuntimeProcess]) -> None:
    app = start("app", WA_PHONE_NUMBER_ID="", WA_APP_SECRET="", WA_VERIFY_TOKEN="").wait_ready()
    body = text_webhook(("wamid.1", "hola"))
    empty_key = httpx.post(f"{app.url}{PATH}", content=body, headers=signed(body, ""), timeout=10)
    assert empty_key.status_code == 404


def test_ten_mib_are_refused_without_being_read(start: Callable[..., RuntimeProcess]) -> None:
    app = start("app").wait_ready()
    with socket.create_connection(("127.0.0.1", app.port), timeout=10) as client:
        client.sendall(b"POST /webhooks/cloud HTTP/1.1\r\nHost: bot\r\nContent-Length: 10485760\r\nContent-Type: application/json\r\n\r\n{")
        answer = client.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 413")
    big = b"x" * (10 * MIB)
    assert httpx.post(f"{app.url}{PATH}", content=big, headers=signed(big), timeout=20).status_code == 413


@pytest.mark.parametrize("signature", ["", "sha256=abc", "sha1=" + "0" * 40])
def test_without_a_signature_the_body_is_not_even_read(start: Callable[..., RuntimeProcess], signature: str) -> None:
    app = start("app").wait_ready()
    with socket.create_connection(("127.0.0.1", app.port), timeout=5) as client:
        head = f"POST {PATH} HTTP/1.1\r\nHost: bot\r\nContent-Length: 100000\r\nX-Hub-Signature-256: {signature}\r\n\r\n"
        client.sendall(head.encode() + b"{")
        assert client.recv(65_536).startswith(b"HTTP/1.1 401")


def test_an_outage_is_503_and_nothing_is_lost_after_it(start: Callable[..., RuntimeProcess], database: Database, outage: Postgres) -> None:
    app = start("app").wait_ready()
    before, during, after = (text_webhook((f"wamid.{name}", "hola")) for name in ("before", "during", "after"))

    def post(body: bytes) -> int:
        return httpx.post(f"{app.url}{PATH}", content=body, headers=signed(body), timeout=20).status_code

    assert post(before) == 200
    outage.stop()
    refused = httpx.post(f"{app.url}{PATH}", content=during, headers=signed(during), timeout=20)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    bad = httpx.post(f"{app.url}{PATH}", content=during, headers=signed(during, "another-key-0123456789"), timeout=20)
    assert bad.status_code == 401, "a forged webhook is refused whatever the database does"
    outage.start()
    wait_for(lambda: post(during) == 200, "the provider's retry")
    assert post(after) == 200
    assert stored(database) == ["wamid.after", "wamid.before", "wamid.during"]
    assert APP_SECRET not in app.output()
