"""The Lease under a wall clock that jumps by hours: who leads is decided by monotonic seconds alone."""

import asyncio
import copy
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import yaml

from chatbot_operator.config import Config
from chatbot_operator.errors import Conflict, NotFound
from chatbot_operator.kube.client import KubeClient
from chatbot_operator.kube.lease import LeaderElector
from tests.unit.operator.kube.lives import Live
from tools.generate import ROOT

SECONDS = 12.0


class JumpingClock:
    """Wall-clock time that is hours off at every look; monotonic seconds move when told."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self._looks = 0

    def now(self) -> datetime:
        self._looks += 1
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds, hours=6 if self._looks % 2 else -6)

    def monotonic(self) -> float:
        return self.seconds


class LeaseApi:
    """One Lease with optimistic concurrency, whose watch never says anything."""

    def __init__(self) -> None:
        self.lease: Live | None = None
        self.writes = 0

    def unguarded(self) -> "LeaseApi":
        return self

    async def get(self, kind: str, namespace: str, name: str, **more: Any) -> Live:
        if self.lease is None:
            raise NotFound("none", status=404)
        return copy.deepcopy(self.lease)

    async def create(self, manifest: Live) -> Live:
        return self._store({"metadata": dict(manifest["metadata"]), "spec": dict(manifest["spec"])})

    async def merge_patch(self, key: object, patch: Live, **more: Any) -> Live:
        assert self.lease is not None
        if patch["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict("changed", status=409)
        return self._store({"metadata": self.lease["metadata"], "spec": {**self.lease["spec"], **patch["spec"]}})

    def _store(self, live: Live) -> Live:
        self.writes += 1
        live["metadata"]["resourceVersion"] = str(self.writes)
        self.lease = live
        return copy.deepcopy(live)

    async def list_pages(self, *about: object, **more: Any) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield None


@pytest.fixture
def clock() -> JumpingClock:
    return JumpingClock()


@pytest.fixture
def api() -> LeaseApi:
    return LeaseApi()


def elector(api: LeaseApi, clock: JumpingClock, identity: str, seconds: float = SECONDS) -> LeaderElector:
    return LeaderElector(cast(KubeClient, api), clock, namespace="ops", name="lease", identity=identity, seconds=seconds)


async def test_a_leader_leads_to_its_monotonic_deadline_whatever_the_wall_clock_says(api: LeaseApi, clock: JumpingClock) -> None:
    leader = elector(api, clock, "one")
    await leader.acquire()
    for passed in (0.0, 3.0, 6.9):
        clock.seconds = 1000.0 + passed
        clock.now()
        assert leader.is_leader()
    clock.seconds = 1000.0 + SECONDS
    assert not leader.is_leader()
    assert api.writes == 1


@pytest.mark.parametrize("hours", [6, -6])
async def test_a_standby_neither_takes_over_early_nor_waits_for_ever_when_the_leader_wrote_a_wrong_time(
    api: LeaseApi, clock: JumpingClock, hours: int
) -> None:
    await elector(api, clock, "one").acquire()
    assert api.lease is not None
    wrong = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hours)
    api.lease["spec"]["renewTime"] = wrong.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    standby = elector(api, clock, "two")
    standby.see(copy.deepcopy(api.lease))
    taking = asyncio.create_task(standby.acquire())
    for _ in range(20):
        await asyncio.sleep(0)
    assert api.writes == 1, "the leader still has its time"
    clock.seconds += SECONDS
    standby.see(copy.deepcopy(api.lease))  # the same version again: it wakes the standby and proves no renewal
    await asyncio.wait_for(taking, 10)
    assert standby.is_leader()
    assert api.lease["spec"]["holderIdentity"] == "two"


async def test_a_standby_takes_over_in_the_time_that_the_chart_promises(api: LeaseApi, clock: JumpingClock) -> None:
    text = (ROOT / "helm/chatbot-operator/values.yaml").read_text()
    promised = re.search(r"takes over within (\d+) seconds", text)
    assert promised
    seconds = yaml.safe_load(text)["operator"]["leaseSeconds"]
    assert seconds == Config.from_env({"CHATBOT_POSTGRES_IMAGE": "p:1", "CHATBOT_REDIS_IMAGE": "r:1"}).lease_seconds
    await elector(api, clock, "one", seconds).acquire()
    assert api.lease is not None
    standby = elector(api, clock, "two", seconds)
    standby.see(copy.deepcopy(api.lease))  # and dies at once, so that all of its time is still to come
    # Then one try gets no answer, and the next one comes after a pause.
    longest = standby._tenancy.wait(clock.monotonic()) + standby._tenancy.renew_seconds + standby._pause
    assert longest <= float(promised[1])
