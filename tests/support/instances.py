"""Instances for tests of the engine: the smallest manifest, whether it is ready, and what the operator says of itself."""

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any

from tests.support.audit import AuditLog, Request
from tests.support.kubeapi import KubeApi, condition, path
from tests.support.operatorprocess import OperatorProcess

IMAGE = "localhost/chatbot-runtime@sha256:" + "a" * 64
OTHER_IMAGE = "localhost/chatbot-runtime@sha256:" + "b" * 64
INSTANCE_LABEL = "chatbotops.io/instance"
RECONCILE_AT = "chatbotops.io/reconcile-at"


def manifest(namespace: str, name: str = "shop", **spec: Any) -> dict[str, Any]:
    """Return a small instance; keywords are fields of the spec."""
    return {
        "apiVersion": "chatbotops.io/v1alpha1",
        "kind": "ChatbotInstance",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"release": {"version": "1.0", "image": IMAGE}, "database": {"storage": {"size": "1Gi"}}, **spec},
    }


def is_ready(live: dict[str, Any]) -> bool:
    """Return whether an instance is Ready at its generation."""
    current = live["status"].get("observedGeneration") == live["metadata"]["generation"]
    return current and condition(live, "Ready").get("status") == "True"


def reason(live: dict[str, Any], kind: str = "Ready") -> str:
    """Return the reason of a condition at the current generation, or an empty text."""
    current = live["status"].get("observedGeneration") == live["metadata"]["generation"]
    return str(condition(live, kind).get("reason", "")) if current else ""


async def wait_ready(admin: KubeApi, namespace: str, name: str = "shop", timeout: float = 120) -> dict[str, Any]:  # noqa: ASYNC109  a limit with a message of its own
    """Wait until an instance is Ready at its generation and return it."""
    return await admin.wait(path("ChatbotInstance", namespace, name), is_ready, timeout, "Ready")


async def edit(admin: KubeApi, namespace: str, spec: dict[str, Any], name: str = "shop") -> dict[str, Any]:
    """Merge fields into the spec of an instance."""
    return await admin.patch(path("ChatbotInstance", namespace, name), {"spec": spec})


async def ask_for_pass(admin: KubeApi, namespace: str, name: str = "shop", kind: str = "ChatbotInstance") -> None:
    """Ask for a pass by annotation; `is_answered` tells when it was made."""
    annotations = {RECONCILE_AT: uuid.uuid4().hex}
    await admin.patch(path(kind, namespace, name), {"metadata": {"annotations": annotations}})


def is_answered(live: dict[str, Any]) -> bool:
    """Return whether the newest request for a pass was handled."""
    return bool(live["status"].get("lastHandledReconcileAt") == live["metadata"].get("annotations", {}).get(RECONCILE_AT))


async def children(admin: KubeApi, namespace: str, name: str = "shop") -> dict[str, dict[str, Any]]:
    """Return all children of an instance by `Kind/name`."""
    found = {}
    kinds = ("Deployment", "StatefulSet", "Job", "Service", "ServiceAccount", "PersistentVolumeClaim", "Secret", "NetworkPolicy")
    for kind in (*kinds, "PodDisruptionBudget", "HorizontalPodAutoscaler"):
        for live in await admin.list(kind, namespace, f"{INSTANCE_LABEL}={name}"):
            found[f"{kind}/{live['metadata']['name']}"] = live
    return found


def writes(requests: list[Request]) -> list[Request]:
    """Return what changed something, apart from the Lease."""
    return [request for request in requests if request.writes and not request.resource.startswith("leases")]


def passes(operator: OperatorProcess, result: str = "") -> float:
    """Return how many passes the operator counts, of one result or of all."""
    wanted = f'chatbot_operator_passes_total{{result="{result}"' if result else "chatbot_operator_passes_total{"
    return sum(float(line.rsplit(" ", 1)[1]) for line in operator.metrics().splitlines() if line.startswith(wanted))


async def until(condition: Callable[[], object], what: str, timeout: float = 60) -> None:  # noqa: ASYNC109  a limit with a message of its own
    """Wait for a condition of the operator's own telling."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        await asyncio.sleep(0.1)


async def wait_passes(operator: OperatorProcess, more: int = 1) -> None:
    """Wait until the operator has made so many more passes."""
    before = passes(operator)
    await until(lambda: passes(operator) >= before + more, f"{more} more passes")


async def changed_by(audit: AuditLog, admin: KubeApi, user: str) -> list[str]:
    """Return what a user changed since the audit log was marked, as `verb resource name`."""
    return [f"{request.verb} {request.resource} {request.name}" for request in writes(await audit.requests(admin, user))]
