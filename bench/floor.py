"""B0: what the machine can do without any operator: raw creates, and one instance's own objects applied for N names."""

import asyncio
import copy
import json
import time
import uuid
from typing import Any

from bench.rig import NAMESPACES, Rig, in_flight
from chatbot_operator.constants import FIELD_MANAGER, LABEL_INSTANCE
from chatbot_operator.model.fingerprint import project_owned
from tests.support.kubeapi import KubeApi, Object, path, path_of

KINDS = (
    "Secret", "ServiceAccount", "PersistentVolumeClaim", "Service", "NetworkPolicy", "PodDisruptionBudget",
    "HorizontalPodAutoscaler", "StatefulSet", "Deployment", "Job",
)  # fmt: skip
"""Kinds an instance consists of, in an order that a script would apply them."""
_LONG_RUNNING = ("StatefulSet", "Deployment", "Job")


async def owned_objects(api: KubeApi, name: str, namespace: str) -> list[Object]:
    """Return an instance's live objects that carry its label, pods and what controllers made left out."""
    found = []
    for kind in KINDS:
        for item in await api.list(kind, namespace, f"{LABEL_INSTANCE}={name}"):
            managers = {entry["manager"] for entry in item["metadata"].get("managedFields", [])}
            if FIELD_MANAGER in managers:
                found.append({"apiVersion": path_version(kind), "kind": kind, **item})
    return found


def path_version(kind: str) -> str:
    """Return `apiVersion` of a kind from its path."""
    return path(kind).removeprefix("/apis/").removeprefix("/api/").rpartition("/")[0]


def to_template(objects: list[Object]) -> list[Object]:
    """Return the objects as a script would hold them: only what we sent, without an owner, which the floor does not have."""
    template = []
    for live in objects:
        metadata = {"name": live["metadata"]["name"], "namespace": live["metadata"]["namespace"]}
        if live["kind"] == "Secret":
            body: Object = {"data": live.get("data", {}), "type": live.get("type", "Opaque")}
            metadata["labels"] = live["metadata"]["labels"]
        else:
            body = project_owned(live)
            metadata |= {key: value for key, value in body.pop("metadata", {}).items() if key in ("labels", "annotations")}
        template.append({**copy.deepcopy(body), "apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata})
    return template


def render(template: list[Object], source: tuple[str, str, str], name: str, namespace: str) -> list[Object]:
    """Return the template under another name, namespace and uid; `source` holds those of the template."""
    text = json.dumps(template)
    for old, new in zip(source, (name, namespace, str(uuid.uuid4())), strict=True):
        text = text.replace(old, new)
    objects: list[Object] = json.loads(text)
    return objects


async def raw_creates(rig: Rig, count: int) -> dict[str, float]:
    """B0a: ConfigMap creates a second at several numbers in flight."""
    rates = {}
    for limit in (1, 8, 32, 64):
        size = count if limit > 1 else count // 4
        names = [f"raw-{limit}-{number}" for number in range(size)]
        manifests = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACES[0]}} for name in names]
        started = time.monotonic()
        await in_flight(((lambda m=m: rig.api.create(m)) for m in manifests), limit)  # type: ignore[misc]
        rates[str(limit)] = round(size / (time.monotonic() - started), 1)
    return rates


async def apply_all(rig: Rig, template: list[Object], source: tuple[str, str, str], count: int, prefix: str = "f") -> dict[str, float]:
    """B0b: apply one instance's objects for `count` names until every workload is ready; return seconds and objects."""
    names = [(f"{prefix}{number}", NAMESPACES[number % len(NAMESPACES)]) for number in range(count)]
    objects = [manifest for name, namespace in names for manifest in render(template, source, name, namespace)]
    expected = {
        (item["kind"], item["metadata"]["namespace"], item["metadata"]["name"]) for item in objects if item["kind"] in _LONG_RUNNING
    }
    waiters = [asyncio.create_task(_wait_ready(rig.api, kind, expected)) for kind in _LONG_RUNNING]
    started = time.monotonic()
    await in_flight((lambda m=m: rig.api.apply(m, manager="floor")) for m in objects)  # type: ignore[misc]
    applied = time.monotonic() - started
    await asyncio.wait_for(asyncio.gather(*waiters), 60 + 2 * count)
    return {"instances": count, "objects": len(objects), "applied_s": round(applied, 2), "ready_s": round(time.monotonic() - started, 2)}


async def _wait_ready(api: KubeApi, kind: str, expected: set[tuple[str, str, str]]) -> None:
    missing = {key for key in expected if key[0] == kind}
    version = (await api.get(path(kind), limit="1"))["metadata"]["resourceVersion"]
    while missing:
        async for event in api.watch(path(kind), version, 300):
            item = event["object"]
            version = item["metadata"]["resourceVersion"]
            if _is_ready(kind, item):
                missing.discard((kind, item["metadata"]["namespace"], item["metadata"]["name"]))
                if not missing:
                    return


def _is_ready(kind: str, item: dict[str, Any]) -> bool:
    status = item.get("status", {})
    if kind == "Job":
        return bool(status.get("succeeded"))
    wanted = item["spec"].get("replicas", 1)
    return bool(status.get("observedGeneration", 0) >= item["metadata"]["generation"] and status.get("readyReplicas", 0) >= wanted)


async def remove(rig: Rig, template: list[Object], source: tuple[str, str, str]) -> None:
    """Delete the objects that the template came from."""
    await in_flight((lambda m=m: rig.api.delete(path_of(m))) for m in template)  # type: ignore[misc]
    await rig.api.delete(path("ChatbotInstance", source[1], source[0]))
