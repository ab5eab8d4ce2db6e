"""Needs the control plane. Two electors on one Lease: never two leaders, take-over after death, at once after a release."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chatbot_operator.clock import SystemClock
from chatbot_operator.errors import LeadershipLost
from chatbot_operator.kube.client import KubeClient
from chatbot_operator.kube.lease import LeaderElector
from testbed.kubeconfig import write_token
from tests.support import children
from tests.support.cluster import Cluster
from tests.support.faultproxy import FaultProxy
from tests.support.fixtures import OPERATOR_NAME, OperatorAccount
from tests.support.kubeapi import KubeApi, path
from tests.support.kubeclient import connect


class Candidate:
    """An elector with a client of its own whose mutations it guards, as in the operator's process."""

    def __init__(self, identity: str, namespace: str, seconds: float) -> None:
        self.identity = identity
        self._namespace = namespace
        self._seconds = seconds
        self.led = asyncio.Event()
        self.lost = asyncio.Event()
        self.elector: LeaderElector
        self.client: KubeClient
        self._task: asyncio.Task[None] | None = None

    async def start(self, kubeconfig: Path) -> None:
        self.client = await connect(kubeconfig, lambda: self.elector.guard())
        self.elector = LeaderElector(
            self.client, SystemClock(), namespace=self._namespace, name=OPERATOR_NAME, identity=self.identity, seconds=self._seconds
        )
        self._task = asyncio.create_task(self._live())

    async def _live(self) -> None:
        await self.elector.acquire()
        self.led.set()
        try:
            await self.elector.run()
        except LeadershipLost:
            self.lost.set()

    async def die(self) -> None:
        """End without a word, as after SIGKILL."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def close(self) -> None:
        await self.die()
        await self.client.close()


@asynccontextmanager
async def candidates(namespace: str, kubeconfig: Path, *names: str, seconds: float = 1.0) -> AsyncIterator[list[Candidate]]:
    made = [Candidate(name, namespace, seconds) for name in names]
    try:
        for each in made:
            await each.start(kubeconfig)
        yield made
    finally:
        for each in made:
            await each.close()


async def until(event: asyncio.Event, what: str) -> None:
    try:
        async with asyncio.timeout(30):
            await event.wait()
    except TimeoutError:
        raise AssertionError(f"never happened: {what}") from None


async def first_leader(*competitors: Candidate) -> tuple[Candidate, Candidate]:
    """Return (leader, standby)."""
    waits = {asyncio.create_task(each.led.wait()): each for each in competitors}
    done, pending = await asyncio.wait(waits, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    assert len(done) == 1, "exactly one candidate becomes the leader at first"
    leader = waits[done.pop()]
    return leader, next(each for each in competitors if each is not leader)


async def test_one_leads_the_other_waits_and_takes_over_after_a_death(cluster: Cluster, namespace: str, admin: KubeApi) -> None:
    async with candidates(namespace, cluster.admin, "a", "b") as (a, b):
        leader, standby = await first_leader(a, b)
        await asyncio.sleep(2.5)  # more than two Leases: a standby that judged by anything but renewals would have taken it
        assert leader.elector.is_leader()
        assert not standby.led.is_set()
        with pytest.raises(LeadershipLost):
            await standby.client.apply(children.service(namespace))
        await leader.client.apply(children.service(namespace))
        await leader.die()
        await until(standby.led, "the standby takes over")
        assert not leader.elector.is_leader(), "the dead leader's deadline lies before the take-over"
        lease = await admin.get(path("Lease", namespace, OPERATOR_NAME))
        assert lease["spec"]["holderIdentity"] == standby.identity
        assert lease["spec"]["leaseTransitions"] == 2
        await standby.client.apply(children.service(namespace, "by-the-new-leader"))


async def test_a_release_hands_over_at_once(cluster: Cluster, namespace: str) -> None:
    """The Lease is so long that waiting for its end would time the test out."""
    async with candidates(namespace, cluster.admin, "a", "b", seconds=120) as (a, b):
        leader, standby = await first_leader(a, b)
        await leader.die()
        await leader.elector.release()
        assert not leader.elector.is_leader()
        await until(standby.led, "the standby takes a released Lease")


async def test_never_two_leaders_through_many_changes(cluster: Cluster, namespace: str, admin: KubeApi) -> None:
    async with candidates(namespace, cluster.admin, "a", "b", "c", "d", "e", "f") as competitors:
        both = 0

        async def referee() -> None:
            nonlocal both
            while True:
                both += sum(each.elector.is_leader() for each in competitors) > 1
                await asyncio.sleep(0.002)

        watching = asyncio.create_task(referee())
        alive = list(competitors)
        while len(alive) > 1:
            leader = await a_leader_of(alive)
            await leader.die()
            if len(alive) % 2:
                await leader.elector.release()
            alive.remove(leader)
        await a_leader_of(alive)
        watching.cancel()
        assert both == 0


async def a_leader_of(competitors: list[Candidate]) -> Candidate:
    found: list[Candidate] = []
    await poll(lambda: found.extend(each for each in competitors if each.elector.is_leader()) or found)
    return found[0]


async def poll(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - the deadline of an elector passes without an event
            await asyncio.sleep(0.01)


async def test_a_leader_cut_off_stops_then_resumes_or_ends_when_another_took_over(
    cluster: Cluster, namespace: str, tmp_path: Path, operator_account: OperatorAccount, admin: KubeApi
) -> None:
    proxy = FaultProxy(cluster.server, cluster.ca_file, tmp_path)
    async with proxy.serve():
        token = cluster.account_kubeconfig(operator_account.namespace, operator_account.name, tmp_path / "direct").read_text()
        write_token(tmp_path / "proxied", proxy.url, proxy.ca_file, token.partition("token: ")[2].split()[0].strip('"'))
        async with candidates(operator_account.namespace, tmp_path / "proxied", "cut-off") as (cut,):
            await until(cut.led, "the first becomes the leader")
            proxy.faults.away = True
            await poll(lambda: not cut.elector.is_leader())
            with pytest.raises(LeadershipLost):
                cut.elector.guard()
            assert not cut.lost.is_set(), "nobody else was seen, so it keeps trying"
            proxy.faults.away = False
            await poll(cut.elector.is_leader)

            proxy.faults.away = True
            async with candidates(operator_account.namespace, tmp_path / "direct", "other") as (other,):
                await until(other.led, "the standby takes over from one that is cut off")
                assert not cut.elector.is_leader()
                proxy.faults.away = False
                await until(cut.lost, "the old leader sees the new one and ends")
                assert other.elector.is_leader()
    await admin.delete(path("Lease", operator_account.namespace, OPERATOR_NAME))


async def test_a_deleted_lease_is_made_again(cluster: Cluster, namespace: str, admin: KubeApi) -> None:
    async with candidates(namespace, cluster.admin, "a") as (a,):
        await until(a.led, "the only one becomes the leader")
        lease = path("Lease", namespace, OPERATOR_NAME)
        await admin.delete(lease)
        await admin.wait(lease, lambda live: live["spec"].get("holderIdentity") == "a", what="the Lease is back")
        await poll(a.elector.is_leader)
