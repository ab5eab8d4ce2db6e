"""What the API server refuses, or what is missing, is said in the status, waits, touches nothing else, and recovers by itself."""

import asyncio
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


async def test_a_refused_deletion_is_named_and_goes_on_once_it_is_allowed(
    admin: KubeApi, namespace: str, start_operator: StartOperator
) -> None:
    """A policy keeps both StatefulSets, and somebody else's finalizer the claim of the database."""
    start_operator()
    await admin.create(manifest(namespace, deletionPolicy="Delete"))
    await wait_ready(admin, namespace)
    server, claim = path("StatefulSet", namespace, "shop-postgres"), path("PersistentVolumeClaim", namespace, "shop-pgdata-g1")
    await admin.patch(claim, {"metadata": {"finalizers": ["team.example/keep"]}})
    policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    bindings = f"{policies.removesuffix('policies')}policybindings"
    name = f"keep-{namespace}"
    rules = [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["statefulsets"]}]
    spec = {
        "matchConstraints": {"resourceRules": rules},
        "matchConditions": [{"name": "here", "expression": f"request.namespace == '{namespace}'"}],
        "validations": [{"expression": "false", "message": "stores are kept"}],
    }
    version = "admissionregistration.k8s.io/v1"
    policy = {"apiVersion": version, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": spec}
    binding = {**policy, "kind": "ValidatingAdmissionPolicyBinding", "spec": {"policyName": name, "validationActions": ["Deny"]}}
    await _send(admin, "POST", policies, policy)
    await _send(admin, "POST", bindings, binding)
    try:
        while (await admin.request("DELETE", server, dryRun="All"))[0] < 300:  # noqa: ASYNC110 a policy counts some time after it was made
            await asyncio.sleep(0.1)
        target = path("ChatbotInstance", namespace, "shop")
        await admin.delete(target)
        live = await admin.wait(target, lambda live: instances.reason(live) == "Forbidden", 60, "Forbidden")
        live = await admin.wait(target, lambda live: "team.example/keep" in condition(live, "Ready")["message"], 60, "the finalizer")
        assert condition(live, "Stalled")["status"] == "True"
        assert "StatefulSet shop-postgres and 1 more can't be deleted" in condition(live, "Ready")["message"]
        assert "stores are kept" in condition(live, "Ready")["message"]
    finally:
        await _send(admin, "DELETE", f"{bindings}/{name}")
        await _send(admin, "DELETE", f"{policies}/{name}")
    await admin.patch(claim, {"metadata": {"finalizers": None}})
    await admin.wait_gone(target, 90)
