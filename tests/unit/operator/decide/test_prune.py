"""Pure. What is removed because it is no longer wanted, what is never removed, and what the status says until it is gone."""

import copy

import pytest

from chatbot_operator.model.effect import Delete
from tests.support.simcluster import Cluster, Thing, minimal


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(minimal(workerWeb={"numbers": [{"name": "one"}]}))
    made.settle()
    return made


def test_an_object_that_a_person_made_with_our_labels_is_left_alone(cluster: Cluster) -> None:
    body = copy.deepcopy(cluster.thing("Service", "demo-app").body)
    body["metadata"]["name"] = "public"
    del body["metadata"]["ownerReferences"]
    cluster.things[cluster.key("Service", "public")] = Thing(body, "public")
    cluster.settle()
    assert cluster.key("Service", "public") in cluster.things
    assert cluster.condition("Ready") == ("True", "AllReady")


@pytest.mark.parametrize("change", [{"workerWeb": {"numbers": []}}, {"security": {"networkPolicy": "Disabled"}}])
def test_a_generation_is_reached_only_once_what_it_no_longer_wants_is_gone(cluster: Cluster, change: dict[str, object]) -> None:
    cluster.edit(**change)
    decision = cluster.run_pass()
    gone = {effect.key for effect in decision.effects if isinstance(effect, Delete)}
    assert gone
    assert cluster.condition("Ready") == ("False", "Progressing")
    assert cluster.condition("Reconciling")[0] == "True"
    assert f"removal: Pruning: what is no longer wanted is being removed, for example {min(gone).kind}" in cluster.message("Ready")
    assert not gone & set(cluster.things)
    cluster.run_pass()
    assert cluster.condition("Ready") == ("True", "AllReady")


def test_an_unwanted_object_that_a_finalizer_holds_is_told_and_deleted_once(cluster: Cluster) -> None:
    held = cluster.key("StatefulSet", "demo-web-one")
    cluster.things[held].deleting = True
    cluster.edit(workerWeb={"numbers": []})
    for _ in range(3):
        decision = cluster.run_pass()
        assert held not in [effect.key for effect in decision.effects if isinstance(effect, Delete)]
    assert cluster.message("Ready").endswith("for example StatefulSet demo-web-one")
    before = cluster.status
    cluster.run_pass()
    assert cluster.status == before
    cluster.remove(held)
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")
    assert cluster.key("PersistentVolumeClaim", "demo-web-one") in cluster.things
