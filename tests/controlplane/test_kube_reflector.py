"""Needs the control plane. Reflectors stay equal to the API server through 410, restarts, silence and lost connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chatbot_operator.clock import SystemClock
from chatbot_operator.errors import KubeError
from chatbot_operator.kube.client import KubeClient
from chatbot_operator.kube.kinds import CHILD_KINDS
from chatbot_operator.kube.secrets import SecretReader
from chatbot_operator.model.fingerprint import fingerprint
from chatbot_operator.model.objects import ObjectKey, key_of
from testbed.kubeconfig import write_token
from tests.support import children
from tests.support.audit import AuditLog, tally
from tests.support.children import INSTANCE, INSTANCE_UID
from tests.support.cluster import Cluster
from tests.support.faultproxy import FaultProxy
from tests.support.fixtures import OperatorAccount
from tests.support.kubeapi import KubeApi, path
from tests.support.kubeclient import connect
from tests.support.watcher import Watcher, running, watching


@pytest.fixture
async def client(operator_account: OperatorAccount) -> AsyncIterator[KubeClient]:
    """A client with exactly the rights of the chart."""
    made = await connect(operator_account.kubeconfig)
    yield made
    await made.close()


@pytest.mark.parametrize("scope", ["namespaced", "all namespaces"])
async def test_every_kind_is_seen_with_the_rendered_fingerprint(client: KubeClient, namespace: str, scope: str) -> None:
    manifests = list(children.every_kind(namespace))
    before, after = manifests[::2], manifests[1::2]
    for manifest in before:
        await client.apply(manifest)
    async with watching(client, *([namespace] if scope == "namespaced" else [])) as seen:
        found = seen.reflectors.children(namespace, INSTANCE)
        assert {key for key in found if key.kind != "Pod"} == {key_of(m) for m in before}
        for manifest in after:
            await client.apply(manifest)
        wanted = {key_of(m): fingerprint(m) for m in manifests}
        await seen.until(
            lambda: wanted.items() <= {k: c.fingerprint for k, c in seen.reflectors.children(namespace, INSTANCE).items()}.items(),
            "all kinds with the rendered fingerprint",
        )
        child = seen.child(namespace, "Service", "app")
        assert child is not None
        assert (child.instance, child.instance_uid) == (INSTANCE, INSTANCE_UID)


async def test_creation_drift_deletion_and_relabelling_wake_the_instance(client: KubeClient, admin: KubeApi, namespace: str) -> None:
    async with watching(client, namespace) as seen:
        await client.apply(children.service(namespace))
        old = await seen.until(lambda: seen.child(namespace, "Service", "app"), "the Service")
        target = path("Service", namespace, "app")
        await admin.json_patch(target, [{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 99}])
        await seen.until(lambda: seen.child(namespace, "Service", "app").fingerprint != old.fingerprint, "the drift")

        await admin.patch(target, {"metadata": {"labels": {"chatbotops.io/instance": "other"}}})
        await seen.until(lambda: seen.child(namespace, "Service", "app", "other"), "the Service at the other instance")
        assert seen.child(namespace, "Service", "app") is None
        await admin.patch(target, {"metadata": {"labels": {"chatbotops.io/instance": None}}})
        await seen.until(lambda: not seen.child(namespace, "Service", "app", "other"), "no Service without the label")
        await admin.patch(target, {"metadata": {"labels": {"chatbotops.io/instance": INSTANCE}}})
        await seen.until(lambda: seen.child(namespace, "Service", "app"), "the Service again")
        await admin.delete(target)
        await seen.until(lambda: not seen.child(namespace, "Service", "app"), "no Service")
        assert set(seen.changes) == {(namespace, INSTANCE), (namespace, "other")}


async def test_changes_of_others_that_matter_to_nobody_wake_nobody(client: KubeClient, admin: KubeApi, namespace: str) -> None:
    await client.apply(children.service(namespace))
    async with watching(client, namespace) as seen:
        child = seen.child(namespace, "Service", "app")
        assert child is not None
        seen.changes.clear()
        touched = await admin.patch(path("Service", namespace, "app"), {"metadata": {"annotations": {"other/x": "1"}}})
        assert touched["metadata"]["resourceVersion"] != child.resource_version
        await client.apply({**children.service(namespace, "marker")})
        await seen.until(lambda: seen.child(namespace, "Service", "marker"), "the marker, which came after the annotation")
        assert len(seen.changes) == 1


async def test_foreign_objects_are_not_held(client: KubeClient, admin: KubeApi, namespace: str) -> None:
    foreign = children.service(namespace, "foreign")
    foreign["metadata"].pop("labels")
    await admin.apply(foreign, namespace)
    async with watching(client, namespace) as seen:
        assert seen.reflectors.size() == 0


async def test_pods_and_health_of_a_rollout_are_seen(client: KubeClient, namespace: str) -> None:
    await client.apply(children.claim(namespace))
    manifest = children.deployment(namespace)
    manifest["spec"]["template"]["spec"].pop("tolerations")
    async with watching(client, namespace) as seen:
        await client.apply(manifest)
        await seen.until(
            lambda: (child := seen.child(namespace, "Deployment", "app")) and child.health.ready, "a ready Deployment (simulated node)"
        )
        pods = [child for key, child in seen.reflectors.children(namespace, INSTANCE).items() if key.kind == "Pod"]
        assert [pod.details["owner"].partition("/")[0] for pod in pods] == ["ReplicaSet"]
        assert pods[0].fingerprint == ""
        deployed = seen.child(namespace, "Deployment", "app")
        assert deployed is not None
        assert deployed.health.ready_replicas == 1
        assert "replicasManagers" not in deployed.details, "status writes of the controller are no ownership of replicas"


class JobSpy(Watcher):
    """Remembers every health of a Job that a pass could have seen."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        super().__init__(client, namespace)
        self.reasons: set[str] = set()

    def _changed(self, namespace: str, instance: str) -> None:
        super()._changed(namespace, instance)
        children_now = self.reflectors.children(namespace, instance).items()
        self.reasons |= {child.health.reason for key, child in children_now if key.kind == "Job"}


async def test_results_of_jobs_arrive_and_never_look_lost_in_between(client: KubeClient, namespace: str) -> None:
    """Jobs and pods come by different watches, so a Job is often seen to end before its pod is."""
    jobs = []
    for number in range(12):
        job = children.job(namespace, f"migrate-{number}")
        for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
            metadata["labels"] = children.labels(component="migrate")
        job["spec"]["template"]["spec"].pop("tolerations")
        jobs.append(job)
    async with running(JobSpy(client, namespace)) as seen:
        await asyncio.gather(*(client.apply(job) for job in jobs))
        for job in jobs:
            name = job["metadata"]["name"]
            ended = await seen.until(lambda name=name: (c := seen.child(namespace, "Job", name)) and c.health.terminal and c, name, 60)
            assert (ended.health.ready, ended.details["result"]) == (True, "read"), ended.health
            assert ended.health.result is not None
            assert ended.health.result.data["revision"] == "0001"
        assert seen.reasons <= {"Pending", "Running", "ResultPending", "Migrated", "AlreadyCurrent"}


async def test_the_result_of_a_job_whose_pod_is_gone_is_missing_after_a_restart(client: KubeClient, admin: KubeApi, namespace: str) -> None:
    job = children.job(namespace)
    for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
        metadata["labels"] = children.labels(component="migrate")
    job["spec"]["template"]["spec"].pop("tolerations")
    async with watching(client, namespace) as seen:
        await client.apply(job)
        await seen.until(lambda: (c := seen.child(namespace, "Job", "migrate")) and c.health.terminal, "the end of the Job", 60)
        pods = [key for key in seen.reflectors.children(namespace, INSTANCE) if key.kind == "Pod"]
        for key in pods:
            await admin.delete(path("Pod", namespace, key.name))
        await seen.until(lambda: not any(key.kind == "Pod" for key in seen.reflectors.children(namespace, INSTANCE)), "no pods")
        kept = seen.child(namespace, "Job", "migrate")
        assert kept is not None
        assert kept.details["result"] == "read", "this process has seen it"
    async with watching(client, namespace) as seen:
        lost = await seen.until(
            lambda: (c := seen.child(namespace, "Job", "migrate")) and c.health.terminal and c, "that the result is missing"
        )
        assert (lost.health.ready, lost.health.reason, lost.details["result"]) == (False, "ResultUnreadable", "missing")


@asynccontextmanager
async def through_proxy(cluster: Cluster, account: OperatorAccount, directory: Path) -> AsyncIterator[tuple[FaultProxy, KubeClient]]:
    """Give a client whose every request passes the fault proxy."""
    proxy = FaultProxy(cluster.server, cluster.ca_file, directory)
    token = account.kubeconfig.read_text().partition("token: ")[2].split()[0].strip('"')
    async with proxy.serve():
        file = write_token(directory / "proxied.kubeconfig", proxy.url, proxy.ca_file, token, "default")
        made = await connect(file)
        try:
            yield proxy, made
        finally:
            proxy.reset()
            await made.close()


async def test_an_api_server_that_goes_away_and_returns_is_followed(
    client: KubeClient, namespace: str, cluster: Cluster, tmp_path: Path, operator_account: OperatorAccount
) -> None:
    made = await client.apply(children.service(namespace, "deleted"))
    async with through_proxy(cluster, operator_account, tmp_path) as (proxy, proxied), watching(proxied, namespace, seconds=2) as seen:
        assert seen.child(namespace, "Service", "deleted")
        proxy.faults.away = True
        await client.delete(ObjectKey("Service", namespace, "deleted"), made["metadata"]["uid"])
        await client.apply(children.service(namespace, "created"))
        assert seen.child(namespace, "Service", "deleted"), "nothing is forgotten because nobody answers"
        assert seen.reflectors.synced()
        proxy.faults.away = False
        await seen.until(lambda: seen.child(namespace, "Service", "created"), "what was made while the API was away")
        await seen.until(lambda: not seen.child(namespace, "Service", "deleted"), "what was deleted while the API was away")


async def test_silence_is_noticed_and_the_watch_opened_anew(
    client: KubeClient, namespace: str, cluster: Cluster, tmp_path: Path, operator_account: OperatorAccount, audit: AuditLog, admin: KubeApi
) -> None:
    """A proxy swallows what watches deliver, as a half-open connection does; only our own time-out can notice."""
    async with through_proxy(cluster, operator_account, tmp_path) as (proxy, proxied), watching(proxied, namespace, silence=1.0) as seen:
        proxy.watches_flow.clear()
        await client.apply(children.service(namespace, "unheard"))
        audit.mark()
        async with asyncio.timeout(30):
            while tally(await audit.requests(admin, operator_account.user))["watch services"] < 2:  # noqa: ASYNC110 - the audit log has no event to wait for
                await asyncio.sleep(0.2)
        assert seen.child(namespace, "Service", "unheard") is None
        proxy.watches_flow.set()
        await seen.until(lambda: seen.child(namespace, "Service", "unheard"), "the Service after the silence")


async def test_lists_are_paged_and_not_made_per_instance(
    client: KubeClient, namespace: str, admin: KubeApi, audit: AuditLog, operator_account: OperatorAccount
) -> None:
    for number in range(30):
        manifest = children.service(namespace, f"s{number}")
        manifest["metadata"]["labels"] = children.labels(f"bot-{number}")
        await client.apply(manifest)
    audit.mark()
    async with watching(client, namespace) as seen:
        assert all(seen.child(namespace, "Service", f"s{n}", f"bot-{n}") for n in range(30))
    counted = tally(await audit.requests(admin, operator_account.user))
    assert sum(n for what, n in counted.items() if what.startswith("list ")) == len(CHILD_KINDS)
    assert sum(n for what, n in counted.items() if what.startswith("get ")) == 0

    pages = [page async for page in client.list_pages("Service", namespace, limit=7)]
    assert [len(page.items) for page in pages] == [7, 7, 7, 7, 2]
    assert len({page.resource_version for page in pages}) == 1


async def test_secret_values_are_hashed_and_a_changed_one_wakes(
    client: KubeClient, admin: KubeApi, namespace: str, audit: AuditLog, operator_account: OperatorAccount
) -> None:
    await client.apply(children.secret(namespace))
    async with watching(client, namespace) as seen:
        reader = SecretReader(client, SystemClock(), seen.reflectors)
        audit.mark()
        first = (await reader.facts(namespace, ["passwords"], INSTANCE_UID))["passwords"]
        assert first is not None
        assert set(first.keys) == {"password"}
        assert tally(await audit.requests(admin, operator_account.user))["get secrets"] == 0, "own Secrets cost no request"

        await admin.patch(path("Secret", namespace, "passwords"), {"data": {"password": "b3RoZXI="}})
        await seen.until(lambda: seen.reflectors.own_secret(namespace, "passwords", INSTANCE_UID) != first, "another hash")
        counted = tally(await audit.requests(admin, operator_account.user))
        assert counted["get secrets"] == 1
        assert (namespace, INSTANCE) in seen.changes
        assert seen.reflectors.own_secret(namespace, "passwords", "another-uid") is None


async def test_a_secret_that_we_wrote_costs_no_request(
    client: KubeClient, admin: KubeApi, namespace: str, cluster: Cluster, tmp_path: Path, audit: AuditLog, operator_account: OperatorAccount
) -> None:
    async with through_proxy(cluster, operator_account, tmp_path) as (proxy, proxied), watching(proxied, namespace) as seen:
        proxy.watches_flow.clear()  # the watch could be faster than the answer to the write
        written = await client.apply(children.secret(namespace, "generated"))
        seen.reflectors.learn(written)
        assert seen.reflectors.own_secret(namespace, "generated", INSTANCE_UID) is not None
        proxy.watches_flow.set()
        await admin.delete(path("Secret", namespace, "generated"))
        await seen.until(lambda: not seen.reflectors.own_secret(namespace, "generated", INSTANCE_UID), "no hash of a deleted Secret")
        assert tally(await audit.requests(admin, operator_account.user))["get secrets"] == 0, "what we wrote ourselves is known"


async def test_referenced_secrets_are_read_by_name_and_cached(
    client: KubeClient, admin: KubeApi, namespace: str, audit: AuditLog, operator_account: OperatorAccount
) -> None:
    async with watching(client, namespace) as seen:
        reader = SecretReader(client, SystemClock(), seen.reflectors)
        audit.mark()
        for _ in range(3):
            assert await reader.facts(namespace, ["brought"], INSTANCE_UID) == {"brought": None}
        wait = reader.next_check(namespace, ["brought"], INSTANCE_UID)
        assert wait is not None
        assert 0 < wait <= 5
        assert tally(await audit.requests(admin, operator_account.user))["get secrets"] == 1

        brought = children.secret(namespace, "other")
        brought["metadata"].pop("labels")
        await admin.apply(brought, namespace)
        audit.mark()
        for _ in range(3):
            facts = (await reader.facts(namespace, ["other"], INSTANCE_UID))["other"]
            assert facts is not None
        assert tally(await audit.requests(admin, operator_account.user))["get secrets"] == 1
        theirs = (await reader.facts(namespace, ["other"], "another"))["other"]
        assert theirs is not None
        assert theirs.keys != facts.keys, "equal values of two instances must not show as equal"


async def test_an_expired_token_is_replaced_by_the_rotated_one(
    client: KubeClient, cluster: Cluster, namespace: str, tmp_path: Path, operator_account: OperatorAccount
) -> None:
    """The file is rotated under a client whose token the server refuses: one reload, no error."""
    file = tmp_path / "rotating.kubeconfig"
    write_token(file, cluster.server, cluster.ca_file, "expired", "default")
    rotating = await connect(file)
    try:
        with pytest.raises(KubeError) as caught:
            await rotating.get("Service", namespace, "x")
        assert caught.value.status == 401
        file.write_text(operator_account.kubeconfig.read_text())
        assert [page.items async for page in rotating.list_pages("Service", namespace)] == [[]]
    finally:
        await rotating.close()
