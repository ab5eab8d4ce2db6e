"""One list and watch: keeps a sink equal to what the API server holds, through 410, restarts, silence and lost connections."""

import asyncio
import contextlib
import math
import random
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import structlog

from chatbot_operator.clock import Clock
from chatbot_operator.constants import LABEL_INSTANCE
from chatbot_operator.errors import Forbidden, Gone, KubeError, Throttled, Unavailable
from chatbot_operator.kube.client import SILENCE_SECONDS, WATCH_SECONDS, KubeClient
from chatbot_operator.kube.project import key_of_live
from chatbot_operator.kube.store import version_number
from chatbot_operator.model.objects import ObjectKey

Live = Mapping[str, Any]

FIRST_DELAY: Final = 0.2
LAST_DELAY: Final = 30.0
HEALTHY_SECONDS: Final = 5.0
"""A watch that lived this long resets the back-off."""

_log = structlog.get_logger(__name__)


class Recovery:
    """Lets streams that wait out an outage go on as soon as one of them gets through: each would wait for up to 45 s more."""

    def __init__(self) -> None:
        self._told = asyncio.Event()

    def tell(self) -> None:
        """Say that the API server answers again."""
        self._told.set()
        self._told = asyncio.Event()

    async def wait(self, seconds: float) -> bool:
        """Wait so long, or until somebody tells; return whether somebody did."""
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._told.wait(), seconds)
        return False


class Sink(Protocol):
    """Where a stream delivers."""

    async def put(self, live: Live, asof: float = -1) -> None:
        """Take in an object, from a list of version `asof` or from the watch. A KubeError makes the stream deliver it again later."""

    async def remove(self, live: Live) -> None:
        """Take out a deleted object."""

    async def listed(self, seen: set[ObjectKey], asof: float, since: float) -> None:
        """Learn that a list of version `asof` that began at `since` (monotonic seconds) is complete."""

    async def marked(self) -> None:
        """Learn that the watch is up to date (a bookmark came)."""


class Stream:
    """One kind in one namespace, or in all."""

    def __init__(
        self,
        client: KubeClient,
        clock: Clock,
        sink: Sink,
        *,
        kind: str,
        namespace: str = "",
        metadata_only: bool = False,
        watch_seconds: int = WATCH_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
        turn: asyncio.Lock | None = None,
        heard: Callable[[], None] = lambda: None,
        recovery: Recovery | None = None,
    ) -> None:
        self._client = client
        self._clock = clock
        self._sink = sink
        self._kind = kind
        self._namespace = namespace
        self._metadata_only = metadata_only
        self._watch_seconds = watch_seconds
        self._silence_seconds = silence_seconds
        self._heard = heard
        self._recovery = recovery or Recovery()
        self._turn = turn or asyncio.Lock()
        """Held while listing: streams that share it list one after the other, so that at most one page is in memory."""
        self._version = ""
        self._newest = ""
        """The newest resourceVersion ever seen."""
        self._complaint = ""
        self.synced = asyncio.Event()
        """Set once the first list is complete, for ever."""
        self.refused = False
        """The first list is not allowed (for now): the namespace may be gone, and its RoleBinding with it."""
        self.last_activity = clock.monotonic()
        """Monotonic seconds of the last list page or line of the watch."""
        self.current_at = clock.monotonic()
        """Monotonic seconds at which everything heard so far was last taken in."""

    async def run(self) -> None:
        """List and watch until cancelled.

        A watch that breaks is resumed where it was. When that fails too, the server was away, and it may come back with a
        restored store: then only a list is the truth.
        """
        delay, failures = FIRST_DELAY, 0
        while True:
            began, away = self._clock.monotonic(), False
            try:
                if not self._version:
                    async with self._turn:
                        await self._list()
                await self._watch()
                wait = 0.0 if self._clock.monotonic() - began >= HEALTHY_SECONDS else delay
                failures = 0
            except Gone:
                self._version = ""
                wait = delay
            except KubeError as error:
                self._complain(error)
                self.refused = isinstance(error, Forbidden) and not self.synced.is_set()
                failures += 1
                away = isinstance(error, Unavailable) and error.status is None
                if failures > 1:
                    self._version = ""
                wait = max(delay, error.retry_after) if isinstance(error, Throttled) else delay
            if self._clock.monotonic() - began >= HEALTHY_SECONDS:
                delay, failures = FIRST_DELAY, min(failures, 1)
            if wait and await self._pause(wait * random.uniform(0.5, 1.5), away=away):  # noqa: S311 jitter against herds, not a secret
                delay = FIRST_DELAY
            elif wait:
                delay = min(delay * 2, LAST_DELAY)

    async def _pause(self, seconds: float, *, away: bool) -> bool:
        """Wait; return whether the wait was cut short because the API server that gave no answer is back."""
        if away and await self._recovery.wait(seconds):
            await asyncio.sleep(FIRST_DELAY * random.random())  # noqa: S311 jitter against herds, not a secret
            return True
        if not away:
            await asyncio.sleep(seconds)
        return False

    async def _list(self) -> None:
        """Replace everything by a consistent list. Secrets are listed with their values, which the sink hashes at once."""
        since = self._clock.monotonic()
        seen: set[ObjectKey] = set()
        version, asof = "", -1.0
        async for page in self._client.list_pages(self._kind, self._namespace, selector=LABEL_INSTANCE):
            self._touch()
            if not version:
                asof = self._validity(page.resource_version)
            for item in page.items:
                await self._sink.put(item, asof)
                seen.add(key_of_live(item))
            version = page.resource_version
            await asyncio.sleep(0)
        await self._sink.listed(seen, asof, since)
        self._version = self._newest = version
        self.synced.set()
        self.refused = False
        self.current_at = self._clock.monotonic()

    def _validity(self, version: str) -> float:
        """Return up to which version a list is the truth: for ever, if the server's history went back (its store was restored)."""
        if version_number(version) >= version_number(self._newest):
            return version_number(version)
        _log.warning("watch.history_went_back", kind=self._kind, namespace=self._namespace)
        return math.inf

    async def _watch(self) -> None:
        events = self._client.watch(
            self._kind,
            self._namespace,
            resource_version=self._version,
            selector=LABEL_INSTANCE,
            metadata_only=self._metadata_only,
            seconds=self._watch_seconds + random.randint(0, self._watch_seconds // 5),  # noqa: S311 spreads reconnects
            silence_seconds=self._silence_seconds,
        )
        async for event in events:
            self._touch()
            version = event.object["metadata"]["resourceVersion"]
            if version_number(version) < version_number(self._version):
                raise Gone("the server's history went back", status=410, target=f"{self._kind} watch")
            if event.type == "BOOKMARK":
                await self._sink.marked()
            elif event.type == "DELETED":
                await self._sink.remove(event.object)
            else:
                await self._sink.put(event.object)
            self._version = self._newest = version
            self.current_at = self._clock.monotonic()

    def _touch(self) -> None:
        self.last_activity = self._clock.monotonic()
        self._heard()
        if self._complaint:
            if self._complaint == Unavailable.reason:
                self._recovery.tell()
            self._complaint = ""
            _log.info("watch.recovered", kind=self._kind, namespace=self._namespace)

    def _complain(self, error: KubeError) -> None:
        """Log a failing watch once per reason, not once per try."""
        if error.reason != self._complaint:
            self._complaint = error.reason
            _log.warning("watch.failing", kind=self._kind, namespace=self._namespace, reason=error.reason, error=str(error))
