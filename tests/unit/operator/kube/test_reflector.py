"""Namespaces and watches that fail while others deliver: who waits for them, and who does not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from chatbot_operator.constants import LABEL_INSTANCE, LABEL_INSTANCE_UID
from chatbot_operator.errors import Forbidden, Unavailable
from chatbot_operator.kube.client import KubeClient, Page, WatchEvent
from chatbot_operator.kube.reflector import Reflectors
from chatbot_operator.kube.stream import FIRST_DELAY
from chatbot_operator.model.objects import ObjectKey
from tests.unit.operator.kube.lives import FakeClock


class Api:
    """Empty lists, and watches that deliver a bookmark each time they are let; what is in `refused` answers 403."""

    def __init__(self) -> None:
        self.refused: set[tuple[str, str]] = set()
        self.away = False
        self.told = asyncio.Condition()
        self.secret: dict[str, Any] | None = None
        self.reads = 0

    def _begin(self, kind: str, namespace: str) -> None:
        if {(kind, namespace), ("*", namespace)} & self.refused:
            raise Forbidden("no", target=f"{kind} list")
        if self.away:
            raise Unavailable("no answer", target=f"{kind} list")

    async def list_pages(self, kind: str, namespace: str = "", **_: Any) -> AsyncIterator[Page]:
        self._begin(kind, namespace)
        yield Page([], "10")

    async def watch(self, kind: str, namespace: str = "", **_: Any) -> AsyncIterator[WatchEvent]:
        self._begin(kind, namespace)
        while True:
            async with self.told:
                await self.told.wait()
            self._begin(kind, namespace)
            if kind == "Secret" and self.secret is not None:
                yield WatchEvent("MODIFIED", {"kind": kind, "metadata": self.secret["metadata"]})
            else:
                yield WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": "11"}})

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        self.reads += 1
        assert self.secret is not None
        return self.secret

    async def tell(self) -> None:
        """Let each open watch deliver."""
        async with self.told:
            self.told.notify_all()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def running(api: Api, clock: FakeClock, *namespaces: str) -> AsyncIterator[Reflectors]:
    reflectors = Reflectors(cast(KubeClient, api), clock, namespaces, lambda *_: None)
    task = asyncio.create_task(reflectors.run())
    try:
        yield reflectors
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def api() -> Api:
    return Api()


async def test_a_namespace_that_refuses_keeps_no_other_waiting(api: Api) -> None:
    api.refused = {("*", "gone")}
    async with running(api, FakeClock(), "a", "gone") as reflectors, asyncio.timeout(10):
        assert await reflectors.wait_synced() == ("gone",)
        assert reflectors.synced("a")
        assert not reflectors.synced("gone")
        api.refused.clear()  # created anew, with its RoleBinding
        while not reflectors.synced("gone"):  # noqa: ASYNC110 - the stream tells nobody
            await asyncio.sleep(0.01)


async def test_an_operator_that_can_see_nothing_is_not_ready(api: Api) -> None:
    api.refused = {("*", "")}
    async with running(api, FakeClock()) as reflectors:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reflectors.wait_synced(), 0.5)


async def test_one_dead_watch_is_blind_while_the_others_deliver_and_sees_again_when_it_works(api: Api) -> None:
    clock = FakeClock()
    async with running(api, clock, "a", "b") as reflectors, asyncio.timeout(20):
        await reflectors.wait_synced()
        api.refused = {("Deployment", "a")}
        for _ in range(5):
            clock.seconds += 60
            await api.tell()
        assert reflectors.blind("a") == ("Deployment",)
        assert reflectors.blind("b") == ()
        assert reflectors.stale_seconds("Deployment") == 300
        assert reflectors.stale_seconds("Job") == 0
        api.refused.clear()
        while reflectors.blind("a"):
            await api.tell()


async def test_an_outage_of_the_api_server_makes_no_watch_blind(api: Api) -> None:
    clock = FakeClock()
    async with running(api, clock, "a") as reflectors:
        await asyncio.wait_for(reflectors.wait_synced(), 10)
        clock.seconds += 3600
        assert reflectors.blind("a") == ()
        api.refused = {("Deployment", "a")}  # the last to come back
        await api.tell()
        assert reflectors.stale_seconds("Deployment") == 3600
        assert reflectors.blind("a") == ()


async def test_a_watch_that_is_only_quiet_is_not_blind(api: Api) -> None:
    clock = FakeClock()
    async with running(api, clock, "a") as reflectors:
        await asyncio.wait_for(reflectors.wait_synced(), 10)
        for _ in range(10):
            clock.seconds += 85
            await api.tell()
            assert reflectors.blind("a") == ()


def _secret(version: str, value: str) -> dict[str, Any]:
    labels = {LABEL_INSTANCE: "shop", LABEL_INSTANCE_UID: "uid-1"}
    metadata = {"namespace": "a", "name": "shop-db", "uid": "s", "resourceVersion": version, "labels": labels}
    return {"kind": "Secret", "type": "Opaque", "metadata": metadata, "data": {"password": value}}


async def test_a_secret_of_ours_that_the_watch_tells_before_the_answer_to_its_write_is_not_read(api: Api) -> None:
    async with running(api, FakeClock(), "a") as reflectors, asyncio.timeout(10):
        await reflectors.wait_synced()
        api.secret = _secret("20", "b25l")
        with reflectors.writing(ObjectKey("Secret", "a", "shop-db")):
            await api.tell()
            assert reflectors.own_secret("a", "shop-db", "uid-1") is None
            reflectors.learn(api.secret)
        await api.tell()
        assert reflectors.own_secret("a", "shop-db", "uid-1") is not None
        assert api.reads == 0


@pytest.mark.parametrize("announced", [True, False], ids=["the write came to nothing", "nobody wrote"])
async def test_a_secret_whose_values_nobody_brings_is_read(api: Api, announced: bool) -> None:
    async with running(api, FakeClock(), "a") as reflectors, asyncio.timeout(10):
        await reflectors.wait_synced()
        api.secret = _secret("20", "b25l")
        if announced:
            with reflectors.writing(ObjectKey("Secret", "a", "shop-db")):
                await api.tell()
                assert api.reads == 0
        else:
            await api.tell()
        while not api.reads:  # noqa: ASYNC110 - the stream tells nobody
            await asyncio.sleep(0.01)
        assert reflectors.own_secret("a", "shop-db", "uid-1") is not None


async def test_one_watch_that_gets_through_after_an_outage_lets_all_others_try_at_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first wait is short and every later one endless: without a word of the others nobody would come back in this test.
    monkeypatch.setattr("chatbot_operator.kube.stream.LAST_DELAY", 3600.0)
    waits = iter([*[0.02] * 11, 0.05])
    monkeypatch.setattr("chatbot_operator.kube.stream.random.uniform", lambda *_: next(waits, 3600.0) / FIRST_DELAY)
    api.away = True
    async with running(api, FakeClock(), "a") as reflectors, asyncio.timeout(10):
        await asyncio.sleep(0.04)
        api.away = False
        await reflectors.wait_synced()
