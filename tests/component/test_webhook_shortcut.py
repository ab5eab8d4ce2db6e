"""The short way of a webhook answers as the router would, header by header, whatever goes wrong. Needs PostgreSQL and Redis."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from chatbot_runtime.api import shortcut
from chatbot_runtime.api.middleware import WEBHOOK_MAX, Frame
from chatbot_runtime.api.routes import webhooks
from chatbot_runtime.errors import DatabaseDown
from chatbot_runtime.metrics import REGISTRY
from tests.component.running import (
    Api,
    api_fixture,  # noqa: F401  a fixture
    signed,
    text_webhook,
)

pytestmark = pytest.mark.component

PATH = webhooks.PATH
BODY = text_webhook(("wamid.1", "hola"))
REQUEST_ID = "joins-logs-and-answers"


async def _pieces(body: bytes) -> Any:
    yield body[:1000]
    yield body[1000:]


CASES: dict[str, tuple[dict[str, Any], int]] = {
    "good": ({"content": BODY, "headers": signed(BODY)}, 200),
    "in pieces": ({"content": BODY, "headers": signed(BODY)}, 200),
    "without a signature": ({"content": BODY}, 401),
    "signed by another key": ({"content": BODY, "headers": signed(BODY, "another-key-0123456789")}, 401),
    "not JSON": ({"content": b"not json", "headers": signed(b"not json")}, 400),
    "no object": ({"content": b"[]", "headers": signed(b"[]")}, 400),
    "too large": ({"content": b"x" * (WEBHOOK_MAX + 1)}, 413),
    "too large, in pieces": ({"content": b"x" * (WEBHOOK_MAX + 1), "headers": signed(b"")}, 413),
    "too large, in pieces, without a signature": ({"content": b"x" * (WEBHOOK_MAX + 1)}, 401),
    "with a query": ({"content": BODY, "headers": signed(BODY), "params": {"a": "b"}}, 200),
    "by GET": ({"method": "GET"}, 403),
    "by PUT": ({"method": "PUT", "content": BODY, "headers": signed(BODY)}, 405),
    "with a slash": ({"url": PATH + "/", "content": BODY, "headers": signed(BODY)}, 307),
    "below": ({"url": PATH + "/more", "content": BODY, "headers": signed(BODY)}, 404),
}


def _fails_with(error: Exception) -> Callable[[Any], Awaitable[None]]:
    async def store(_: Any) -> None:
        raise error

    return store


async def _compare(api: Api, **request: Any) -> httpx.Response:
    """Send a request both ways and return the answer; fails if the ways differ."""
    by_router = Frame(api.app, api.services.lifecycle, https=api.services.settings.cookie_secure)
    answers, counted = [], []
    for asgi in (api.asgi, by_router):
        before = _counts()
        transport = httpx.ASGITransport(asgi, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://bot.test") as client:
            content = request.get("content")
            pieces = {"content": _pieces(content)} if request.get("pieces") and content else {}
            merged = {"method": "POST", "url": PATH, **{key: value for key, value in request.items() if key != "pieces"}, **pieces}
            merged["headers"] = {**merged.get("headers", {}), "x-request-id": REQUEST_ID}
            answers.append(await client.request(**merged))
        counted.append({key: value - before.get(key, 0) for key, value in _counts().items() if value != before.get(key, 0)})
    short, routed = answers
    assert (short.status_code, short.content, sorted(short.headers.multi_items())) == (
        routed.status_code,
        routed.content,
        sorted(routed.headers.multi_items()),
    )
    assert counted[0] == counted[1]
    assert len(counted[0]) == 1, "each request is counted once"
    return short


def _counts() -> dict[tuple[tuple[str, str], ...], float]:
    families = [family for family in REGISTRY.collect() if family.name.endswith("http_requests")]
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if sample.name.endswith("_total")
    }


@pytest.mark.parametrize("name", CASES)
async def test_both_ways_answer_the_same(api: Api, name: str) -> None:
    request, status = CASES[name]
    answer = await _compare(api, pieces="in pieces" in name, **request)
    assert answer.status_code == status
    assert answer.headers["x-request-id"] == REQUEST_ID


@pytest.mark.parametrize(("error", "status"), [(DatabaseDown("gone"), 503), (RuntimeError("a fault of ours"), 500)])
async def test_both_ways_fail_the_same(api: Api, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int) -> None:
    monkeypatch.setattr(type(api.services.intake), "store", lambda _self, inbound: _fails_with(error)(inbound))
    answer = await _compare(api, content=BODY, headers=signed(BODY))
    assert answer.status_code == status
    assert "fault" not in answer.text


async def test_both_ways_send_the_client_away_while_the_process_stops(api: Api) -> None:
    api.services.lifecycle.stopping.set()
    answer = await _compare(api, content=BODY, headers=signed(BODY))
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")


def test_the_route_is_described(api: Api) -> None:
    assert "post" in api.app.openapi()["paths"][PATH]


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/auth/me"), ("POST", "/nowhere")])
def test_only_an_open_route_may_take_the_short_way(api: Api, method: str, path: str) -> None:
    with pytest.raises(ValueError, match=path):
        shortcut.Shortcut(api.app, method, path)


async def test_a_webhook_does_take_it(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def router(*_: Any) -> None:
        raise AssertionError("the router was asked")

    monkeypatch.setattr(api.app.router, "app", router)
    monkeypatch.setattr(api.app, "middleware_stack", router)
    answer = await api.client.post(PATH, content=BODY, headers=signed(BODY))
    assert answer.status_code == 200
