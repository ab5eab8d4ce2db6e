"""Readiness of a live object from its own status; unknown is never ready."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from chatbot_operator.model.objects import Health

Live = Mapping[str, Any]

MAX_MESSAGE: Final = 200
"""Characters kept of a message: children must stay small."""

EXISTS: Final = Health(ready=True, reason="Exists")
_UNSEEN: Final = Health(ready=None, reason="NotObserved", message="its controller has not seen the newest spec yet", observed=False)

_WAITING: Final = {"ErrImagePull": "ImagePullBackOff", "RunContainerError": "ContainerStartError", "StartError": "ContainerStartError"}
_HARMLESS_WAITS: Final = ("ContainerCreating", "PodInitializing")


def observe_health(live: Live) -> Health:
    """Return the health of a live object; a kind without a status of its own is healthy because it exists."""
    look = _BY_KIND.get(live.get("kind", ""))
    return look(live) if look else EXISTS


def condition(live: Live, wanted: str) -> Mapping[str, Any]:
    """Return one condition of the status, or an empty mapping."""
    for entry in _status(live).get("conditions") or ():
        if entry.get("type") == wanted:
            return dict(entry)
    return {}


def is_true(live: Live, wanted: str) -> bool:
    """Return whether a condition is True."""
    return condition(live, wanted).get("status") == "True"


def short(text: Any) -> str:
    """Return a message cut to what a child may keep."""
    return str(text or "")[:MAX_MESSAGE]


def _status(live: Live) -> Mapping[str, Any]:
    return live.get("status") or {}


def _observed(live: Live) -> bool:
    seen = _status(live).get("observedGeneration")
    return isinstance(seen, int) and seen >= live["metadata"].get("generation", 0)


def _deployment(live: Live) -> Health:
    status, wanted = _status(live), live.get("spec", {}).get("replicas", 1)
    have, updated, ready = (status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas"))
    available = status.get("availableReplicas", 0)
    if not _observed(live):
        return _counted(_UNSEEN, wanted, ready)
    failure = condition(live, "ReplicaFailure")
    if failure.get("status") == "True":
        return _rolling(False, "ReplicaFailure", short(failure.get("message")), wanted, ready)
    if condition(live, "Progressing").get("reason") == "ProgressDeadlineExceeded":
        return _rolling(False, "ProgressDeadlineExceeded", short(condition(live, "Progressing").get("message")), wanted, ready)
    if wanted == 0:
        return _rolling(have == 0, "ScaledToZero" if have == 0 else "ScalingDown", "", wanted, ready)
    if updated < wanted:
        return _rolling(False, "RollingOut", f"{updated} of {wanted} pods are of the new template", wanted, ready)
    if have > updated:
        return _rolling(False, "RollingOut", f"{have - updated} old pods still run", wanted, ready)
    if available < wanted:
        return _rolling(False, "PodsNotReady", f"{available} of {wanted} pods are available", wanted, ready)
    return _rolling(True, "Available", "", wanted, ready)


def _stateful_set(live: Live) -> Health:
    status, wanted = _status(live), live.get("spec", {}).get("replicas", 1)
    have, ready = status.get("replicas", 0), status.get("readyReplicas", 0)
    if not _observed(live):
        return _counted(_UNSEEN, wanted, ready)
    if wanted == 0:
        return _rolling(have == 0, "ScaledToZero" if have == 0 else "ScalingDown", "", wanted, ready)
    if status.get("currentRevision") != status.get("updateRevision") and status.get("updatedReplicas", 0) < wanted:
        return _rolling(False, "RollingOut", "pods of the old template still run", wanted, ready)
    if ready < wanted:
        return _rolling(False, "PodsNotReady", f"{ready} of {wanted} pods are ready", wanted, ready)
    return _rolling(True, "Available", "", wanted, ready)


def _job(live: Live) -> Health:
    """Tell running, complete and failed; whether the result could be read is joined in by the store."""
    if is_true(live, "Complete"):
        return Health(ready=True, reason="Complete", terminal=True)
    failed = condition(live, "Failed")
    if failed.get("status") == "True":
        return Health(ready=False, reason=str(failed.get("reason") or "Failed"), message=short(failed.get("message")), terminal=True)
    if live.get("spec", {}).get("suspend"):
        return Health(ready=False, reason="Suspended")
    return Health(ready=False, reason="Running" if _status(live).get("active") else "Pending")


def _claim(live: Live) -> Health:
    phase = _status(live).get("phase")
    if phase == "Bound":
        return Health(ready=True, reason="Bound")
    if phase == "Lost":
        return Health(ready=False, reason="ClaimLost", message="the volume of the claim no longer exists", terminal=True)
    return Health(ready=False if phase else None, reason="Pending", message="no volume is bound yet")


def _service(live: Live) -> Health:
    if live.get("spec", {}).get("type") == "LoadBalancer" and not _status(live).get("loadBalancer", {}).get("ingress"):
        return Health(ready=False, reason="LoadBalancerPending", message="no address was assigned yet")
    return EXISTS


def _autoscaler(live: Live) -> Health:
    """An autoscaler without metrics keeps the last number of replicas, so the workload serves on: healthy, with a reason."""
    for wanted in ("AbleToScale", "ScalingActive"):
        found = condition(live, wanted)
        if found.get("status") == "False" and found.get("reason") != "ScalingDisabled":
            return Health(ready=True, reason=f"{wanted}False", message=short(found.get("message")))
    return EXISTS


def _pod(live: Live) -> Health:
    status, metadata = _status(live), live["metadata"]
    phase = status.get("phase", "Unknown")
    if phase not in ("Succeeded", "Failed") and _is_given_up(live):
        where = live.get("spec", {}).get("nodeName", "")
        return Health(
            ready=None, reason="NodeUnreachable", message=f"node {where} stopped reporting; bring it back or remove it from the cluster"
        )
    if metadata.get("deletionTimestamp"):
        return Health(ready=False, reason="Terminating")
    if phase == "Succeeded":
        return Health(ready=False, reason="Succeeded", terminal=True)
    if phase == "Failed":
        reason = status.get("reason") or _ended(status) or "Failed"
        return Health(ready=False, reason=str(reason), message=short(status.get("message")), terminal=True)
    trouble = _trouble(status)
    if trouble is not None:
        return trouble
    scheduled = condition(live, "PodScheduled")
    if scheduled.get("status") == "False":
        return Health(ready=False, reason=str(scheduled.get("reason") or "Unschedulable"), message=short(scheduled.get("message")))
    if is_true(live, "Ready"):
        return Health(ready=True, reason="Ready")
    return Health(ready=False, reason="NotReady" if phase == "Running" else "Starting")


def _is_given_up(live: Live) -> bool:
    """Return whether the node of a pod stopped reporting, so that nobody knows whether the pod runs.

    The node controller then takes `Ready` from the pod and changes nothing else, while a kubelet never does so without a reason.
    """
    ready = condition(live, "Ready")
    silent = ready.get("status") == "False" and not ready.get("reason") and is_true(live, "ContainersReady")
    return silent or "Unknown" in (ready.get("status"), _status(live).get("phase", "Unknown"))


def _containers(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _trouble(status: Mapping[str, Any]) -> Health | None:
    """Return why a container can't run: the kubelet's waiting reason, or the memory limit when that is what kills it."""
    for container in _containers(status):
        waiting = container.get("state", {}).get("waiting") or {}
        reason = waiting.get("reason")
        if not reason or reason in _HARMLESS_WAITS:
            continue
        last = container.get("lastState", {}).get("terminated") or {}
        name = container.get("name", "")
        if reason == "CrashLoopBackOff" and last.get("reason") == "OOMKilled":
            return Health(
                ready=False, reason="OOMKilled", message=f"container {name} exceeds its memory limit and restarts again and again"
            )
        if reason == "CrashLoopBackOff":
            return Health(ready=False, reason=reason, message=f"container {name} exits with code {last.get('exitCode', '?')}")
        return Health(ready=False, reason=_WAITING.get(reason, reason), message=short(f"container {name}: {waiting.get('message', '')}"))
    return None


def _ended(status: Mapping[str, Any]) -> str:
    """Return the reason of the first container that ended badly."""
    for container in _containers(status):
        ended = container.get("state", {}).get("terminated") or {}
        if ended.get("exitCode"):
            return str(ended.get("reason") or "Error")
    return ""


def _rolling(ready: bool | None, reason: str, message: str, replicas: int, ready_replicas: int) -> Health:
    return Health(ready=ready, reason=reason, message=message, replicas=replicas, ready_replicas=ready_replicas)


def _counted(health: Health, replicas: int, ready_replicas: int) -> Health:
    return Health(
        ready=health.ready,
        reason=health.reason,
        message=health.message,
        replicas=replicas,
        ready_replicas=ready_replicas,
        observed=health.observed,
    )


_BY_KIND: Final[Mapping[str, Callable[[Live], Health]]] = {
    "Deployment": _deployment,
    "StatefulSet": _stateful_set,
    "Job": _job,
    "PersistentVolumeClaim": _claim,
    "Service": _service,
    "HorizontalPodAutoscaler": _autoscaler,
    "Pod": _pod,
}
