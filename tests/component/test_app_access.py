"""Every route times every role: the table decides, and what is not in the table is denied. Needs PostgreSQL and Redis."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.routing import Mount

from chatbot_runtime.api import access, middleware
from chatbot_runtime.api.access import RULES, WEBSOCKET, Access
from chatbot_runtime.auth.passwords import Passwords
from chatbot_runtime.db.engine import transaction
from chatbot_runtime.db.schema_auth import users
from tests.component.running import (
    Api,
    api_fixture,  # noqa: F401  a fixture
    signed,
)

pytestmark = pytest.mark.component

PASSWORD = "green-lamp-44-under"
PATH_VALUES = dict.fromkeys(("message_id", "conversation_id"), "01a21396-376a-7b2a-a321-d10a47796789")
BODIES: dict[str, Any] = {
    "/api/auth/password": {"current": PASSWORD, "new": PASSWORD},
    "/api/queue/items/{message_id}/decision": {"decision": "discard"},
    "/api/conversations/{conversation_id}/mode": {"mode": "bot"},
    "/api/messages": {"to": "5215512345678", "text": "hola"},
}
NOT_CALLED = {"/api/auth/logout", "/api/auth/login"}
"""They change who is logged in; their own tests call them."""


def registered(app: Any) -> Iterator[tuple[str, str]]:
    """Yield (method, path) of everything the application answers, the mount of static files apart."""
    for route in app.routes:
        if isinstance(route, APIRoute):
            yield from ((method, route.path) for method in route.methods)
        elif isinstance(route, APIWebSocketRoute):
            yield WEBSOCKET, route.path
        else:
            assert isinstance(route, Mount), f"{route!r} is not guarded by the table"
            assert route.path == "/ui"


async def test_the_table_and_the_routes_are_the_same_set(api: Api) -> None:
    assert set(registered(api.app)) == set(RULES)


async def test_a_route_that_the_table_forgot_is_denied(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await api.log_in()
    monkeypatch.setattr(access, "RULES", {key: rule for key, rule in RULES.items() if key != ("GET", "/api/auth/me")})
    assert (await api.client.get("/api/auth/me")).status_code == 403


async def call(client: httpx.AsyncClient, method: str, path: str) -> httpx.Response:
    headers = {"idempotency-key": "access-test"} if method == "POST" else {}
    body = BODIES.get(path, {}) if method == "POST" else None
    return await client.request(method, path.format(**PATH_VALUES), json=body, headers=headers)


async def test_without_a_login_only_open_routes_answer(api: Api) -> None:
    for (method, path), rule in RULES.items():
        if method != WEBSOCKET and path not in NOT_CALLED:
            refused = (await call(api.client, method, path)).status_code == 401
            # A webhook without a signature is refused too, by its own rule.
            assert refused == (rule is not Access.OPEN or (method, path) == ("POST", "/webhooks/cloud")), path


@pytest.mark.parametrize("role", ["viewer", "agent", "supervisor", "admin"])
async def test_each_role_may_do_what_the_table_says_and_no_more(api: Api, role: str) -> None:
    hashed = await Passwords().hash(PASSWORD)
    async with transaction(api.services.engine) as db:
        await db.execute(users.insert().values(username=f"a-{role}", password_hash=hashed, password_source="person", role=role))
    await api.log_in(f"a-{role}", PASSWORD)
    for (method, path), rule in RULES.items():
        if method == WEBSOCKET or path in NOT_CALLED or rule is Access.OPEN:
            continue
        answer = await call(api.client, method, path)
        allowed = Access[role.upper()] >= rule
        assert (answer.status_code == 403) != allowed, f"{role} {method} {path}: {answer.status_code} {answer.text}"


async def test_a_refused_use_is_audited(api: Api) -> None:
    hashed = await Passwords().hash(PASSWORD)
    async with transaction(api.services.engine) as db:
        await db.execute(users.insert().values(username="v", password_hash=hashed, password_source="person", role="viewer"))
    await api.log_in("v", PASSWORD)
    assert (await api.client.get("/api/audit")).status_code == 403
    await api.log_in()
    events = (await api.client.get("/api/audit")).json()["events"]
    assert ("access.use", "refused", "GET /api/audit") in [(event["action"], event["outcome"], event["target"]) for event in events]


async def test_a_disabled_user_is_out_at_once(api: Api) -> None:
    await api.log_in()
    async with transaction(api.services.engine) as db:
        await db.execute(users.update().values(disabled=True))
    assert (await api.client.get("/api/auth/me")).status_code == 401


@pytest.mark.parametrize("path", ["/ui/index.html", "/docs", "/api/status", "/healthz", "/no-such-page"])
async def test_every_answer_carries_the_security_headers(api: Api, path: str) -> None:
    headers = (await api.client.get(path)).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-request-id"]


@pytest.mark.parametrize(("sent", "kept"), [("abcd-1234.efgh", True), ("short", False), ("bad id with spaces", False), ("x" * 65, False)])
async def test_a_plausible_request_id_is_kept_and_any_other_replaced(api: Api, sent: str, kept: bool) -> None:
    answered = (await api.client.get("/livez", headers={"x-request-id": sent})).headers["x-request-id"]
    assert (answered == sent) == kept


async def test_errors_are_problem_documents_that_never_echo_the_input(api: Api) -> None:
    answer = await api.client.post("/api/auth/login", json={"username": "admin", "password": {"secret": "hunter2-hunter2"}})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["fields"][0]["field"] == "body.password"
    assert "hunter2" not in answer.text


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"{not json", 400), (b"", 422), (b"[" * 100_000, 413), (b'"text"', 422), (b"\xff\xfe", 400), (b"[" * 60_000, 400)],
)
async def test_bad_bodies_are_refused_with_a_reason(api: Api, content: bytes, status: int) -> None:
    answer = await api.client.post("/api/auth/login", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.json()["type"].startswith("urn:chatbot:problem:")


@pytest.mark.parametrize("character", ["\\u0000", "\\ud83d"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/auth/login", '{"username": "a%sb", "password": "x"}'),
        ("/api/auth/login", '{"username": "admin", "password": "a%sb"}'),
        ("/api/auth/password", '{"current": "a%sb", "new": "blue-kettle-29-over"}'),
        ("/api/messages", '{"to": "5215512345678", "text": "hola", "channel": "a%sb"}'),
        ("/api/messages", '{"to": "5215512345678", "text": "a%sb"}'),
    ],
)
async def test_a_character_that_nothing_can_hold_is_422(api: Api, path: str, body: str, character: str) -> None:
    await api.log_in()
    headers = {"content-type": "application/json", "idempotency-key": "k"}
    answer = await api.client.post(path, content=(body % character).encode(), headers=headers)
    assert answer.status_code == 422, answer.text


async def test_an_audit_page_before_an_id_that_cannot_be_is_422(api: Api) -> None:
    await api.log_in()
    assert (await api.client.get(f"/api/audit?before={2**63 - 1}")).status_code == 200
    assert (await api.client.get(f"/api/audit?before={2**63}")).status_code == 422


@pytest.mark.parametrize("path", ["/api/auth/login", "/webhooks/cloud"])
async def test_a_body_that_comes_drop_by_drop_is_408(api: Api, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    async def drops() -> AsyncIterator[bytes]:
        while True:
            yield b"{"
            await asyncio.sleep(0.02)

    monkeypatch.setattr(middleware, "BODY_S", 0.1)
    answer = await api.client.post(path, content=drops(), headers={**signed(b""), "content-type": "application/json"})
    assert answer.status_code == 408
    assert answer.json()["type"] == "urn:chatbot:problem:request-timeout"
    assert answer.headers["connection"] == "close"


async def test_a_bug_is_a_problem_with_an_id_and_tells_nothing_else(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("internal detail")

    monkeypatch.setattr("chatbot_runtime.api.routes.dashboard.read_picture", broken)
    await api.log_in()
    transport = httpx.ASGITransport(api.asgi, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://bot.test", cookies=dict(api.client.cookies)) as client:
        answer = await client.get("/api/dashboard/snapshot")
    assert answer.status_code == 500
    assert answer.json()["requestId"] == answer.headers["x-request-id"]
    assert "internal detail" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
