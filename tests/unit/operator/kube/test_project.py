"""What is kept of a live object: small, and what decisions need."""

import copy
import tracemalloc
from typing import Any

import orjson
import pytest

from chatbot_operator.kube.project import Projector
from chatbot_operator.kube.store import Store
from chatbot_operator.model.fingerprint import fingerprint
from tests.support import children
from tests.unit.operator.kube.lives import FakeClock, Live, live

KIBIBYTE = 1024


def applied(manifest: dict[str, Any], number: int) -> Live:
    """Return a manifest as the API server would send it back: server-made fields, our ownership, a status."""
    made = copy.deepcopy(manifest)
    fields: dict[str, Any] = {
        "f:metadata": {
            "f:labels": {f"f:{name}": {} for name in manifest["metadata"]["labels"]},
            "f:annotations": {"f:chatbotops.io/note": {}},
        },
        "f:spec": {f"f:{name}": {} for name in manifest.get("spec", {})},
    }
    made["metadata"].update(
        name=f"instance-{number // 20}-component-{number}",
        uid=f"{number:08d}-1111-2222-3333-444444444444",
        resourceVersion=str(10_000_000 + number),
        ownerReferences=[{"kind": "ChatbotInstance", "uid": f"{number // 20:08d}-owner-owner-owner-444444444444", "controller": True}],
        managedFields=[{"manager": "chatbot-operator", "operation": "Apply", "fieldsV1": fields}],
    )
    made["metadata"]["labels"] = children.labels(f"instance-{number // 20}", f"{number // 20:08d}-owner-owner-owner-444444444444")
    made["status"] = {
        "observedGeneration": 1,
        "replicas": 1,
        "updatedReplicas": 1,
        "readyReplicas": 1,
        "availableReplicas": 1,
        "phase": "Bound",
    }
    return made


def test_a_child_takes_less_than_a_kibibyte() -> None:
    """Measured over every kind, with what the index around it costs, as one thousand instances would hold them."""
    manifests = list(children.every_kind("shop"))
    lives = [orjson.dumps(applied(manifests[number % len(manifests)], number)) for number in range(2000)]
    store = Store(FakeClock(), lambda namespace, name: None)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for one in lives:
        store.put(orjson.loads(one))
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert store.size() == len(lives)
    assert used / len(lives) < KIBIBYTE


def test_equal_labels_and_health_are_one_object() -> None:
    projector = Projector()
    one, two = (projector.project(live("Service", f"s{n}", n + 1, spec={})) for n in range(2))
    assert one.labels is two.labels
    assert one.health is two.health


def test_identity_and_ownership() -> None:
    child = Projector().project(
        live("Service", "s", 7, owner={"kind": "ChatbotInstance", "name": "bot", "uid": "owner-uid"}, spec={"clusterIP": "10.0.0.1"})
    )
    assert str(child.key) == "Service shop/s"
    assert (child.uid, child.resource_version, child.instance, child.instance_uid) == ("uid-s", "7", "bot", "uid-of-bot")
    assert child.owner_uid == "owner-uid"
    assert child.fingerprint == ""
    assert child.details == {"clusterIP": "10.0.0.1"}
    assert not child.deleting


def test_an_object_that_is_being_deleted_says_so() -> None:
    going = live("Service", "s", 7, spec={})
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert Projector().project(going).deleting


@pytest.mark.parametrize(
    ("one", "details"),
    [
        (
            live(
                "PersistentVolumeClaim",
                "c",
                1,
                spec={"volumeName": "pv-1", "storageClassName": "fast", "resources": {"requests": {"storage": "2Gi"}}},
                status={
                    "phase": "Bound",
                    "capacity": {"storage": "1Gi"},
                    "conditions": [{"type": "FileSystemResizePending", "status": "True"}],
                },
            ),
            {
                "phase": "Bound",
                "volume": "pv-1",
                "requested": "2Gi",
                "capacity": "1Gi",
                "storageClass": "fast",
                "resize": "FileSystemResizePending",
            },
        ),
        (
            live(
                "Pod",
                "p",
                1,
                owner={"kind": "ReplicaSet", "name": "rs", "uid": "u"},
                spec={"nodeName": "node-1", "containers": [{"image": "a:1"}]},
                status={"containerStatuses": [{"restartCount": 3, "imageID": "a@sha256:1"}]},
            ),
            {"owner": "ReplicaSet/rs", "node": "node-1", "image": "a:1", "imageID": "a@sha256:1", "restarts": "3"},
        ),
        (
            live("HorizontalPodAutoscaler", "h", 1, status={"currentReplicas": 2, "desiredReplicas": 3}),
            {"currentReplicas": "2", "desiredReplicas": "3"},
        ),
        (live("NetworkPolicy", "n", 1, spec={}), {}),
    ],
    ids=lambda value: value.get("kind", "") if isinstance(value, dict) else "",
)
def test_details(one: Live, details: dict[str, str]) -> None:
    assert Projector().project(one).details == details


def test_workload_details_name_who_else_sets_replicas_and_hash_our_template() -> None:
    manifest = children.deployment("shop")
    made = applied(manifest, 1)
    made["metadata"]["managedFields"].append(
        {"manager": "hpa", "operation": "Update", "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    )
    child = Projector().project(made)
    assert child.details["replicas"] == "1"
    assert child.details["replicasManagers"] == "hpa"
    made["spec"]["template"]["spec"]["containers"][0]["image"] = "localhost/other:1"
    changed = Projector().project(made)
    assert changed.details["template"] != child.details["template"]
    assert changed.fingerprint != child.fingerprint != fingerprint({})


def test_what_is_being_deleted_says_since_when_and_what_holds_it() -> None:
    claim = live("PersistentVolumeClaim", "c", 1, spec={}, status={"phase": "Bound"})
    claim["metadata"]["annotations"] = {}
    claim["metadata"]["finalizers"] = ["kubernetes.io/pvc-protection", "backup.example/keep"]
    assert "finalizers" not in Projector().project(claim).details
    claim["metadata"]["deletionTimestamp"] = "2027-01-01T00:00:00Z"
    found = Projector().project(claim)
    assert found.deleting
    assert found.details["deletedAt"] == "2027-01-01T00:00:00Z"
    assert found.details["finalizers"] == "kubernetes.io/pvc-protection,backup.example/keep"
