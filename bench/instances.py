"""Creates instances and watches them become Ready, with one clock: that of the harness."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from bench.rig import NAMESPACES, Rig, in_flight, instance
from tests.support.kubeapi import KubeApi, condition, path

Key = tuple[str, str]


@dataclass
class Watched:
    """When each instance was acknowledged, first Ready at its generation, and how many events it made."""

    acked: dict[Key, float] = field(default_factory=dict)
    ready: dict[Key, float] = field(default_factory=dict)
    events: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def seconds(self) -> list[float]:
        """Return the time from acknowledgement to Ready of each instance that got there."""
        return [moment - self.acked[key] for key, moment in self.ready.items() if key in self.acked]


@contextlib.asynccontextmanager
async def watching(api: KubeApi) -> AsyncIterator[Watched]:
    """Watch every instance for the length of a block."""
    watched = Watched()
    version = (await api.get(path("ChatbotInstance"), limit="1"))["metadata"]["resourceVersion"]
    task = asyncio.create_task(_follow(api, version, watched))
    try:
        yield watched
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _follow(api: KubeApi, version: str, watched: Watched) -> None:
    while True:
        async for event in api.watch(path("ChatbotInstance"), version, 600, allowWatchBookmarks="true"):
            item = event["object"]
            version = item["metadata"]["resourceVersion"]
            if event["type"] == "BOOKMARK":
                continue
            watched.events += 1
            key = (item["metadata"]["namespace"], item["metadata"]["name"])
            ready = condition(item, "Ready")
            if (
                ready.get("status") == "True"
                and ready.get("observedGeneration", item["metadata"]["generation"]) == item["metadata"]["generation"]
            ):
                watched.ready.setdefault(key, time.monotonic())
                watched.changed.set()


async def create(rig: Rig, watched: Watched, count: int, prefix: str = "n") -> None:
    """Create instances with 32 in flight, spread over the namespaces."""

    async def one(number: int) -> None:
        manifest = instance(f"{prefix}{number}", NAMESPACES[number % len(NAMESPACES)])
        await rig.api.create(manifest)
        watched.acked[manifest["metadata"]["namespace"], manifest["metadata"]["name"]] = time.monotonic()

    await in_flight((lambda n=n: one(n)) for n in range(count))  # type: ignore[misc]


async def wait_ready(watched: Watched, count: int, timeout: float) -> None:  # noqa: ASYNC109  a limit for the whole run, with its own message
    """Wait until so many instances were Ready.

    Raises:
        RuntimeError: Not within `timeout` seconds.
    """
    try:
        async with asyncio.timeout(timeout):
            while len(watched.ready) < count:
                watched.changed.clear()
                await watched.changed.wait()
    except TimeoutError:
        raise RuntimeError(f"only {len(watched.ready)} of {count} instances were Ready after {timeout:.0f} s") from None
