"""The dashboard's socket: one ticket opens it once, frames follow each other without a gap, and it ends with its session.

Needs PostgreSQL and Redis.
"""

import asyncio
import json
import signal
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from tests.component.conftest import ADMIN_PASSWORD
from tests.component.running import RuntimeProcess, start_fixture, wait_for  # noqa: F401  a fixture
from tests.component.servers import Postgres

pytestmark = pytest.mark.component


class Browser:
    """A logged-in client of one app process."""

    def __init__(self, app: RuntimeProcess) -> None:
        self.app = app
        self.http = httpx.AsyncClient(base_url=app.url, timeout=20, headers={"origin": app.url})

    async def log_in(self) -> None:
        answer = await self.http.post("/api/auth/login", json={"username": "admin", "password": ADMIN_PASSWORD})
        assert answer.status_code == 200
        self.http.headers["x-csrf-token"] = answer.json()["csrfToken"]

    async def ticket(self) -> str:
        return str((await self.http.post("/api/auth/ws-token")).json()["token"])

    async def open(self, hello: dict[str, Any], origin: str | None = None) -> ClientConnection:
        socket = await websockets.connect(f"ws://127.0.0.1:{self.app.port}/api/ws", origin=origin or self.app.url)  # type: ignore[arg-type]
        await socket.send(json.dumps(hello))
        return socket


async def frame(socket: ClientConnection) -> dict[str, Any]:
    return dict(json.loads(await asyncio.wait_for(socket.recv(), 20)))


async def close_code(socket: ClientConnection) -> int | None:
    await asyncio.wait_for(socket.wait_closed(), 40)
    return socket.close_code


@pytest.fixture
async def browser(start: Callable[..., RuntimeProcess]) -> Browser:
    made = Browser(start("app").wait_ready())
    await made.log_in()
    return made


async def test_a_snapshot_and_then_deltas_without_a_gap(browser: Browser) -> None:
    socket = await browser.open({"ticket": await browser.ticket()})
    first = await frame(socket)
    assert first["kind"] == "snapshot"
    assert first["data"]["queue"]["pending"] == 0
    message = {"to": "5215512345678", "text": "hola"}
    assert (await browser.http.post("/api/messages", json=message, headers={"idempotency-key": "k"})).status_code == 202
    picture, seq = first["data"], first["seq"]
    while picture["queue"]["pending"] == 0:
        delta = await frame(socket)
        assert (delta["kind"], delta["feed"], delta["from"]) == ("delta", first["feed"], seq)
        picture, seq = {**picture, **delta["data"]}, delta["seq"]
    assert picture["queue"]["states"] == {"queued": 1}
    await socket.close()


async def test_a_reconnect_resumes_with_deltas_and_a_stranger_gets_a_snapshot(browser: Browser) -> None:
    socket = await browser.open({"ticket": await browser.ticket()})
    first = await frame(socket)
    await socket.close()
    again = await browser.open({"ticket": await browser.ticket(), "feed": first["feed"], "seq": first["seq"]})
    resumed = await frame(again)
    assert (resumed["kind"], resumed["from"]) == ("delta", first["seq"])
    await again.close()
    other = await browser.open({"ticket": await browser.ticket(), "feed": "another-process", "seq": first["seq"]})
    assert (await frame(other))["kind"] == "snapshot"
    await other.close()


async def test_a_ticket_opens_one_socket(browser: Browser) -> None:
    ticket = await browser.ticket()
    first = await browser.open({"ticket": ticket})
    await frame(first)
    second = await browser.open({"ticket": ticket})
    assert await close_code(second) == 4401
    await first.close()


@pytest.mark.parametrize("hello", [{"ticket": "forged.signature"}, {"ticket": ""}, {}, {"ticket": "x" * 500}, {"ticket": 1, "more": 2}])
async def test_without_a_good_ticket_nothing_is_sent(browser: Browser, hello: dict[str, Any]) -> None:
    socket = await browser.open(hello)
    assert await close_code(socket) == 4401


async def test_a_ticket_is_bound_to_its_origin(browser: Browser) -> None:
    socket = await browser.open({"ticket": await browser.ticket()}, origin="https://evil.example")
    assert await close_code(socket) == 4401


async def test_logout_closes_the_socket(browser: Browser) -> None:
    socket = await browser.open({"ticket": await browser.ticket()})
    await frame(socket)
    assert (await browser.http.post("/api/auth/logout")).status_code == 204
    while True:
        try:
            await frame(socket)
        except websockets.ConnectionClosed:
            break
    assert await close_code(socket) == 4401


async def test_a_stopping_process_says_connect_again(browser: Browser) -> None:
    socket = await browser.open({"ticket": await browser.ticket()})
    await frame(socket)
    browser.app.signal(signal.SIGTERM)
    assert await close_code(socket) == 1012
    assert await asyncio.to_thread(browser.app.wait_exit) == 0


async def test_an_outage_is_silence_and_then_it_goes_on(browser: Browser, outage: Postgres) -> None:
    socket = await browser.open({"ticket": await browser.ticket()})
    first = await frame(socket)
    await asyncio.to_thread(outage.stop)
    await asyncio.to_thread(wait_for, lambda: httpx.get(f"{browser.app.url}/healthz").status_code == 503, "the outage noticed")
    await asyncio.to_thread(outage.start)
    last = first["seq"]
    for _ in range(3):
        delta = await frame(socket)
        assert delta["from"] == last
        last = delta["seq"]
    await socket.close()


async def test_tickets_never_reach_the_log(browser: Browser) -> None:
    ticket = await browser.ticket()
    socket = await browser.open({"ticket": ticket})
    await frame(socket)
    await socket.close()
    assert ticket.split(".")[0] not in browser.app.output()
