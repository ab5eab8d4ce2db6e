"""SIGKILL of the operator before and after its mutating requests: create, update, hibernate and delete end as if nothing had happened."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.state import State, difference, is_orphaned, observe
from tests.support import instances
from tests.support.faultproxy import FaultProxy
from tests.support.fixtures import StartOperator
from tests.support.instances import edit, manifest
from tests.support.kubeapi import KubeApi, condition, path
from tests.support.operatorprocess import OperatorProcess

NAME = "shop"
FAST = {"CHATBOT_LEASE_SECONDS": "1", "CHATBOT_RESYNC_SECONDS": "10", "CHATBOT_LOG_LEVEL": "info"}
PATIENCE = 120.0

Ask = Callable[[KubeApi, str], Awaitable[object]]


@dataclass
class Phase:
    """One thing that a user asks for, and whether it seems done."""

    name: str
    ask: Ask
    done: Callable[[dict[str, Any] | None], bool]


def _settled(live: dict[str, Any] | None, *, hibernated: bool = False) -> bool:
    """Return whether an instance is as asked for and nothing goes on any more."""
    if live is None or live["status"].get("observedGeneration") != live["metadata"]["generation"]:
        return False
    ready = condition(live, "Ready")
    as_asked = ready.get("reason") == "Hibernated" if hibernated else ready.get("status") == "True"
    return as_asked and condition(live, "Reconciling").get("status") == "False"


async def _create(admin: KubeApi, namespace: str) -> None:
    await admin.create(manifest(namespace, NAME, deletionPolicy="Delete"))


async def _update(admin: KubeApi, namespace: str) -> None:
    release = {"version": "2.0", "image": instances.OTHER_IMAGE}
    await edit(
        admin, namespace, {"release": release, "app": {"replicas": 3, "logLevel": "Debug"}, "security": {"networkPolicy": "Disabled"}}
    )


async def _hibernate(admin: KubeApi, namespace: str) -> None:
    await edit(admin, namespace, {"lifecycle": "Hibernated"})


async def _delete(admin: KubeApi, namespace: str) -> None:
    await admin.delete(path("ChatbotInstance", namespace, NAME))


PHASES = (
    Phase("create", _create, _settled),
    Phase("update", _update, _settled),
    Phase("hibernate", _hibernate, lambda live: _settled(live, hibernated=True)),
    Phase("delete", _delete, lambda live: live is None),
)


@dataclass
class Lab:
    """One namespace, one operator behind a proxy, and the states that an undisturbed run went through."""

    admin: KubeApi
    namespace: str
    proxy: FaultProxy
    start: Callable[[], OperatorProcess]
    operator: OperatorProcess | None = None
    expected: dict[str, State] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    kills: int = 0

    async def undisturbed(self) -> None:
        """Run all phases and remember where each ends and how many requests it takes."""
        self.operator = self.start()
        for phase in PHASES:
            self.proxy.reset()
            await phase.ask(self.admin, self.namespace)
            await self.admin_waits(phase)
            self.expected[phase.name] = await self._quiet()
            self.requests[phase.name] = len(self.proxy.mutations)

    async def disturbed(self, at: int, *, after: bool) -> None:
        """Run all phases; in each the operator is killed at its `at`-th request, then another one goes on."""
        for phase in PHASES:
            self.proxy.reset()
            assert self.operator is not None
            process = self.operator
            self.proxy.faults.kill_at, self.proxy.faults.kill_after = at, after
            self.proxy.faults.on_kill = lambda pid=process.pid: os.kill(pid, signal.SIGKILL)  # type: ignore[misc]
            await phase.ask(self.admin, self.namespace)
            await self._killed_or_done(phase)
            await self.admin_waits(phase)
            await self._reaches(phase, f"{phase.name}, killed {'after' if after else 'before'} request {at}")

    async def _killed_or_done(self, phase: Phase) -> None:
        assert self.operator is not None
        deadline = time.monotonic() + PATIENCE
        while self.operator.running and time.monotonic() < deadline:
            if phase.done(await self._live()) and len(self.proxy.mutations) < self.proxy.faults.kill_at:
                self.proxy.faults.kill_at = 0
                return
            await asyncio.sleep(0.05)
        if not self.operator.running:
            self.kills += 1
            self.proxy.faults.kill_at = 0
            self.operator = self.start()

    async def _live(self) -> dict[str, Any] | None:
        return await self.admin.find(path("ChatbotInstance", self.namespace, NAME))

    async def admin_waits(self, phase: Phase) -> None:
        """Wait until the phase seems done."""
        deadline = time.monotonic() + PATIENCE
        while not phase.done(await self._live()):
            assert self.operator is not None
            assert self.operator.running, f"the operator ended by itself; see {self.operator.log}"
            assert time.monotonic() < deadline, f"{phase.name} was never done: {(await self._live() or {}).get('status')}"
            await asyncio.sleep(0.1)

    async def _quiet(self) -> State:
        """Return the state once it stays the same for a while and what Kubernetes removes in the background has gone."""
        deadline = time.monotonic() + PATIENCE
        last, since = await self._state(), time.monotonic()
        while is_orphaned(last) or time.monotonic() - since < 3:
            assert time.monotonic() < deadline, f"never quiet: {sorted(last)}"
            await asyncio.sleep(0.2)
            now = await self._state()
            if now != last:
                last, since = now, time.monotonic()
        return last

    async def _reaches(self, phase: Phase, what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while differs := difference(self.expected[phase.name], await self._state()):
            assert time.monotonic() < deadline, f"{what}: another end than undisturbed:\n" + "\n".join(differs)
            await asyncio.sleep(0.2)

    async def _state(self) -> State:
        return await observe(self.admin, self.namespace, NAME)


@pytest.mark.timeout(4 * 3600)
async def test_killed_at_any_request_the_end_is_the_same(
    admin: KubeApi,
    namespace: str,
    start_operator: StartOperator,
    proxy: FaultProxy,
    through_proxy: Path,
    every: int,
    seed: int,
) -> None:
    lab = Lab(admin, namespace, proxy, lambda: start_operator(settings=FAST, kubeconfig=through_proxy, wait=False))
    await lab.undisturbed()
    most = max(lab.requests.values())
    began = time.monotonic()
    for at in range(1 + seed % every, most + 1, every):
        for after in (False, True):
            await lab.disturbed(at, after=after)
    seconds = time.monotonic() - began
    sys.stderr.write(f"\nchaos: requests {lab.requests}, every {every} from {1 + seed % every}: {lab.kills} kills in {seconds:.0f} s\n")
    assert lab.kills > 0
