"""Whether a workload serves, from its own status and that of its pods alone, with the cause that a person can act on."""

from collections.abc import Iterable, Mapping
from typing import Final

from chatbot_operator.model.objects import ChildState
from chatbot_operator.model.verdict import OK, Decision, Verdict, stop, wait

_ALIAS: Final[Mapping[str, str]] = {"Unschedulable": "NotScheduled", "CrashLoopBackOff": "CrashLooping"}
_HELP: Final[Mapping[str, str]] = {
    "ImagePullBackOff": "check the image's name, its registry and the pull Secrets; the pull is tried again by itself",
    "InvalidImageName": "correct the image's name",
    "NotScheduled": "free or add resources, nodes or storage; the pod is placed by itself then",
    "CrashLooping": "see the log of the pod; it is started again with growing pauses",
    "OOMKilled": "raise the memory limit",
    "CreateContainerConfigError": "the kubelet can't set the container up; its message says why",
    "QuotaExceeded": "raise the namespace's quota or lower the requests",
}
_HOPELESS: Final = frozenset({"InvalidImageName", "QuotaExceeded"})
"""Waiting can't help; everything else is tried again by Kubernetes itself."""
_RANK: Final = (
    "InvalidImageName",
    "ImagePullBackOff",
    "CreateContainerConfigError",
    "OOMKilled",
    "CrashLooping",
    "NotScheduled",
    "NodeUnreachable",
)
"""Which cause is told when pods have several."""
_NEVER_BEGUN: Final = frozenset({"InvalidImageName", "ImagePullBackOff", "CreateContainerConfigError", "NotScheduled"})
"""Causes that keep a container from starting at all."""


def judge_workload(workload: ChildState | None, pods: Iterable[ChildState]) -> Verdict:
    """Return whether a Deployment or StatefulSet has all its pods ready.

    Args:
        workload: None when it does not exist.
        pods: Those of its component.
    """
    if workload is None:
        return wait("NotCreated", "it is not created yet")
    if workload.deleting:
        return wait("Terminating", "it is being deleted and is made again after that")
    health = workload.health
    if health.ready and health.observed:
        return OK
    cause = judge_pods(pods)
    if cause is not None:
        return cause
    if health.ready is None or not health.observed:
        return wait(health.reason, health.message, unknown=True)
    if "exceeded quota" in health.message:
        return _told("QuotaExceeded", health.message)
    return _told(health.reason, health.message)


def judge_pods(pods: Iterable[ChildState]) -> Verdict | None:
    """Return the gravest cause why a pod can't run, or None when none is known."""
    found = []
    for pod in pods:
        reason = _ALIAS.get(pod.health.reason, pod.health.reason)
        if not pod.health.terminal and reason in _RANK:
            found.append((_RANK.index(reason), reason, pod.health.message))
    if not found:
        return None
    _, reason, message = min(found)
    if reason == "NodeUnreachable":
        return wait(reason, message, unknown=True)
    return _told(reason, message)


def is_blocked(job: ChildState, pods: Iterable[ChildState]) -> bool:
    """Return whether a Job has done nothing yet and can't begin: taking it away cuts no work short."""
    cause = judge_pods(pod for pod in pods if pod.owner_uid == job.uid)
    return not job.health.terminal and cause is not None and cause.reason in _NEVER_BEGUN


def is_stopped(workloads: Iterable[ChildState], pods: Iterable[ChildState]) -> bool:
    """Return whether nothing of a component runs any more. A workload stops counting pods that are still draining, so they count too."""
    scaled = all(workload.health.observed and workload.health.reason == "ScaledToZero" for workload in workloads)
    return scaled and all(pod.health.terminal for pod in pods)


def _told(reason: str, message: str) -> Verdict:
    text = "; ".join(part for part in (message, _HELP.get(reason, "")) if part)
    return stop(reason, text) if reason in _HOPELESS else Verdict(Decision.WAIT, reason, text)
