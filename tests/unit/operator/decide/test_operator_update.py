"""Pure. A newer operator restarts nothing by itself; a person's change or request does, stage by stage."""

from dataclasses import replace

import pytest

from chatbot_operator.constants import ANNOTATION_APPLY_UPDATE
from chatbot_operator.model.fingerprint import template_fingerprint
from chatbot_operator.model.snapshot import OperatorFacts
from tests.support.simcluster import Cluster, minimal


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(minimal())
    made.settle()
    assert made.status.operator_version == "1.0"
    # A newer operator brings newer images of the data stores.
    made.operator = OperatorFacts("2.0", "postgres:2", "redis:2")
    return made


def image(cluster: Cluster, name: str) -> str:
    found: str = cluster.thing("StatefulSet", name).body["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


def test_nothing_restarts_and_the_instance_stays_ready(cluster: Cluster) -> None:
    applied = cluster.applied
    cluster.settle()
    assert cluster.applied == applied
    assert cluster.restarts == 0
    assert cluster.condition("Ready") == ("True", "AllReady")
    assert cluster.condition("OperatorCurrent") == ("False", "PendingOperatorUpdate")
    assert f"{ANNOTATION_APPLY_UPDATE}=2.0" in cluster.message("OperatorCurrent")
    assert cluster.status.operator_version == "1.0"


def test_an_operator_whose_templates_are_the_same_is_current_at_once(cluster: Cluster) -> None:
    cluster.operator = replace(cluster.operator, postgres_image="postgres:1", redis_image="redis:1")
    cluster.settle()
    assert cluster.condition("OperatorCurrent") == ("True", "Current")
    assert cluster.status.operator_version == "2.0"


def test_a_request_applies_it_one_stage_after_the_other(cluster: Cluster) -> None:
    cluster.annotations[ANNOTATION_APPLY_UPDATE] = "2.0"
    cluster.run_pass()
    assert (image(cluster, "demo-postgres"), image(cluster, "demo-redis")) == ("postgres:2", "redis:1")
    cluster.run_pass()
    assert image(cluster, "demo-redis") == "redis:1", "postgres does not serve yet"
    assert cluster.status.operator_version == "1.0"
    cluster.settle()
    assert image(cluster, "demo-redis") == "redis:2"
    assert cluster.restarts == 2
    assert cluster.status.operator_version == "2.0"


def test_a_request_for_another_version_or_without_a_slot_waits(cluster: Cluster) -> None:
    cluster.annotations[ANNOTATION_APPLY_UPDATE] = "3.0"
    cluster.settle()
    assert cluster.restarts == 0
    cluster.annotations[ANNOTATION_APPLY_UPDATE] = "2.0"
    assert "annotate" in cluster.message("OperatorCurrent")
    cluster.restart_slots, cluster.restarting = 0, ("team/other",)
    cluster.settle()
    assert cluster.restarts == 0
    assert "team/other restarts first" in cluster.message("OperatorCurrent")
    assert "annotate" not in cluster.message("OperatorCurrent"), "that was done"


def test_a_persons_change_takes_the_new_template_along(cluster: Cluster) -> None:
    cluster.edit(database={"resources": {"requests": {"memory": "2Gi"}}})
    cluster.settle()
    assert image(cluster, "demo-postgres") == "postgres:2"
    assert image(cluster, "demo-redis") == "redis:1", "nobody changed the cache"


def test_a_change_elsewhere_restarts_no_store(cluster: Cluster) -> None:
    cluster.edit(app={"replicas": 4})
    cluster.settle()
    assert image(cluster, "demo-postgres") == "postgres:1"


def test_a_drifted_template_is_repaired_although_an_update_is_pending(cluster: Cluster) -> None:
    cluster.settle()
    cluster.thing("StatefulSet", "demo-redis").body["spec"]["template"]["spec"]["containers"][0]["image"] = "evil"
    cluster.settle()
    assert image(cluster, "demo-redis") == "redis:2"
    assert image(cluster, "demo-postgres") == "postgres:1"


def test_scaling_by_hand_is_repaired_although_an_update_is_pending(cluster: Cluster) -> None:
    cluster.settle()
    cluster.thing("StatefulSet", "demo-redis").body["spec"]["replicas"] = 3
    cluster.settle()
    assert cluster.thing("StatefulSet", "demo-redis").body["spec"]["replicas"] == 1


def test_going_back_to_the_older_operator_restarts_nothing(cluster: Cluster) -> None:
    cluster.settle()
    cluster.operator = OperatorFacts("1.0", "postgres:1", "redis:1")
    cluster.settle()
    assert cluster.restarts == 0
    assert cluster.condition("OperatorCurrent") == ("True", "Current")


def test_the_recorded_template_hash_is_that_of_the_template(cluster: Cluster) -> None:
    for key, thing in cluster.things.items():
        if key.kind in ("Deployment", "StatefulSet"):
            assert thing.annotations["chatbotops.io/template-hash"] == template_fingerprint(thing.body)
