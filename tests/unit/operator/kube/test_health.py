"""Health comes from status alone, is never better than what is known, and names the cause."""

from typing import Any

import pytest

from chatbot_operator.kube.health import observe_health

Live = dict[str, Any]


def deployment(status: Live, *, generation: int = 2, replicas: int = 2) -> Live:
    return {"kind": "Deployment", "metadata": {"generation": generation}, "spec": {"replicas": replicas}, "status": status}


GOOD = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}
LATE = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "late"}
REFUSED = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}


@pytest.mark.parametrize(
    ("status", "replicas", "ready", "reason"),
    [
        (GOOD, 2, True, "Available"),
        ({**GOOD, "observedGeneration": 1}, 2, None, "NotObserved"),
        ({}, 2, None, "NotObserved"),
        ({**GOOD, "updatedReplicas": 1}, 2, False, "RollingOut"),
        ({**GOOD, "replicas": 3}, 2, False, "RollingOut"),
        ({**GOOD, "availableReplicas": 1}, 2, False, "PodsNotReady"),
        ({"observedGeneration": 2}, 2, False, "RollingOut"),
        ({**GOOD, "conditions": [LATE]}, 2, False, "ProgressDeadlineExceeded"),
        ({**GOOD, "conditions": [REFUSED]}, 2, False, "ReplicaFailure"),
        ({"observedGeneration": 2}, 0, True, "ScaledToZero"),
        ({**GOOD}, 0, False, "ScalingDown"),
    ],
)
def test_deployment(status: Live, replicas: int, ready: bool | None, reason: str) -> None:
    health = observe_health(deployment(status, replicas=replicas))
    assert (health.ready, health.reason) == (ready, reason)
    assert health.observed is (reason != "NotObserved")
    assert health.replicas == replicas
    assert health.ready_replicas == status.get("readyReplicas", 0)


STS = {"observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1, "currentRevision": "a", "updateRevision": "a"}


@pytest.mark.parametrize(
    ("status", "ready", "reason"),
    [
        (STS, True, "Available"),
        ({**STS, "observedGeneration": 0}, None, "NotObserved"),
        ({**STS, "updateRevision": "b", "updatedReplicas": 0}, False, "RollingOut"),
        ({**STS, "readyReplicas": 0}, False, "PodsNotReady"),
        ({"observedGeneration": 1}, False, "PodsNotReady"),
    ],
)
def test_stateful_set(status: Live, ready: bool | None, reason: str) -> None:
    health = observe_health({"kind": "StatefulSet", "metadata": {"generation": 1}, "spec": {"replicas": 1}, "status": status})
    assert (health.ready, health.reason) == (ready, reason)


@pytest.mark.parametrize(
    ("status", "ready", "reason", "terminal"),
    [
        ({"conditions": [{"type": "Complete", "status": "True"}]}, True, "Complete", True),
        ({"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]}, False, "DeadlineExceeded", True),
        ({"conditions": [{"type": "FailureTarget", "status": "True"}], "active": 1}, False, "Running", False),
        ({"active": 1}, False, "Running", False),
        ({}, False, "Pending", False),
    ],
)
def test_job(status: Live, ready: bool | None, reason: str, terminal: bool) -> None:
    health = observe_health({"kind": "Job", "metadata": {}, "spec": {}, "status": status})
    assert (health.ready, health.reason, health.terminal) == (ready, reason, terminal)


@pytest.mark.parametrize(
    ("phase", "ready", "terminal"), [("Bound", True, False), ("Pending", False, False), ("Lost", False, True), (None, None, False)]
)
def test_claim(phase: str | None, ready: bool | None, terminal: bool) -> None:
    status = {"phase": phase} if phase else {}
    health = observe_health({"kind": "PersistentVolumeClaim", "metadata": {}, "status": status})
    assert (health.ready, health.terminal) == (ready, terminal)


def pod(status: Live, *, deleting: bool = False) -> Live:
    metadata = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {}
    return {"kind": "Pod", "metadata": metadata, "status": {"phase": "Running", **status}}


def waiting(reason: str, last: Live | None = None) -> Live:
    return {"containerStatuses": [{"name": "main", "state": {"waiting": {"reason": reason, "message": "m"}}, "lastState": last or {}}]}


GIVEN_UP = {"conditions": [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]}
"""As the node controller leaves the pods of a node that stopped reporting: it takes `Ready` and changes nothing else."""
UNREADY = [{"type": kind, "status": "False", "reason": "ContainersNotReady"} for kind in ("Ready", "ContainersReady")]
GATED = [{"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady"}, {"type": "ContainersReady", "status": "True"}]
READY = {"conditions": [{"type": "Ready", "status": "True"}]}
UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
OOM = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}


@pytest.mark.parametrize(
    ("live", "ready", "reason"),
    [
        (pod(READY), True, "Ready"),
        (pod(READY, deleting=True), False, "Terminating"),
        (pod({**READY, **waiting("CrashLoopBackOff")}), False, "CrashLoopBackOff"),
        (pod(waiting("CrashLoopBackOff", OOM)), False, "OOMKilled"),
        (pod(waiting("ErrImagePull")), False, "ImagePullBackOff"),
        (pod(waiting("ImagePullBackOff")), False, "ImagePullBackOff"),
        (pod(waiting("CreateContainerConfigError")), False, "CreateContainerConfigError"),
        (pod({"phase": "Pending", **waiting("ContainerCreating")}), False, "Starting"),
        (pod({"initContainerStatuses": waiting("CrashLoopBackOff")["containerStatuses"]}), False, "CrashLoopBackOff"),
        (
            pod(
                {
                    "phase": "Pending",
                    "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1"}],
                }
            ),
            False,
            "Unschedulable",
        ),
        (pod({"phase": "Failed", "reason": "Evicted"}), False, "Evicted"),
        (pod({"phase": "Failed", "containerStatuses": [{"state": OOM}]}), False, "OOMKilled"),
        (pod({"phase": "Succeeded"}), False, "Succeeded"),
        (pod({"phase": "Unknown"}), None, "NodeUnreachable"),
        (pod({"conditions": [{"type": "Ready", "status": "Unknown"}]}), None, "NodeUnreachable"),
        (pod(GIVEN_UP), None, "NodeUnreachable"),
        (pod(GIVEN_UP, deleting=True), None, "NodeUnreachable"),
        (pod({**GIVEN_UP, "phase": "Failed"}), False, "Failed"),
        (pod({"conditions": UNREADY}), False, "NotReady"),
        (pod({"conditions": UNREADY}, deleting=True), False, "Terminating"),
        (pod({"conditions": GATED}), False, "NotReady"),
        (pod({}), False, "NotReady"),
    ],
)
def test_pod(live: Live, ready: bool | None, reason: str) -> None:
    health = observe_health(live)
    assert (health.ready, health.reason) == (ready, reason)


def test_load_balancer_waits_for_its_address_and_a_cluster_ip_does_not() -> None:
    assert observe_health({"kind": "Service", "metadata": {}, "spec": {"type": "ClusterIP"}}).ready is True
    pending = {"kind": "Service", "metadata": {}, "spec": {"type": "LoadBalancer"}}
    assert observe_health(pending).ready is False
    assert observe_health({**pending, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}).ready is True


def test_an_autoscaler_without_metrics_says_so_and_takes_nothing_down() -> None:
    blind = {"type": "ScalingActive", "status": "False", "reason": "FailedGetResourceMetric", "message": "no metrics"}
    health = observe_health({"kind": "HorizontalPodAutoscaler", "metadata": {}, "status": {"conditions": [blind]}})
    assert (health.ready, health.reason, health.message) == (True, "ScalingActiveFalse", "no metrics")
