"""Namespaces and watches that fail while others deliver: who waits for them, and who does not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from chatbot_operator.errors import Forbidden
from chatbot_operator.kube.client import KubeClient, Page, WatchEvent
from chatbot_operator.kube.reflector import Reflectors
from tests.unit.operator.kube.lives import FakeClock


class Api:
    """Empty lists, and watches that deliver a bookmark each time they are let; what is in `refused` answers 403."""

    def __init__(self) -> None:
        self.refused: set[tuple[str, str]] = set()
        self.told = asyncio.Condition()

    def _begin(self, kind: str, namespace: str) -> None:
        if {(kind, namespace), ("*", namespace)} & self.refused:
            raise Forbidden("no", target=f"{kind} list")

    async def list_pages(self, kind: str, namespace: str = "", **_: Any) -> AsyncIterator[Page]:
        self._begin(kind, namespace)
        yield Page([], "10")

    async def watch(self, kind: str, namespace: str = "", **_: Any) -> AsyncIterator[WatchEvent]:
        while True:
            async with self.told:
                await self.told.wait()
            self._begin(kind, namespace)
            yield WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": "11"}})

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
