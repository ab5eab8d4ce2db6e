"""The ground that the other tests of this layer stand on: rights, Pod Security, audit counts, a simulated instance's parts."""

import json
from typing import Any

import pytest

from tests.support.audit import AuditLog, tally
from tests.support.fixtures import OperatorAccount
from tests.support.kubeapi import ApiError, KubeApi, Object, path

SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
POD_SECURITY = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}


def pod_spec(image: str, **more: Any) -> Object:
    return {"securityContext": POD_SECURITY, "containers": [{"name": "main", "image": image, "securityContext": SECURITY}], **more}


def job(name: str, component: str, image: str, claim: str | None = None) -> Object:
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
    template = {
        "metadata": {"labels": {"chatbotops.io/component": component, "chatbotops.io/instance": "x"}},
        "spec": pod_spec(image, restartPolicy="Never", volumes=volumes),
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": template}}


def claim(name: str) -> Object:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


async def job_result(admin: KubeApi, namespace: str, name: str) -> tuple[str, Object]:
    """Wait for the end of a Job and return its final condition and its pod's result."""
    ended = await admin.wait(
        path("Job", namespace, name),
        lambda job: any(
            each["type"] in {"Complete", "Failed"} and each["status"] == "True" for each in job["status"].get("conditions", [])
        ),
        what="the end",
    )
    [pod] = await admin.list("Pod", namespace, f"batch.kubernetes.io/job-name={name}")
    state = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    final = next(each["type"] for each in ended["status"]["conditions"] if each["type"] in {"Complete", "Failed"})
    return final, json.loads(state["message"])


async def test_the_operator_has_the_rights_of_the_chart_and_no_more(as_operator: KubeApi, namespace: str) -> None:
    await as_operator.list("ChatbotInstance")
    await as_operator.list("Deployment", namespace)
    for kind in ("Role", "RoleBinding", "Node"):
        with pytest.raises(ApiError) as refused:
            await as_operator.list(kind, None if kind == "Node" else namespace)
        assert refused.value.status == 403


async def test_a_pod_that_is_not_restricted_is_refused(admin: KubeApi, namespace: str) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root"}, "spec": {"containers": [{"name": "main", "image": "x"}]}}
    with pytest.raises(ApiError, match="violates PodSecurity"):
        await admin.create(pod, namespace)


async def test_the_audit_log_counts_requests_of_one_user(
    as_operator: KubeApi, admin: KubeApi, audit: AuditLog, operator_account: OperatorAccount, namespace: str
) -> None:
    await as_operator.list("ChatbotInstance")
    audit.mark()
    await as_operator.list("Deployment", namespace)
    await as_operator.create(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": 1}]}}, namespace
    )
    await admin.list("Deployment", namespace)
    requests = await audit.requests(admin, operator_account.user)
    assert tally(requests) == {"list deployments": 1, "create services": 1}
    assert [request.code for request in requests if request.writes] == [201]


async def test_deployments_get_ready_and_never_ready_images_do_not(admin: KubeApi, namespace: str) -> None:
    for name, image in (("good", "localhost/app:1"), ("bad", "localhost/never-ready:1")):
        labels = {"app": name}
        template = {"metadata": {"labels": labels}, "spec": pod_spec(image)}
        spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
        await admin.create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}, namespace)
    await admin.wait(path("Deployment", namespace, "good"), lambda it: it.get("status", {}).get("readyReplicas") == 2)
    for pod in await admin.list("Pod", namespace, "app=bad"):
        stuck = await admin.wait(path("Pod", namespace, pod["metadata"]["name"]), lambda it: it["status"].get("containerStatuses"))
        assert stuck["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"


async def test_a_bootstrap_job_reports_the_identity_of_its_volume(admin: KubeApi, namespace: str) -> None:
    identities = []
    await admin.create(claim("data"), namespace)
    for name in ("first", "again"):
        await admin.create(job(name, "postgres-bootstrap", "localhost/chatbot-postgres:1", "data"), namespace)
        final, result = await job_result(admin, namespace, name)
        assert (final, result["version"], result["outcome"]) == ("Complete", 1, "Succeeded")
        identities.append((result["reason"], result["systemIdentifier"]))
    assert [reason for reason, _ in identities] == ["Initialized", "AlreadyInitialized"]
    assert len({identity for _, identity in identities}) == 1

    for name in ("first", "again"):
        await admin.delete(path("Job", namespace, name), propagationPolicy="Foreground")
    bound = await admin.get(path("PersistentVolumeClaim", namespace, "data"))
    await admin.delete(path("PersistentVolumeClaim", namespace, "data"))
    await admin.wait_gone(path("PersistentVolume", name=bound["spec"]["volumeName"]))
    await admin.create(claim("data"), namespace)
    await admin.create(job("lost", "postgres-bootstrap", "localhost/chatbot-postgres:1", "data"), namespace)
    _, result = await job_result(admin, namespace, "lost")
    assert result["reason"] == "Initialized"
    assert result["systemIdentifier"] != identities[0][1], "another volume is another database"


async def test_a_migrate_job_reports_the_revision_of_its_image(admin: KubeApi, namespace: str) -> None:
    outcomes = []
    for name, image in (("a", "app:1"), ("b", "app:1"), ("c", "app:rev0042"), ("d", "app:fail-migrate")):
        await admin.create(job(name, "migrate", f"localhost/{image}"), namespace)
        final, result = await job_result(admin, namespace, name)
        outcomes.append((final, result["reason"], result["revisionBefore"], result["revision"]))
    assert outcomes == [
        ("Complete", "Migrated", "", "0001"),
        ("Complete", "AlreadyCurrent", "0001", "0001"),
        ("Complete", "Migrated", "0001", "0042"),
        ("Failed", "MigrationFailed", "0042", "0042"),
    ]


async def test_a_claim_can_grow(admin: KubeApi, namespace: str) -> None:
    await admin.create(claim("data"), namespace)
    await admin.create(job("user", "other", "localhost/app:1", "data"), namespace)
    target = path("PersistentVolumeClaim", namespace, "data")
    await admin.wait(target, lambda it: it["status"]["phase"] == "Bound")
    await admin.patch(target, {"spec": {"resources": {"requests": {"storage": "2Gi"}}}})
    await admin.wait(target, lambda it: it["status"]["capacity"]["storage"] == "2Gi", what="growth")
