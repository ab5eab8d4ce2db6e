"""A kopf operator as one writes it first: handlers per object, the synchronous official client, a timer that looks again every 10 s.

It makes the same objects as ours (`NAIVE_TEMPLATE` names a file with one instance's) and says Ready when the workloads are. No defaults
of kopf or of the client are touched. Run by the benchmark: `kopf run --standalone --all-namespaces -m bench.peers.naive`.
"""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import kopf
from kubernetes import client, config

from bench.floor import render

_METHODS = {
    "Secret": (client.CoreV1Api, "secret"),
    "ServiceAccount": (client.CoreV1Api, "service_account"),
    "PersistentVolumeClaim": (client.CoreV1Api, "persistent_volume_claim"),
    "Service": (client.CoreV1Api, "service"),
    "NetworkPolicy": (client.NetworkingV1Api, "network_policy"),
    "PodDisruptionBudget": (client.PolicyV1Api, "pod_disruption_budget"),
    "HorizontalPodAutoscaler": (client.AutoscalingV2Api, "horizontal_pod_autoscaler"),
    "StatefulSet": (client.AppsV1Api, "stateful_set"),
    "Deployment": (client.AppsV1Api, "deployment"),
    "Job": (client.BatchV1Api, "job"),
}


@cache
def template() -> tuple[list[dict[str, Any]], tuple[str, str, str]]:
    """Return one instance's objects, and the name, namespace and uid they were made for."""
    content = json.loads(Path(os.environ["NAIVE_TEMPLATE"]).read_text())
    return content["objects"], tuple(content["source"])


@kopf.on.startup()
def connect(**_: Any) -> None:
    """Let the official client read the kubeconfig; kopf then logs in through it."""
    config.load_kube_config()  # type: ignore[no-untyped-call]


@kopf.on.create("chatbotops.io", "v1alpha1", "chatbotinstances")
@kopf.on.update("chatbotops.io", "v1alpha1", "chatbotinstances")
def make(name: str, namespace: str | None, **_: Any) -> None:
    """Create or patch every object, one after another."""
    assert namespace is not None
    objects, source = template()
    for manifest in render(objects, source, name, namespace):
        kopf.adopt(manifest)
        kind = manifest["kind"]
        api, noun = _METHODS[kind][0](), _METHODS[kind][1]
        try:
            getattr(api, f"create_namespaced_{noun}")(namespace, manifest)
        except client.ApiException as error:
            if error.status != 409:
                raise
            if kind not in ("Job", "Secret", "PersistentVolumeClaim"):
                getattr(api, f"patch_namespaced_{noun}")(manifest["metadata"]["name"], namespace, manifest)


@kopf.timer("chatbotops.io", "v1alpha1", "chatbotinstances", interval=10)
def check(name: str, namespace: str | None, patch: kopf.Patch, status: kopf.Status, meta: kopf.Meta, **_: Any) -> None:
    """Look whether the workloads are ready, and say so once."""
    assert namespace is not None
    objects, source = template()
    ready = True
    for manifest in render(objects, source, name, namespace):
        kind = manifest["kind"]
        if kind not in ("StatefulSet", "Deployment"):
            continue
        live = getattr(_METHODS[kind][0](), f"read_namespaced_{_METHODS[kind][1]}")(manifest["metadata"]["name"], namespace)
        ready = ready and (live.status.ready_replicas or 0) >= (live.spec.replicas or 1)
    known = {each["type"]: each["status"] for each in status.get("conditions", [])}
    word = "True" if ready else "False"
    if known.get("Ready") != word:
        moment = "2000-01-01T00:00:00Z"
        reason = "AllReady" if ready else "ComponentsNotReady"
        generation = meta["generation"]
        condition = {"type": "Ready", "status": word, "reason": reason, "lastTransitionTime": moment, "observedGeneration": generation}
        patch.status["conditions"] = [condition]
