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
