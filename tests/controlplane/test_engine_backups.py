"""Backups on a real API server with simulated Jobs: made and proven, one at a time, followed after a restart, outliving their instance."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from tests.support import instances
from tests.support.audit import AuditLog
from tests.support.fixtures import OPERATOR_USER, StartOperator
from tests.support.instances import manifest, wait_ready
from tests.support.kubeapi import ApiError, KubeApi, condition, path

FAST = {"CHATBOT_RESYNC_SECONDS": "10"}


def backup(namespace: str, name: str = "nightly", instance: str = "shop") -> dict[str, Any]:
    return {
        "apiVersion": "chatbotops.io/v1alpha1",
        "kind": "ChatbotBackup",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"instanceRef": {"name": instance}},
    }


def is_verified(live: dict[str, Any]) -> bool:
    return condition(live, "Verified").get("status") == "True"


async def wait_backup(admin: KubeApi, namespace: str, name: str = "nightly", *, kind: str = "Verified", reason: str = "") -> dict[str, Any]:
    def reached(live: dict[str, Any]) -> bool:
        return condition(live, kind).get("reason") == reason if reason else is_verified(live)

    return await admin.wait(path("ChatbotBackup", namespace, name), reached, 90, reason or "Verified")


async def jobs_of(admin: KubeApi, namespace: str) -> list[dict[str, Any]]:
    return list(await admin.list("Job", namespace, "chatbotops.io/backup"))


async def test_a_backup_is_made_and_proven_and_then_costs_no_write(
    admin: KubeApi, namespace: str, start_operator: StartOperator, audit: AuditLog
) -> None:
    operator = start_operator(settings=FAST)
    await admin.create(backup(namespace))
    live = await wait_backup(admin, namespace, kind="Succeeded", reason="InstanceNotFound")
    await admin.create(manifest(namespace))
    await wait_backup(admin, namespace, kind="Succeeded", reason="NoTarget")
    await instances.edit(admin, namespace, {"backup": {"target": {"persistentVolumeClaim": {"size": "2Gi"}}}})
    live = await wait_backup(admin, namespace)
    owner = await wait_ready(admin, namespace)
    archive = live["status"]["archive"]
    assert archive["objectKey"] == f"{owner['metadata']['uid']}/logical/{live['metadata']['uid']}"
    assert live["status"]["instanceUid"] == owner["metadata"]["uid"]
    assert condition(live, "Succeeded")["status"] == "True"
    claim = await admin.get(path("PersistentVolumeClaim", namespace, "shop-backups"))
    assert "ownerReferences" not in claim["metadata"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "2Gi"
    key = await admin.get(path("Secret", namespace, "shop-backup-key"))
    assert "ownerReferences" not in key["metadata"]
    assert set(key["data"]) == {"identity", "recipient"}
    jobs = await jobs_of(admin, namespace)
    assert len(jobs) == 2
    assert {job["metadata"]["ownerReferences"][0]["uid"] for job in jobs} == {live["metadata"]["uid"]}
    await asyncio.sleep(2)
    audit.mark()
    operator.kill()
    operator.start()
    await asyncio.to_thread(operator.wait_probe, "readyz", 200, 60)
    await instances.until(lambda: instances.passes(operator) >= 2, "passes of the new process")
    await asyncio.sleep(3)
    assert await instances.changed_by(audit, admin, OPERATOR_USER) == []


async def test_backups_go_one_at_a_time_in_the_order_in_which_they_were_asked_for(
    admin: KubeApi, namespace: str, start_operator: StartOperator
) -> None:
    names = [f"b{number}" for number in range(4)]
    for name in names:
        await admin.create(backup(namespace, name))
    start_operator()
    await admin.create(manifest(namespace, backup={}))
    found = [await wait_backup(admin, namespace, name) for name in names]
    times = [live["status"]["startTime"] for live in found]
    assert times == sorted(times)
    running = sorted((job["status"]["startTime"], job["status"]["completionTime"]) for job in await jobs_of(admin, namespace))
    assert all(ended <= started for (_, ended), (started, _) in pairwise(running))


@pytest.mark.parametrize(
    ("image", "kind", "reason"), [("fail-backup", "Succeeded", "TargetFull"), ("fail-verify", "Verified", "HashMismatch")]
)
async def test_a_failure_is_told_with_its_reason_and_never_called_verified(
    admin: KubeApi, namespace: str, start_operator: StartOperator, image: str, kind: str, reason: str
) -> None:
    start_operator(settings={"CHATBOT_POSTGRES_IMAGE": f"localhost/{image}:1"})
    await admin.create(manifest(namespace, backup={}))
    await wait_ready(admin, namespace)
    await admin.create(backup(namespace))
    live = await wait_backup(admin, namespace, kind=kind, reason=reason)
    assert condition(live, kind)["status"] == "False"
    assert not is_verified(live)
    assert "reconcile-at" in condition(live, kind)["message"]
    await instances.ask_for_pass(admin, namespace, "nightly", kind="ChatbotBackup")
    await admin.wait(path("ChatbotBackup", namespace, "nightly"), instances.is_answered, what="another attempt")
    assert [job["attempt"] for job in (await admin.get(path("ChatbotBackup", namespace, "nightly")))["status"]["jobs"]][-1] >= 2


async def test_backups_their_volume_and_their_key_outlive_an_instance_that_takes_everything_with_it(
    admin: KubeApi, namespace: str, start_operator: StartOperator
) -> None:
    start_operator()
    await admin.create(manifest(namespace, backup={}, deletionPolicy="Delete"))
    await wait_ready(admin, namespace)
    await admin.create(backup(namespace))
    await wait_backup(admin, namespace)
    await admin.delete(path("ChatbotInstance", namespace, "shop"))
    await admin.wait_gone(path("ChatbotInstance", namespace, "shop"))
    await admin.get(path("PersistentVolumeClaim", namespace, "shop-backups"))
    key = await admin.get(path("Secret", namespace, "shop-backup-key"))
    assert is_verified(await admin.get(path("ChatbotBackup", namespace, "nightly")))
    await admin.create(manifest(namespace, backup={}))
    await wait_ready(admin, namespace)
    assert (await admin.get(path("Secret", namespace, "shop-backup-key")))["data"] == key["data"], "what was encrypted stays readable"
    await admin.create(backup(namespace, "again"))
    await wait_backup(admin, namespace, "again")


async def test_a_backup_is_immutable(admin: KubeApi, namespace: str, crds: list[str]) -> None:
    assert crds
    await admin.create(backup(namespace))
    with pytest.raises(ApiError, match="immutable"):
        await admin.patch(path("ChatbotBackup", namespace, "nightly"), {"spec": {"instanceRef": {"name": "other"}}})
