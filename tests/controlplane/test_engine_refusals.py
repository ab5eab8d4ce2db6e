"""What the API server refuses, or what is missing, is said in the status, waits, touches nothing else, and recovers by itself."""

from typing import Any

from tests.support import instances
from tests.support.fixtures import StartOperator
from tests.support.instances import manifest, wait_ready
from tests.support.kubeapi import KubeApi, condition, path


def _quota(hard: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": hard}}


async def _send(admin: KubeApi, method: str, target: str, body: object = None) -> None:
    status, answer = await admin.request(method, target, body)
    assert status < 300, answer


async def test_a_quota_is_named_backed_off_from_across_restarts_and_recovered_from(
    admin: KubeApi, namespace: str, start_operator: StartOperator
) -> None:
    quotas = f"/api/v1/namespaces/{namespace}/resourcequotas"
    await _send(admin, "POST", quotas, _quota({"services": "0"}))
    await admin.wait(f"{quotas}/small", lambda live: live.get("status", {}).get("hard"), what="the quota counts")
    first = start_operator()
    await admin.create(manifest(namespace))
    target = path("ChatbotInstance", namespace, "shop")
    live = await admin.wait(target, lambda live: instances.reason(live) == "QuotaExceeded", 90, "QuotaExceeded")
    assert "Service" in condition(live, "Ready")["message"]
    assert (await admin.find(path("Secret", namespace, "shop-postgres"))) is not None, "what is not refused is made"
    live = await admin.wait(target, lambda live: live["status"].get("retry", {}).get("attempts", 0) >= 3, 90, "several tries")
    first.kill()
    before = (await admin.get(target))["status"]["retry"]
    second = start_operator()
    await instances.until(lambda: instances.passes(second) >= 1, "a pass of the new process")
    after = (await admin.get(target))["status"]["retry"]
    assert after["attempts"] >= before["attempts"], "a restart must not begin the back-off anew"
    await _send(admin, "DELETE", f"{quotas}/small")
    await wait_ready(admin, namespace)
    assert "retry" not in (await admin.get(target))["status"]


async def test_a_missing_secret_is_named_and_waited_for(admin: KubeApi, namespace: str, start_operator: StartOperator) -> None:
    start_operator()
    await admin.create(manifest(namespace, secrets={"jwt": {"name": "ours", "key": "signing"}}))
    target = path("ChatbotInstance", namespace, "shop")
    live = await admin.wait(target, lambda live: instances.reason(live) == "DependencyMissing", 60, "DependencyMissing")
    assert "ours" in condition(live, "Ready")["message"]
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ours", "namespace": namespace}}
    await admin.create({**secret, "stringData": {"other": "x"}})
    await admin.patch(path("Secret", namespace, "ours"), {"stringData": {"signing": "a-signing-key-of-forty-characters-0123456"}})
    await wait_ready(admin, namespace)


async def test_a_deployment_that_is_deleted_in_the_foreground_comes_back(
    admin: KubeApi, namespace: str, start_operator: StartOperator
) -> None:
    """While it is terminating it can be neither applied nor made; the new one comes as soon as the old one is gone."""
    start_operator()
    await admin.create(manifest(namespace))
    await wait_ready(admin, namespace)
    target = path("Deployment", namespace, "shop-scheduler")
    live = await admin.get(target)
    await admin.delete(target, propagationPolicy="Foreground")
    await admin.wait(target, lambda now: now["metadata"]["uid"] != live["metadata"]["uid"], what="made again")
    await wait_ready(admin, namespace)
