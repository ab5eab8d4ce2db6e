"""Logging in and out, CSRF, Origin, limits and tickets, through the HTTP API on a real database. Needs PostgreSQL and Redis."""

import asyncio

import pytest

from chatbot_runtime.auth.limits import ACCOUNT, ADDRESS
from chatbot_runtime.db.engine import transaction
from tests.component.conftest import ADMIN_PASSWORD
from tests.component.running import Api, api_fixture  # noqa: F401  a fixture
from tests.component.servers import Database

pytestmark = pytest.mark.component

ORIGIN = "http://bot.test"


async def test_login_opens_a_session_that_me_confirms(api: Api) -> None:
    me = await api.log_in()
    answer = await api.client.get("/api/auth/me")
    assert answer.status_code == 200
    assert answer.json() == me
    assert me["role"] == "admin"


async def test_the_cookie_is_http_only_and_strict_about_its_site(api: Api) -> None:
    answer = await api.client.post("/api/auth/login", json={"username": "Admin ", "password": ADMIN_PASSWORD})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "path=/" in cookie


async def test_wrong_password_and_unknown_user_look_the_same(api: Api) -> None:
    wrong = await api.client.post("/api/auth/login", json={"username": "admin", "password": "not-this-one"})
    unknown = await api.client.post("/api/auth/login", json={"username": "nobody", "password": "not-this-one"})
    assert wrong.status_code == unknown.status_code == 401
    assert {**wrong.json(), "requestId": ""} == {**unknown.json(), "requestId": ""}


async def test_logout_ends_the_session(api: Api) -> None:
    await api.log_in()
    cookies = dict(api.client.cookies)
    assert (await api.client.post("/api/auth/logout")).status_code == 204
    async with api.fresh_client(cookies) as other:
        assert (await other.get("/api/auth/me")).status_code == 401


async def test_login_replaces_the_former_session(api: Api) -> None:
    await api.log_in()
    former = dict(api.client.cookies)
    await api.log_in()
    async with api.fresh_client(former) as other:
        assert (await other.get("/api/auth/me")).status_code == 401
    assert (await api.client.get("/api/auth/me")).status_code == 200


@pytest.mark.parametrize("token", ["", "wrong", "x" * 500])
async def test_a_post_without_the_csrf_token_is_refused(api: Api, token: str) -> None:
    await api.log_in()
    answer = await api.client.post("/api/auth/ws-token", headers={"x-csrf-token": token})
    assert answer.status_code == 403
    assert answer.json()["type"].endswith(":csrf")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "null", "host": ""},
        {"origin": "http://["},
        {"origin": "http://bot.test]"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_a_post_from_another_site_is_refused_also_at_login(api: Api, headers: dict[str, str]) -> None:
    await api.log_in()
    refused = await api.client.post("/api/auth/ws-token", headers=headers)
    assert refused.status_code == 403
    assert refused.json()["type"].endswith(":foreign-origin")
    login = await api.client.post("/api/auth/login", json={"username": "admin", "password": ADMIN_PASSWORD}, headers=headers)
    assert login.status_code == 403


async def test_a_post_from_our_own_page_passes(api: Api) -> None:
    await api.log_in()
    answer = await api.client.post("/api/auth/ws-token", headers={"origin": ORIGIN, "sec-fetch-site": "same-origin"})
    assert answer.status_code == 200
    assert set(answer.json()) == {"token", "expiresAt"}


async def test_failures_cost_a_growing_wait_and_never_reveal_a_right_guess(api: Api) -> None:
    for _ in range(7):
        answer = await api.client.post("/api/auth/login", json={"username": "admin", "password": "guess-0123456"})
        if answer.status_code == 429:
            break
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    right = await api.client.post("/api/auth/login", json={"username": "admin", "password": ADMIN_PASSWORD})
    assert right.status_code == 429


@pytest.mark.parametrize(("path", "used"), [("/api/status", False), ("/api/dashboard/snapshot", False), ("/api/auth/me", True)])
async def test_only_what_a_person_does_keeps_a_session_from_idling_out(api: Api, database: Database, path: str, used: bool) -> None:
    await api.log_in()
    database.sql("UPDATE sessions SET last_seen_at = now() - interval '29 minutes'")
    assert (await api.client.get(path)).status_code == 200
    assert database.sql("SELECT last_seen_at > now() - interval '1 minute' FROM sessions") == ["t" if used else "f"]
    database.sql("UPDATE sessions SET last_seen_at = last_seen_at - interval '2 minutes'")
    assert ((await api.client.get("/api/status")).json()["me"] is not None) == used


async def test_a_changed_password_ends_other_sessions_and_works(api: Api) -> None:
    await api.log_in()
    other_cookies = dict(api.client.cookies)
    async with api.fresh_client() as second:
        opened = await second.post("/api/auth/login", json={"username": "admin", "password": ADMIN_PASSWORD})
        csrf = {"x-csrf-token": opened.json()["csrfToken"]}
        changed = await second.post("/api/auth/password", json={"current": ADMIN_PASSWORD, "new": "blue-kettle-29-over"}, headers=csrf)
        assert changed.status_code == 204, changed.text
        assert (await second.get("/api/auth/me")).status_code == 200
    async with api.fresh_client(other_cookies) as first:
        assert (await first.get("/api/auth/me")).status_code == 401
    await api.log_in(password="blue-kettle-29-over")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"current": "not-the-password", "new": "blue-kettle-29-over"}, 403),
        ({"current": ADMIN_PASSWORD, "new": "short"}, 422),
        ({"current": ADMIN_PASSWORD, "new": "password123!"}, 422),
        ({"current": ADMIN_PASSWORD}, 422),
    ],
)
async def test_a_password_change_that_is_refused_changes_nothing(api: Api, change: dict[str, str], status: int) -> None:
    await api.log_in()
    answer = await api.client.post("/api/auth/password", json=change)
    assert answer.status_code == status
    assert ADMIN_PASSWORD not in answer.text
    await api.log_in()


async def test_security_actions_are_audited_without_secrets(api: Api) -> None:
    await api.client.post("/api/auth/login", json={"username": "admin", "password": "a-wrong-password"})
    await api.log_in()
    events = (await api.client.get("/api/audit")).json()["events"]
    assert [(event["action"], event["outcome"]) for event in events] == [
        ("session.open", "ok"),
        ("session.open", "refused"),
        ("user.create", "ok"),
    ]
    assert events[0]["actorName"] == "admin"
    assert events[1]["actorKind"] == "anonymous"
    assert events[0]["requestId"]
    assert "a-wrong-password" not in str(events)


async def test_audit_pages_do_not_overlap(api: Api) -> None:
    await api.log_in()
    await api.log_in()
    first = (await api.client.get("/api/audit?limit=2")).json()
    second = (await api.client.get(f"/api/audit?limit=2&before={first['next']}")).json()
    ids = [event["id"] for event in first["events"] + second["events"]]
    assert ids == sorted(set(ids), reverse=True)
    assert second["next"] is None


async def test_a_blocked_address_cannot_lock_an_account_out(api: Api) -> None:
    limits, engine = api.services.limits, api.services.engine

    async def attempt(account: str, address: str) -> int:
        async with transaction(engine) as db:
            return await limits.charge(db, account, address)

    for number in range(ADDRESS.free + 5):
        await attempt(f"somebody-{number}", "203.0.113.9")
    for _ in range(ACCOUNT.free + 5):
        assert await attempt("admin", "203.0.113.9") > 0
    assert await attempt("admin", "198.51.100.7") == 0


async def test_a_login_waits_for_no_lock_that_another_attempt_holds_the_other_way_round(api: Api) -> None:
    """A failing login holds its address and wants the account; one that succeeds must take both in the same order."""
    limits, engine = api.services.limits, api.services.engine
    async with transaction(engine) as db:
        await limits.charge(db, "admin", "203.0.113.9")
    async with transaction(engine) as first:
        await limits.charge(first, "somebody", "203.0.113.9")  # holds the address

        async def succeed() -> None:
            async with transaction(engine) as second:
                await limits.succeeded(second, "admin", "203.0.113.9")

        other = asyncio.create_task(succeed())
        await asyncio.sleep(0.2)  # it waits for the address by now
        assert not other.done()
        await limits.charge(first, "admin", "203.0.113.9")
    await other
