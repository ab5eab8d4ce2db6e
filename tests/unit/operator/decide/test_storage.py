"""Pure. A claim that gets no volume is named with its StorageClass: the scheduler tells neither."""

from dataclasses import replace

import pytest

from chatbot_operator.engine.decide import decide
from chatbot_operator.model.objects import ChildState, Health, ObjectKey
from tests.support.simcluster import Cluster, minimal

UNPLACED = Health(ready=False, reason="Unschedulable", message="0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.")


def observe_unplaced(cluster: Cluster, component: str, owner: ObjectKey, number: str = "") -> None:
    """Make a pass that sees a pod which no node can take."""
    key = cluster.key("Pod", f"{owner.name}-x")
    labels = {"chatbotops.io/component": component, "chatbotops.io/instance": "demo"}
    labels |= {"chatbotops.io/number": number} if number else {}
    pod = ChildState(key, "p", "1", "", "demo", "", cluster.things[owner].uid, False, UNPLACED, labels, {})
    snapshot = cluster.snapshot()
    cluster.status = decide(replace(snapshot, children={**snapshot.children, key: pod})).status


@pytest.mark.parametrize(("chosen", "told"), [("nowhere", "StorageClass nowhere"), (None, "no StorageClass: the cluster has no default")])
def test_a_database_without_a_volume_names_claim_and_class(chosen: str | None, told: str) -> None:
    storage = {"storageClassName": chosen} if chosen else {}
    cluster = Cluster(minimal(database={"storage": storage}))
    while not (jobs := [key for key in cluster.things if key.kind == "Job"]):
        cluster.run_pass()
    observe_unplaced(cluster, "postgres-bootstrap", jobs[0])
    assert cluster.condition("DatabaseReady") == ("False", "NotScheduled")
    assert f"claim demo-pgdata-g1 has no volume ({told})" in cluster.message("Ready")
    assert cluster.condition("Stalled")[0] == "False", "somebody may make the class"
    assert not any(key.kind in ("StatefulSet", "Deployment") and "postgres" in key.name for key in cluster.things)
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")


@pytest.mark.parametrize(
    ("spec", "component", "workload", "claim"),
    [
        ({"cache": {"durability": "Persistent", "storage": {"storageClassName": "nowhere"}}}, "redis", "demo-redis", "demo-redis-data"),
        ({"workerWeb": {"numbers": [{"name": "a"}], "storageClassName": "nowhere"}}, "worker-web", "demo-web-a", "demo-web-a"),
    ],
    ids=["redis", "worker-web"],
)
def test_other_pods_without_a_volume_name_claim_and_class(spec: dict[str, object], component: str, workload: str, claim: str) -> None:
    cluster = Cluster(minimal(**spec))
    cluster.settle()
    owner = cluster.key("StatefulSet", workload)
    cluster.things[owner].health = Health(ready=False, reason="PodsNotReady", replicas=1)
    cluster.thing("PersistentVolumeClaim", claim).health = Health(ready=False, reason="Pending")
    observe_unplaced(cluster, component, owner, "a" if component == "worker-web" else "")
    assert f"claim {claim} has no volume (StorageClass nowhere)" in cluster.message("Ready")


def test_a_pod_that_finds_no_room_names_no_claim_that_has_its_volume() -> None:
    cluster = Cluster(minimal())
    cluster.settle()
    owner = cluster.key("StatefulSet", "demo-postgres")
    cluster.things[owner].health = Health(ready=False, reason="PodsNotReady", replicas=1)
    observe_unplaced(cluster, "postgres", owner)
    assert cluster.condition("DatabaseReady") == ("False", "NotScheduled")
    assert "claim" not in cluster.message("Ready").replace("PersistentVolumeClaims", "")
