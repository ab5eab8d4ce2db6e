"""The local Cloud API behaves like the provider where the runtime can tell the difference. Needs loopback only."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from testbed.providers.cloud_api import Config, Provider, Rule
from testbed.providers.cloud_wire import ERRORS, make_wamid
from tools.generate import ROOT

TOKEN = "token-0123456789"
SECRET = "app-secret-0123456789"
SENDER = "5215550001111"


class Receiver:
    """A webhook end point that checks signatures and answers as told."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.answers: list[int] = []
        self.url = ""
        self.arrived = asyncio.Condition()

    async def handle(self, request: web.Request) -> web.Response:
        if request.method == "GET":
            if request.query["hub.verify_token"] != "verify-me":
                return web.Response(status=403)
            return web.Response(text=request.query["hub.challenge"])
        raw = await request.read()
        expected = hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()
        assert request.headers["X-Hub-Signature-256"] == f"sha256={expected}"
        status = self.answers.pop(0) if self.answers else 200
        if status == 200:
            async with self.arrived:
                self.events.append(json.loads(raw))
                self.arrived.notify_all()
        return web.Response(status=status)

    def values(self) -> list[dict[str, Any]]:
        return [event["entry"][0]["changes"][0]["value"] for event in self.events]

    def statuses(self) -> list[str]:
        return [status["status"] for value in self.values() for status in value.get("statuses", [])]

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(10), self.arrived:
            await self.arrived.wait_for(lambda: len(self.events) >= count)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_route("*", "/webhooks/cloud", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/cloud"
    yield made
    await runner.cleanup()


@pytest.fixture
async def provider(receiver: Receiver) -> AsyncIterator[Provider]:
    async with Provider(Config(TOKEN, SECRET, receiver.url)) as made:
        yield made


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def send(client: aiohttp.ClientSession, provider: Provider, to: str = SENDER, token: str = TOKEN, **body: Any) -> tuple[int, Any]:
    content = {"messaging_product": "whatsapp", "to": to, "type": "text", "text": {"body": "hola"}, **body}
    async with client.post(
        f"{provider.url}/v23.0/100000000000001/messages", json=content, headers={"Authorization": f"Bearer {token}"}
    ) as response:
        return response.status, await response.json()


async def control(client: aiohttp.ClientSession, provider: Provider, path: str, data: Any = None) -> tuple[int, Any]:
    method = "GET" if data is None else "POST"
    async with client.request(method, f"{provider.url}/_control/{path}", json=data) as response:
        return response.status, await response.json()


async def test_a_send_is_accepted_recorded_and_reported(client: aiohttp.ClientSession, provider: Provider, receiver: Receiver) -> None:
    status, answer = await send(client, provider, biz_opaque_callback_data="outbox-7")
    assert status == 200
    wamid = answer["messages"][0]["id"]
    assert answer["contacts"] == [{"input": SENDER, "wa_id": SENDER}]
    await receiver.wait(3)
    assert receiver.statuses() == ["sent", "delivered", "read"]
    for value in receiver.values():
        assert value["metadata"]["phone_number_id"] == "100000000000001"
        assert value["statuses"][0]["id"] == wamid
        assert value["statuses"][0]["biz_opaque_callback_data"] == "outbox-7"
    listed = (await control(client, provider, f"messages?to={SENDER}"))[1]
    assert [message["id"] for message in listed] == [wamid]
    assert (await control(client, provider, "messages?to=1"))[1] == []


def test_ids_have_the_form_of_the_provider_and_never_repeat() -> None:
    ids = {make_wamid(SENDER) for _ in range(1000)}
    assert len(ids) == 1000
    for wamid in ids:
        assert wamid.startswith("wamid.")
        assert SENDER.encode() in base64.b64decode(wamid.removeprefix("wamid."))


async def test_a_wrong_token_is_refused_and_nothing_is_sent(client: aiohttp.ClientSession, provider: Provider) -> None:
    status, answer = await send(client, provider, token="wrong")
    assert (status, answer["error"]["code"]) == (401, 190)
    assert provider.records.messages == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"messaging_product": "sms"}, 100),
        ({"to": "not a number"}, 131009),
        ({"type": "carrier-pigeon"}, 131051),
        ({"type": "image"}, 131008),
        ({"text": {"body": ""}}, 100),
        ({"text": {"body": "x" * 4097}}, 100),
        ({"biz_opaque_callback_data": "x" * 513}, 100),
        ({"status": "read"}, 131008),
    ],
)
async def test_a_wrong_request_is_refused(client: aiohttp.ClientSession, provider: Provider, change: dict[str, Any], code: int) -> None:
    status, answer = await send(client, provider, **change)
    assert (status, answer["error"]["code"]) == (400, code)
    assert provider.records.messages == []


async def test_marking_as_read_is_no_message(client: aiohttp.ClientSession, provider: Provider) -> None:
    assert await send(client, provider, status="read", message_id="wamid.x") == (200, {"success": True})
    assert provider.records.messages == []


@pytest.mark.parametrize("code", sorted(ERRORS))
async def test_every_error_can_be_injected(client: aiohttp.ClientSession, provider: Provider, code: int) -> None:
    provider.script(Rule(outcome="error", code=code, retry_after=3, times=1))
    status, answer = await send(client, provider)
    assert (status, answer["error"]["code"]) == (ERRORS[code][0], code)
    assert provider.records.messages == []
    assert (await send(client, provider))[0] == 200


async def test_rules_match_by_recipient_in_order_and_run_out(client: aiohttp.ClientSession, provider: Provider) -> None:
    rules = [{"outcome": "error", "code": 131026, "to": "1"}, {"outcome": "error", "code": 131016, "times": 2}]
    assert (await control(client, provider, "script", {"rules": rules}))[0] == 200
    codes = [(await send(client, provider, to=to))[1].get("error", {}).get("code") for to in ("1", "2", "3", "4", "1")]
    assert codes == [131026, 131016, 131016, None, 131026]


@pytest.mark.parametrize("rule", [{"outcome": "explode"}, {"outcom": "error"}, {"outcome": "error", "code": 1234567}])
async def test_a_script_that_can_not_work_is_refused(client: aiohttp.ClientSession, provider: Provider, rule: dict[str, Any]) -> None:
    status, answer = await control(client, provider, "script", {"rules": [rule]})
    assert status == 400
    assert answer["error"]


@pytest.mark.parametrize("outcome", ["drop", "hang"])
@pytest.mark.parametrize("accepted", [True, False])
async def test_a_lost_answer_leaves_the_message_sent_or_not(
    client: aiohttp.ClientSession, provider: Provider, receiver: Receiver, outcome: str, accepted: bool
) -> None:
    provider.script(Rule(outcome=outcome, accepted=accepted, hang_seconds=0.05, times=1))
    with pytest.raises(aiohttp.ClientError):
        await send(client, provider)
    assert len(provider.records.messages) == int(accepted)
    assert provider.records.requests[0]["status"] == 0
    if accepted:
        await receiver.wait(3)


async def test_a_failure_can_come_by_webhook(client: aiohttp.ClientSession, provider: Provider, receiver: Receiver) -> None:
    provider.script(Rule(statuses=("sent", "failed"), code=131047))
    await send(client, provider)
    await receiver.wait(2)
    assert receiver.statuses() == ["sent", "failed"]
    assert receiver.values()[1]["statuses"][0]["errors"][0]["code"] == 131047


async def test_statuses_repeat_and_reorder(client: aiohttp.ClientSession, provider: Provider, receiver: Receiver) -> None:
    provider.script(Rule(copies=2, reorder=True))
    await send(client, provider)
    await receiver.wait(6)
    assert receiver.statuses() == ["read", "read", "delivered", "delivered", "sent", "sent"]


async def test_the_number_and_the_pair_have_limits(client: aiohttp.ClientSession, provider: Provider) -> None:
    provider.config.rate = 3
    provider.config.pair_interval_s = 3600
    codes = [(await send(client, provider, to=to))[1].get("error", {}).get("code") for to in ("1", "1", "2", "3", "4")]
    assert codes == [None, 131056, None, None, 130429]
    assert [message["to"] for message in provider.records.messages] == ["1", "2", "3"]


async def test_a_person_writes(client: aiohttp.ClientSession, provider: Provider, receiver: Receiver) -> None:
    status, answer = await control(client, provider, "inbound", {"from": SENDER, "text": "¿Tienen café?", "name": "Ana", "copies": 2})
    assert status == 200
    assert answer["delivered"] is True
    assert len(receiver.events) == 2
    value = receiver.values()[0]
    assert value["contacts"] == [{"profile": {"name": "Ana"}, "wa_id": SENDER}]
    assert value["messages"][0]["text"]["body"] == "¿Tienen café?"
    assert value["messages"][0]["id"] == answer["id"]


async def test_a_webhook_is_delivered_again_until_it_is_taken(provider: Provider, receiver: Receiver) -> None:
    receiver.answers = [503, 500]
    _, delivered = await provider.receive(SENDER, "hola")
    assert delivered
    assert [attempt["status"] for attempt in provider.records.deliveries] == [503, 500, 200]
    assert len(receiver.events) == 1


async def test_the_handshake_is_checked(client: aiohttp.ClientSession, provider: Provider) -> None:
    assert (await control(client, provider, "subscribe", {"verify_token": "verify-me"}))[1] == {"verified": True}
    assert (await control(client, provider, "subscribe", {"verify_token": "other"}))[1] == {"verified": False}


async def test_reset_forgets(client: aiohttp.ClientSession, provider: Provider) -> None:
    provider.script(Rule(outcome="error", code=131016))
    await send(client, provider)
    await control(client, provider, "reset", {})
    assert (await send(client, provider))[0] == 200
    assert len((await control(client, provider, "requests"))[1]) == 1


COMMAND = [sys.executable, "-m", "testbed.providers.cloud_api", "--port=0"]


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment that knows only the provider's two files, as in a ConfigMap."""
    folder = tmp_path / "testbed/providers"
    folder.mkdir(parents=True)
    for name in ("cloud_api.py", "cloud_wire.py"):
        shutil.copy(ROOT / "testbed/providers" / name, folder)
    site = next(path for path in sys.path if path.endswith("site-packages"))
    return {"PATH": os.environ["PATH"], "PYTHONPATH": f"{tmp_path}:{site}", "PYTHONNOUSERSITE": "1"}


def test_it_does_not_start_without_its_secrets(bare: dict[str, str], tmp_path: Path) -> None:
    refused = subprocess.run(COMMAND, check=False, capture_output=True, text=True, env=bare, cwd=tmp_path)
    assert refused.returncode == 2
    assert "PROVIDER_ACCESS_TOKEN" in refused.stderr


async def test_it_runs_as_a_program(client: aiohttp.ClientSession, bare: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    environment = {**bare, "PROVIDER_ACCESS_TOKEN_FILE": str(tmp_path / "token"), "PROVIDER_APP_SECRET": SECRET}
    process = await asyncio.create_subprocess_exec(*COMMAND, env=environment, cwd=tmp_path, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
        url = line.removeprefix("serving on ").strip()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        content = {"messaging_product": "whatsapp", "to": SENDER, "type": "text", "text": {"body": "hola"}}
        async with client.post(f"{url}/v23.0/1/messages", json=content, headers=headers) as response:
            assert response.status == 200
        async with client.get(f"{url}/_control/messages") as response:
            assert [message["to"] for message in await response.json()] == [SENDER]
    finally:
        process.terminate()
        await process.wait()
