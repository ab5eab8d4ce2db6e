"""Leader election on a Lease of its own: one process acts, another waits and takes over."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Final

import structlog

from chatbot_operator.clock import Clock
from chatbot_operator.errors import Conflict, Gone, KubeError, LeadershipLost, NotFound
from chatbot_operator.kube.client import KubeClient
from chatbot_operator.kube.kinds import LEASE
from chatbot_operator.kube.tenancy import Record, Tenancy
from chatbot_operator.model.objects import ObjectKey

LONGEST_PAUSE: Final = 1.0
"""Seconds after which a failed try to take or renew is repeated, or a twelfth of the Lease if that is less."""

_log = structlog.get_logger(__name__)


class LeaderElector:
    """Takes, renews and releases the Lease. `guard` is what every mutation of this process must pass."""

    def __init__(self, client: KubeClient, clock: Clock, *, namespace: str, name: str, identity: str, seconds: float) -> None:
        """Prepare; nothing is asked yet.

        Args:
            client: Its guard does not apply here.
            clock: Monotonic time decides everything; wall-clock time is only written for people.
            namespace: Of the Lease.
            name: Of the Lease.
            identity: Unique for ever, for example the pod's uid.
            seconds: Duration of the Lease, at least 1; renewed every third of it.
        """
        self._client = client.unguarded()
        self._clock = clock
        self._key = ObjectKey(LEASE.kind, namespace, name)
        self._tenancy = Tenancy(identity, seconds)
        self._pause = min(LONGEST_PAUSE, seconds / 12)
        self._complaint = ""
        self._seen = asyncio.Event()
        self.last_seen = clock.monotonic()
        """Monotonic seconds at which the watch last delivered the Lease: with a leader alive that is the heartbeat of watches."""

    @property
    def deadline(self) -> float:
        """Return until when (monotonic seconds) this process may change things."""
        return self._tenancy.deadline

    def is_leader(self) -> bool:
        """Return whether this process may change things now."""
        return self._tenancy.is_leader(self._clock.monotonic())

    def guard(self) -> None:
        """Do nothing while this process is the leader.

        Raises:
            LeadershipLost: The local deadline has passed.
        """
        if not self.is_leader():
            raise LeadershipLost("this process is not the leader (any more) and may change nothing")

    async def acquire(self) -> None:
        """Wait, as long as it takes, until this process is the leader."""
        async with _watching(self):
            while not self.is_leader():
                wait = self._tenancy.wait(self._clock.monotonic())
                if wait > 0:
                    self._seen.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._seen.wait(), wait)
                    continue
                await self._write_or_pause()
        _log.info("lease.acquired", lease=str(self._key), identity=self._tenancy.identity)

    async def run(self) -> None:
        """Renew until another holder is seen; call it right after `acquire()`. While the API is away it keeps trying; `guard` says no.

        Raises:
            LeadershipLost: Another process holds the Lease; this one should end.
        """
        async with _watching(self):
            while True:
                if self._tenancy.other_holder():
                    self._tenancy.step_down()
                    raise LeadershipLost(f"another operator holds {self._key}")
                began = self._clock.monotonic()
                if await self._write_or_pause():
                    rest = began + self._tenancy.renew_seconds - self._clock.monotonic()
                    await asyncio.sleep(max(0.0, rest))

    async def release(self) -> None:
        """Stop acting and hand the Lease over at once; a failure only makes the standby wait."""
        self._tenancy.step_down()
        try:
            if await self._hand_over():
                _log.info("lease.released", lease=str(self._key))
        except KubeError as error:
            _log.warning("lease.release_failed", lease=str(self._key), reason=error.reason)

    async def _hand_over(self) -> bool:
        """Take ourselves out of the Lease; return False when we are not in it."""
        for attempt in (1, 2):
            held = self._tenancy.record
            if held is None or held.holder != self._tenancy.identity:
                return False
            patch = {"metadata": {"resourceVersion": held.version}, "spec": {"holderIdentity": ""}}
            try:
                await self._client.merge_patch(self._key, patch, seconds=self._tenancy.seconds)
                return True
            except Conflict:
                if attempt == 2:
                    raise
                await self._look()  # a renewal was under way when we were stopped
        return False

    def see(self, live: Mapping[str, Any], *, told: bool = True) -> None:
        """Take in the Lease. `told`: the watch delivered it, which a list before a new watch does not prove."""
        now = self._clock.monotonic()
        if told:
            self.last_seen = now
        self._tenancy.see(Record.of(live), now)
        self._seen.set()

    async def _write_or_pause(self) -> bool:
        """Write ourselves into the Lease; after a failure look what is there and wait a little."""
        try:
            await self._write()
        except KubeError as error:
            if not isinstance(error, Conflict) and error.reason != self._complaint:
                self._complaint = error.reason  # once per reason, not once per try
                _log.warning("lease.write_failed", lease=str(self._key), reason=error.reason, error=str(error))
            with contextlib.suppress(KubeError):
                await self._look()
            await asyncio.sleep(self._pause)
            return False
        self._complaint = ""
        return True

    async def _write(self) -> None:
        """Write ourselves as holder if the Lease is still as last seen; a Conflict means that it is not."""
        held, identity = self._tenancy.record, self._tenancy.identity
        if held is None or not held.version:
            await self._look()
            held = self._tenancy.record
        sent = self._clock.monotonic()
        if self._tenancy.wait(sent) > 0:
            raise Conflict("another operator holds the Lease", target=str(self._key))
        spec: dict[str, Any] = {
            "holderIdentity": identity,
            "leaseDurationSeconds": max(1, round(self._tenancy.seconds)),
            "renewTime": _micro(self._clock.now()),
        }
        taking = held is None or held.holder != identity
        if taking:
            spec["acquireTime"] = spec["renewTime"]
            spec["leaseTransitions"] = (held.transitions if held is not None else 0) + 1
        if held is None or not held.version:
            metadata: dict[str, Any] = {"name": self._key.name, "namespace": self._key.namespace}
            manifest = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}
            live = await self._client.create(manifest)
        else:
            patch = {"metadata": {"resourceVersion": held.version}, "spec": spec}
            live = await self._client.merge_patch(self._key, patch, seconds=self._tenancy.renew_seconds)
        self._tenancy.wrote(Record.of(live), sent)

    async def _look(self) -> None:
        now = self._clock.monotonic()
        try:
            live = await self._client.get(self._key.kind, self._key.namespace, self._key.name, seconds=self._tenancy.renew_seconds)
        except NotFound:
            self._tenancy.gone(now)
        else:
            self._tenancy.see(Record.of(live), self._clock.monotonic(), read=True)

    async def watch(self) -> None:
        """Follow the Lease until cancelled: the standby sees renewals and releases, the leader sees another holder."""
        fields = f"metadata.name={self._key.name}"
        silence = max(15.0, 3 * self._tenancy.seconds)
        while True:
            try:
                version = ""
                async for page in self._client.list_pages(self._key.kind, self._key.namespace, fields=fields):
                    version = page.resource_version
                    for item in page.items:
                        self.see(item, told=False)
                events = self._client.watch(
                    self._key.kind, self._key.namespace, resource_version=version, fields=fields, silence_seconds=silence
                )
                async for event in events:
                    if event.type in ("ADDED", "MODIFIED"):
                        self.see(event.object)
            except Gone:
                pass
            except KubeError as error:
                _log.debug("lease.watch_failed", lease=str(self._key), reason=error.reason)
            await asyncio.sleep(self._pause)


@contextlib.asynccontextmanager
async def _watching(elector: LeaderElector) -> AsyncIterator[None]:
    task = asyncio.create_task(elector.watch(), name="lease watch")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _micro(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
