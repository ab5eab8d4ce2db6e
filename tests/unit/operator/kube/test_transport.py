"""Connections that die, answers that are none, tokens that expire: what is sent again, how often, and what is never."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from chatbot_operator.errors import ConfigError, KubeError, LeadershipLost, Unavailable
from chatbot_operator.kube.client import KubeClient
from chatbot_operator.kube.credentials import Credentials
from chatbot_operator.kube.transport import Transport
from chatbot_operator.model.objects import ObjectKey
from tests.support.kubeclient import allow

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "shop"}}


class Server:
    """Answers every request by one handler and counts methods."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.seen: Counter[str] = Counter()
        self.tokens: list[str] = []
        self.url = ""
        self.handler: Handler = self._fine

    def write_kubeconfig(self, token: str) -> None:
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        cluster, user = {"name": "c", "cluster": {"server": self.url}}, {"name": "u", "user": {"token": token}}
        content = {"clusters": [cluster], "users": [user], "contexts": [context], "current-context": "c"}
        self.file.write_text(yaml.safe_dump(content))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen[request.method] += 1
        self.tokens.append(request.headers.get("Authorization", ""))
        return await self.handler(request)

    async def _fine(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"metadata": {"name": "s"}})


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    made = Server(tmp_path / "kubeconfig")
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    made.write_kubeconfig("first")
    monkeypatch.setenv("KUBECONFIG", str(made.file))
    yield made
    await runner.cleanup()


@asynccontextmanager
async def client_of(counts: Counter[tuple[str, int]], connections: int = 4) -> AsyncIterator[KubeClient]:
    def observe(verb: str, status: int) -> None:
        counts[verb, status] += 1

    client = KubeClient(Transport(await Credentials.load(), observe, connections=connections), allow)
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture
def counts() -> Counter[tuple[str, int]]:
    return Counter()


@pytest.fixture
async def client(server: Server, counts: Counter[tuple[str, int]]) -> AsyncIterator[KubeClient]:
    async with client_of(counts) as made:
        yield made


def dying(times: int, server: Server) -> Handler:
    """Return a handler that drops the first connections without an answer, as a server that restarts does with idle ones."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if sum(server.seen.values()) <= times and request.transport is not None:
            request.transport.abort()
        return web.json_response({"metadata": {"name": "s"}})

    return handle


async def test_an_apply_lost_on_a_dying_connection_is_sent_again_once(server: Server, client: KubeClient) -> None:
    server.handler = dying(1, server)
    assert (await client.apply(SERVICE, "uid"))["metadata"]["name"] == "s"
    assert server.seen["PATCH"] == 2


async def test_a_server_that_keeps_dying_is_unavailable(server: Server, client: KubeClient, counts: Counter[tuple[str, int]]) -> None:
    server.handler = dying(99, server)
    with pytest.raises(Unavailable):
        await client.apply(SERVICE, "uid")
    assert server.seen["PATCH"] == 2
    assert counts == {("apply", 0): 1}


async def test_a_create_is_never_sent_twice(server: Server, client: KubeClient) -> None:
    server.handler = dying(1, server)
    with pytest.raises(Unavailable):
        await client.create(SERVICE)
    assert server.seen["POST"] == 1


@pytest.mark.parametrize("trouble", ["the connection dies", "the token has expired"])
async def test_no_mutation_is_sent_again_once_the_lease_is_lost(server: Server, trouble: str) -> None:
    """The guard allows the first attempt alone, as when the Lease runs out while an answer is waited for."""
    asked = 0

    def guard() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise LeadershipLost("lost")

    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.json_response({"message": "Unauthorized"}, status=401)

    server.handler = refuse if "token" in trouble else dying(1, server)
    client = KubeClient(Transport(await Credentials.load(), lambda *_: None), guard)
    key = ObjectKey("Service", "shop", "s")
    requests = {
        "PATCH": lambda: client.apply(SERVICE, "uid"),
        "DELETE": lambda: client.delete(key, "uid"),
    }
    for method, request in requests.items():
        asked = 0
        server.seen.clear()
        with pytest.raises(LeadershipLost):
            await request()
        assert server.seen[method] == 1
    await client.close()


async def test_a_page_that_is_not_json_and_a_redirect_are_no_answers(server: Server, client: KubeClient) -> None:
    async def page(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>log in</html>")

    async def redirect(_: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "http://192.0.2.1/"})

    server.handler = page
    with pytest.raises(Unavailable):
        await client.get("Service", "shop", "s")
    server.handler = redirect
    with pytest.raises(KubeError) as caught:
        await client.get("Service", "shop", "s")
    assert caught.value.status == 302


async def test_an_expired_token_is_read_anew_once(server: Server, client: KubeClient) -> None:
    async def only_second(request: web.Request) -> web.StreamResponse:
        fine = request.headers["Authorization"] == "Bearer second"
        return web.json_response({"metadata": {}}, status=200 if fine else 401)

    server.handler = only_second
    server.write_kubeconfig("second")
    await client.get("Service", "shop", "s")
    assert server.tokens == ["Bearer first", "Bearer second"]


async def test_a_refused_token_is_a_typed_error_after_one_more_try(server: Server, client: KubeClient) -> None:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.json_response({"message": "Unauthorized"}, status=401)

    server.handler = refuse
    server.file.write_text("half-written: [")
    with pytest.raises(KubeError) as caught:
        await client.get("Service", "shop", "s")
    assert caught.value.status == 401
    assert server.seen["GET"] == 2
    assert "first" not in str(caught.value)


async def test_watches_never_starve_requests(server: Server, counts: Counter[tuple[str, int]]) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response({"metadata": {"name": "s"}})
        stream = web.StreamResponse()
        await stream.prepare(request)
        await asyncio.Event().wait()
        return stream

    server.handler = handle
    async with client_of(counts, connections=2) as client:

        async def watch() -> None:
            async for _ in client.watch("Service", resource_version="1"):
                pass

        watches = [asyncio.create_task(watch()) for _ in range(8)]
        async with asyncio.timeout(30):
            while counts["watch", 200] < len(watches):  # noqa: ASYNC110 - counting is the condition
                await asyncio.sleep(0.01)
            await client.get("Service", "shop", "s")
        for task in watches:
            task.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


async def test_a_silent_watch_is_unavailable(server: Server, client: KubeClient) -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse()
        await stream.prepare(request)
        await stream.write(b'{"type":"ADDED","object":{"metadata":{"name":"a"}}}\n{"type":"MOD')
        with contextlib.suppress(ConnectionError):
            await asyncio.Event().wait()
        return stream

    server.handler = silent
    seen = []
    with pytest.raises(Unavailable):  # noqa: PT012 - the loop itself is what raises
        async for event in client.watch("Service", resource_version="1", silence_seconds=0.2):
            seen.append((event.type, event.object["kind"], event.object["metadata"]["name"]))
    assert seen == [("ADDED", "Service", "a")]


async def test_missing_credentials_are_a_configuration_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    with pytest.raises(ConfigError):
        await Credentials.load()
