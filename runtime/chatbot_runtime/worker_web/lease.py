"""The lease that makes one worker-web the only one of its number, kept alive and judged by this process's own clock.

A process believes in its lease only until the moment before which it can't have expired: time of the request plus its duration. A
partitioned worker therefore stops by itself, before another one can start.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from chatbot_runtime import metrics
from chatbot_runtime.clock import Clock
from chatbot_runtime.db.engine import autocommit
from chatbot_runtime.errors import DatabaseDown
from chatbot_runtime.lifecycle import Lifecycle
from chatbot_runtime.queue.leases import Lease, acquire, release, renew

RENEWALS: Final = 3
"""Renewals within the lease's duration: two may fail."""
RETRY_S: Final = 2.0
"""Between tries to take a lease that is not ours."""

OnHeld = Callable[[Lease | None], Awaitable[None]]

log = structlog.get_logger(__name__)


def lease_name(number: str) -> str:
    """Return the name of a number's row in `worker_leases`."""
    return f"web:{number}"


class LeaseKeeper:
    """Takes the lease, renews it, notices its loss, and gives it back at the end."""

    def __init__(self, engine: AsyncEngine, clock: Clock, *, name: str, holder: str, ttl_s: float) -> None:
        self._engine = engine
        self._clock = clock
        self._name = name
        self._holder = holder
        self._ttl_s = ttl_s
        self._lease: Lease | None = None
        self._good_until = 0.0
        metrics.LEASE_HELD.set_function(lambda: self.held() is not None)

    def held(self) -> Lease | None:
        """Return the lease if it surely still stands."""
        return self._lease if self._lease and self._clock.monotonic() < self._good_until else None

    async def run(self, lifecycle: Lifecycle, may_take: Callable[[], bool], on_change: OnHeld) -> None:
        """Keep the lease until the process stops, then release it.

        Args:
            lifecycle: of the process.
            may_take: whether the process could work at all, asked before taking a lease that is not ours.
            on_change: called with a new lease, or None after its loss; it may be called again with the same value.
        """
        while not lifecycle.stopping.is_set():
            if self.held() or may_take():
                await self._beat()
            await self._announce(on_change)
            await lifecycle.pause(self._ttl_s / RENEWALS if self.held() else RETRY_S)
        await self._release()
        await self._announce(on_change)

    async def _beat(self) -> None:
        asked_at = self._clock.monotonic()
        try:
            async with autocommit(self._engine) as db:
                held = self.held()
                if held is None or not await renew(db, held, self._ttl_s):
                    self._lease = await acquire(db, self._name, self._holder, self._ttl_s)
        except DatabaseDown:
            return  # the lease stands until its time is over
        if self._lease is not None:
            self._good_until = asked_at + self._ttl_s

    async def _announce(self, on_change: OnHeld) -> None:
        held = self.held()
        if held is not None:
            metrics.LEASE_EPOCH.set(held.epoch)
        await on_change(held)

    async def _release(self) -> None:
        if self._lease is None:
            return
        try:
            async with autocommit(self._engine) as db:
                await release(db, self._lease)
        except DatabaseDown:
            log.warning("lease_not_released", lease=self._name)  # it expires by itself
        self._lease = None
