"""Runs the operator's reflectors in a test and waits for what they see."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from chatbot_operator.clock import SystemClock
from chatbot_operator.kube.client import KubeClient
from chatbot_operator.kube.reflector import Reflectors
from chatbot_operator.model.objects import ChildState, ObjectKey
from tests.support.children import INSTANCE


class Watcher:
    """Running reflectors and what they reported."""

    def __init__(self, client: KubeClient, *namespaces: str, silence: float = 90.0, seconds: int = 300) -> None:
        self.changes: list[tuple[str, str]] = []
        self.woken = asyncio.Event()
        self.reflectors = Reflectors(client, SystemClock(), namespaces, self._changed, silence_seconds=silence, watch_seconds=seconds)

    def _changed(self, namespace: str, instance: str) -> None:
        self.changes.append((namespace, instance))
        self.woken.set()

    async def until(self, condition: Callable[[], Any], what: str, timeout: float = 30.0) -> Any:  # noqa: ASYNC109  a limit with a message of its own
        """Wait for a condition; it is looked at after each change."""
        try:
            async with asyncio.timeout(timeout):
                while not (found := condition()):
                    self.woken.clear()
                    await self.woken.wait()
                return found
        except TimeoutError:
            raise AssertionError(f"never seen: {what}") from None

    def child(self, namespace: str, kind: str, name: str, instance: str = INSTANCE) -> ChildState | None:
        return self.reflectors.children(namespace, instance).get(ObjectKey(kind, namespace, name))


@asynccontextmanager
async def watching(client: KubeClient, *namespaces: str, silence: float = 90.0, seconds: int = 300) -> AsyncIterator[Watcher]:
    """Watch the namespaces (none: all) for the length of a block, from the moment at which everything was listed."""
    async with running(Watcher(client, *namespaces, silence=silence, seconds=seconds)) as watcher:
        yield watcher


@asynccontextmanager
async def running(watcher: Watcher) -> AsyncIterator[Watcher]:
    """Run a watcher for the length of a block, from the moment at which everything was listed."""
    task = asyncio.create_task(watcher.reflectors.run())
    try:
        async with asyncio.timeout(30):
            await watcher.reflectors.wait_synced()
        yield watcher
        assert not task.done(), f"the reflectors died: {task}"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
