"""Runs kopf as what it is here: a watch on our own kinds, inside our event loop, without peering, posting, scanning or signals."""

import asyncio
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final

import kopf

from chatbot_operator.constants import GROUP
from chatbot_operator.handlers.inbox import Inbox, register
from chatbot_operator.handlers.session import Credentials, watch_session

KOPF_PREFIX: Final = f"kopf.{GROUP}"
"""Prefix of whatever kopf might ever write. Its finalizer must not be the engine's: kopf removes its own wherever it finds it."""
WATCH_SECONDS: Final = 300
SILENCE_SECONDS: Final = 70.0
STOP_SECONDS: Final = 3.0


class PatientBackoffs:
    """Delays between tries of a request: they never end, because a watch that gives up would end the process while the API is away."""

    def __iter__(self) -> Iterator[float]:
        """Return a fresh endless series of seconds."""
        return itertools.chain((0.5, 1, 2, 3), itertools.repeat(5))


class NoDiffBase(kopf.DiffBaseStorage):
    """Keeps nothing and compares nothing: without handlers of changes there is no use for copies of objects."""

    def build(self, **_: Any) -> Any:
        """Return an empty essence, instead of a deep copy of the object."""
        return {}

    def fetch(self, **_: Any) -> None:
        """Return that nothing was stored."""

    def store(self, **_: Any) -> None:
        """Store nothing."""


def settings() -> kopf.OperatorSettings:
    """Return kopf's settings; docs/reliability.md says which trap each closes."""
    chosen = kopf.OperatorSettings()
    chosen.scanning.disabled = True
    chosen.peering.standalone = True
    chosen.posting.enabled = False
    chosen.posting.loggers = False
    chosen.persistence.finalizer = f"{KOPF_PREFIX}/unused"
    chosen.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=KOPF_PREFIX)
    chosen.persistence.diffbase_storage = NoDiffBase()
    chosen.watching.server_timeout = WATCH_SECONDS
    chosen.watching.client_timeout = WATCH_SECONDS + 10
    chosen.watching.inactivity_timeout = SILENCE_SECONDS
    chosen.watching.connect_timeout = 5
    chosen.watching.reconnect_backoff = 0.5
    chosen.watching.chunk_size = 250
    chosen.networking.request_timeout = 30
    chosen.networking.connect_timeout = 5
    chosen.networking.error_backoffs = PatientBackoffs()
    chosen.queueing.error_delays = (1, 2, 5, 10, 30)
    chosen.queueing.idle_timeout = 0.5
    return chosen


class Shell:
    """kopf's tasks as one coroutine that ends, with an error, as soon as any of them does."""

    def __init__(
        self,
        inboxes: Sequence[Inbox],
        credentials: Credentials,
        namespaces: Collection[str],
        take_signals: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            inboxes: Where the events of each kind go.
            credentials: Of this process, shared with our own client.
            namespaces: Watched namespaces; empty means all.
            take_signals: Installs our own signal handlers again, because kopf takes SIGTERM and SIGINT for itself.
        """
        self._registry = kopf.OperatorRegistry()
        for inbox in inboxes:
            register(self._registry, inbox)
        self._namespaces = namespaces
        self._take_signals = take_signals

        @kopf.on.login(registry=self._registry, id="login")
        async def login(**_: Any) -> kopf.AiohttpSession:
            return kopf.AiohttpSession(server=credentials.host, aiohttp_session=watch_session(credentials))

    async def run(self) -> None:
        """Watch until cancelled.

        Raises:
            RuntimeError: A task of kopf's ended; the process must end too, or it would be deaf.
        """
        tasks = await kopf.spawn_tasks(
            registry=self._registry,
            settings=settings(),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
        )
        self._take_signals()
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ended = next(iter(done))
            cause = None if ended.cancelled() else ended.exception()
            raise RuntimeError(f"kopf's task {ended.get_name()!r} ended") from cause
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
