"""Pure. Each row of what a workload and its pods can say."""

import pytest

from chatbot_operator.gates.readiness import is_stopped, judge_pods, judge_workload
from chatbot_operator.model.objects import ChildState, Health, ObjectKey


def child(health: Health, *, kind: str = "Pod", deleting: bool = False) -> ChildState:
    return ChildState(ObjectKey(kind, "n", "x"), "u", "1", "f", "i", "iu", "", deleting, health, {}, {})


def pod(reason: str, message: str = "m", *, ready: bool | None = False, terminal: bool = False) -> ChildState:
    return child(Health(ready=ready, reason=reason, message=message, terminal=terminal))


READY = Health(ready=True, reason="Available", replicas=2, ready_replicas=2)
NOT_READY = Health(ready=False, reason="PodsNotReady", message="0 of 2 pods are available")
UNSEEN = Health(ready=None, reason="NotObserved", message="not yet", observed=False)


@pytest.mark.parametrize(
    ("health", "pods", "decision", "reason", "unknown"),
    [
        (READY, [], "ok", "Available", False),
        (READY, [pod("CrashLoopBackOff")], "ok", "Available", False),
        (Health(ready=True, reason="Available", observed=False), [], "wait", "Available", True),
        (UNSEEN, [], "wait", "NotObserved", True),
        (UNSEEN, [pod("ImagePullBackOff")], "wait", "ImagePullBackOff", False),
        (NOT_READY, [], "wait", "PodsNotReady", False),
        (NOT_READY, [pod("Starting"), pod("NotReady")], "wait", "PodsNotReady", False),
        (NOT_READY, [pod("Unschedulable")], "wait", "NotScheduled", False),
        (NOT_READY, [pod("CrashLoopBackOff")], "wait", "CrashLooping", False),
        (NOT_READY, [pod("NodeUnreachable", ready=None)], "wait", "NodeUnreachable", True),
        (NOT_READY, [pod("InvalidImageName")], "stop", "InvalidImageName", False),
        (NOT_READY, [pod("OOMKilled", terminal=True)], "wait", "PodsNotReady", False),
        (
            Health(ready=False, reason="ReplicaFailure", message='pods "x" is forbidden: exceeded quota: q'),
            [],
            "stop",
            "QuotaExceeded",
            False,
        ),
        (Health(ready=False, reason="ReplicaFailure", message="something"), [], "wait", "ReplicaFailure", False),
        (Health(ready=False, reason="ProgressDeadlineExceeded"), [], "wait", "ProgressDeadlineExceeded", False),
    ],
)
def test_a_workload_is_judged(health: Health, pods: list[ChildState], decision: str, reason: str, unknown: bool) -> None:
    verdict = judge_workload(child(health, kind="Deployment"), pods)
    assert (verdict.decision.value, verdict.reason, verdict.unknown) == (decision, reason, unknown)


def test_what_does_not_exist_or_goes_is_not_healthy() -> None:
    assert judge_workload(None, []).reason == "NotCreated"
    assert judge_workload(child(READY, kind="Deployment", deleting=True), []).reason == "Terminating"


def test_the_gravest_cause_is_told_with_what_to_do() -> None:
    verdict = judge_pods([pod("Unschedulable"), pod("ImagePullBackOff", "container app: no such image"), pod("CrashLoopBackOff")])
    assert verdict is not None
    assert verdict.reason == "ImagePullBackOff"
    assert verdict.message.startswith("container app: no such image; check the image's name")


@pytest.mark.parametrize(
    ("health", "stopped"),
    [
        (None, True),
        (Health(ready=True, reason="ScaledToZero"), True),
        (Health(ready=True, reason="ScaledToZero", observed=False), False),
        (Health(ready=False, reason="ScalingDown"), False),
        (READY, False),
        (UNSEEN, False),
    ],
)
def test_stopped_means_seen_without_pods(health: Health | None, stopped: bool) -> None:
    assert is_stopped([child(health, kind="StatefulSet")] if health else [], []) is stopped


@pytest.mark.parametrize(("draining", "stopped"), [(pod("Terminating"), False), (pod("Succeeded", terminal=True), True)])
def test_a_pod_that_still_drains_is_not_stopped(draining: ChildState, stopped: bool) -> None:
    assert is_stopped([child(Health(ready=True, reason="ScaledToZero"), kind="Deployment")], [draining]) is stopped
