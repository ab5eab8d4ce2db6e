"""The fault proxy does what chaos tests believe of it, seen from a client with the operator's account."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.support.faultproxy import FaultProxy, Faults
from tests.support.kubeapi import ApiError, KubeApi, Object, path


def service(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 1}]}}


async def test_it_passes_requests_on_with_the_callers_own_rights(through_proxy: Path, fault_proxy: FaultProxy, namespace: str) -> None:
    async with KubeApi(through_proxy) as api:
        await api.create(service("a"), namespace)
        with pytest.raises(ApiError, match="forbidden"):
            await api.list("Node")
    assert fault_proxy.mutations == [f"POST {path('Service', namespace)}"]


@pytest.mark.parametrize("after", [False, True])
async def test_a_kill_comes_before_or_after_the_request_took_effect(
    after: bool, through_proxy: Path, fault_proxy: FaultProxy, admin: KubeApi, namespace: str
) -> None:
    kills: list[str] = []
    fault_proxy.faults = Faults(kill_at=2, kill_after=after, on_kill=lambda: kills.append("now"))
    async with KubeApi(through_proxy) as api:
        await api.create(service("first"), namespace)
        with pytest.raises(aiohttp.ClientError):
            await api.create(service("second"), namespace)
    assert kills == ["now"]
    assert (await admin.find(path("Service", namespace, "second")) is not None) == after


async def test_a_silent_watch_stays_open_and_loses_nothing(
    through_proxy: Path, fault_proxy: FaultProxy, admin: KubeApi, namespace: str
) -> None:
    async with KubeApi(through_proxy) as api:
        seen: asyncio.Queue[str] = asyncio.Queue()

        async def follow() -> None:
            async for event in api.watch(path("Service", namespace)):
                seen.put_nowait(event["object"]["metadata"]["name"])

        task = asyncio.create_task(follow())
        await admin.create(service("heard"), namespace)
        assert await asyncio.wait_for(seen.get(), 10) == "heard"
        fault_proxy.watches_flow.clear()
        await admin.create(service("held"), namespace)
        await api.list("Service", namespace)  # other requests go on
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(seen.get(), 0.5)
        assert not task.done()
        fault_proxy.watches_flow.set()
        assert await asyncio.wait_for(seen.get(), 10) == "held"
        task.cancel()


async def test_an_absent_server_breaks_open_watches_and_refuses_new_requests(
    through_proxy: Path, fault_proxy: FaultProxy, admin: KubeApi, namespace: str
) -> None:
    async with KubeApi(through_proxy) as api:
        await admin.create(service("a"), namespace)
        watch = api.watch(path("Service", namespace))
        await anext(watch)
        fault_proxy.faults.away = True
        with pytest.raises((aiohttp.ClientError, StopAsyncIteration)):
            await asyncio.wait_for(anext(watch), 10)
        with pytest.raises(aiohttp.ClientError):
            await api.list("Service", namespace)
        fault_proxy.reset()
        await api.list("Service", namespace)


async def test_refused_tokens_look_like_expired_ones(through_proxy: Path, fault_proxy: FaultProxy) -> None:
    fault_proxy.faults.unauthorized = True
    async with KubeApi(through_proxy) as api:
        with pytest.raises(ApiError) as refused:
            await api.list("ChatbotInstance")
    assert refused.value.status == 401
