"""Compares the store with a list now and then, so that an event lost by the watch costs time and never work.

kopf tells nothing of objects that vanished while its watch was broken for long, and nothing of its own silence.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Protocol

import structlog

from chatbot_operator.clock import Clock
from chatbot_operator.engine.store import NamespacedName, ObjectStore, Tracked, name_of, version_number
from chatbot_operator.errors import KubeError, NotFound

RELIST_SECONDS: Final = 300.0
"""About four requests per thousand instances and period: metadata only, in pages."""
GRACE_SECONDS: Final = 5.0
"""How long an event may be under way before it counts as lost."""

_log = structlog.get_logger(__name__)


class Page(Protocol):
    """One page of a list."""

    items: list[dict[str, Any]]


class Client(Protocol):
    """What of the API client is needed here."""

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """Return one object."""

    def list_pages(self, kind: str, namespace: str = "", *, metadata_only: bool = False) -> AsyncIterator[Any]:
        """Yield a list page by page."""


class Relist:
    """Corrects the store from lists and remembers whether the watch keeps missing things."""

    def __init__(
        self,
        kind: str,
        client: Client,
        store: ObjectStore[Any],
        clock: Clock,
        namespaces: Sequence[str],
        *,
        on_change: Callable[[NamespacedName], None],
        on_gone: Callable[[NamespacedName], None],
        period: float = RELIST_SECONDS,
        grace: float = GRACE_SECONDS,
    ) -> None:
        """Prepare.

        Args:
            kind: What is listed.
            client: For lists.
            store: What is corrected.
            clock: For times.
            namespaces: Watched namespaces; empty means all.
            on_change: Called for an object that is newer than the watch told.
            on_gone: Called for an object that no longer exists.
            period: Seconds between two lists.
            grace: Seconds that an event may be under way.
        """
        self._kind = kind
        self._client = client
        self._store = store
        self._clock = clock
        self._namespaces = tuple(namespaces) or ("",)
        self._on_change = on_change
        self._on_gone = on_gone
        self._period = period
        self._grace = grace
        self._turn = 0
        self._missed_in: int | None = None
        """Turn in which a list first held what the watch had not told; None after the watch told something again."""
        self.deaf_at: float | None = None
        """Monotonic seconds at which a later list held such a thing too. One alone may be an event that was merely slow."""

    def watch_told(self) -> None:
        """Learn that the watch delivered an event: it is not deaf."""
        self._missed_in = self.deaf_at = None

    async def run(self) -> None:
        """Compare now and then until cancelled; a failing list is tried again at the next turn."""
        while True:
            await asyncio.sleep(self._period * random.uniform(0.9, 1.1))  # noqa: S311 jitter, not a secret
            await self.compare()

    async def compare(self) -> None:
        """Compare each namespace once; one whose list fails does not keep the others from being compared."""
        self._turn += 1
        for namespace in self._namespaces:
            try:
                await self._compare(namespace)
            except KubeError as error:
                _log.info("relist.failed", namespace=namespace, reason=error.reason)

    async def _compare(self, namespace: str) -> None:
        here = [key for key in self._store if namespace in ("", key.namespace)]
        before = {key: found for key in here if (found := self._store.get(key)) is not None}
        seen: dict[NamespacedName, str] = {}
        async for page in self._client.list_pages(self._kind, namespace, metadata_only=True):
            for item in page.items:
                seen[name_of(item)] = item["metadata"]["resourceVersion"]
        suspects = [key for key in {*before, *seen} if self._differs(key, before, seen)]
        if not suspects:
            return
        await asyncio.sleep(self._grace)
        for key in suspects:
            if self._differs(key, before, seen):
                await self._correct(key)

    def _differs(self, key: NamespacedName, before: dict[NamespacedName, Tracked[Any]], seen: dict[NamespacedName, str]) -> bool:
        """Return whether the store still lacks what the list held, or still holds what it lacked.

        What was held before the list began and is newer than the list is of a history that the server no longer has.
        """
        held, old = self._store.get(key), before.get(key)
        if key not in seen:
            return held is not None and old is not None and held.uid == old.uid
        if held is None:
            return True
        known, listed = version_number(held.resource_version), version_number(seen[key])
        return known < listed or (held is old and known > listed)

    async def _correct(self, key: NamespacedName) -> None:
        held = self._store.get(key)
        try:
            live = await self._client.get(self._kind, key.namespace, key.name)
        except NotFound:
            held = self._store.get(key)
            if held is not None and self._store.remove(key, held.uid):
                self._note(key, "deleted")
                self._on_gone(key)
            return
        if self._store.believe(live, held):
            self._note(key, "changed")
            self._on_change(key)

    def _note(self, key: NamespacedName, what: str) -> None:
        if self._missed_in is None:
            self._missed_in = self._turn
        elif self._missed_in != self._turn and self.deaf_at is None:
            self.deaf_at = self._clock.monotonic()
        _log.warning("watch.missed", kind=self._kind, namespace=key.namespace, name=key.name, what=what)
