"""Pure. What is removed because it is no longer wanted, what is never removed, and what the status says until it is gone."""

import copy
from dataclasses import replace

import pytest

from chatbot_operator.api.v1alpha1.instance_status import ChatbotInstanceStatus
from chatbot_operator.engine.decide import decide
from chatbot_operator.model.effect import Delete
from chatbot_operator.model.objects import Health, ObjectKey
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


FAILED = Health(ready=False, reason="DatabaseUnreachable", terminal=True)
RUNNING = Health(ready=False, reason="Running")


def decide_with_jobs(cluster: Cluster, healths: dict[str, Health]) -> tuple[ChatbotInstanceStatus, list[str]]:
    """Return the status, and which Jobs are deleted, given further migration Jobs by the minute of their start."""
    snapshot = cluster.snapshot()
    migration = next(child for key, child in snapshot.children.items() if key.name.startswith("demo-migrate-") and key.kind == "Job")
    children = dict(snapshot.children)
    for minute, health in healths.items():
        key = ObjectKey("Job", "chat", minute)
        details = {"startTime": f"2027-01-02T00:{minute}:00Z"}
        children[key] = replace(migration, key=key, uid=minute, health=health, details=details)
    decision = decide(replace(snapshot, children=children))
    return decision.status, [effect.key.name for effect in decision.effects if isinstance(effect, Delete)]


def test_the_last_three_ended_jobs_stay(cluster: Cluster) -> None:
    first = next(key.name for key in cluster.things if key.name.startswith("demo-migrate-") and key.kind == "Job")
    assert decide_with_jobs(cluster, {"04": FAILED, "02": FAILED}) == (cluster.status, [])
    expected = (cluster.status, ["01", first])
    assert decide_with_jobs(cluster, {"04": FAILED, "02": FAILED, "03": FAILED, "01": FAILED}) == expected, "history is no matter of Ready"
    assert decide_with_jobs(cluster, {"02": FAILED, "03": FAILED, "01": RUNNING})[1] == [], "only ended ones count"


def test_ended_jobs_stay_while_a_result_may_be_unrecorded(cluster: Cluster) -> None:
    cluster.status = cluster.status.model_copy(update={"jobs": [job for job in cluster.status.jobs if job.name != "migrate"]})
    assert decide_with_jobs(cluster, {"01": FAILED, "02": FAILED, "03": FAILED, "04": FAILED})[1] == []


def test_a_job_that_cannot_begin_is_made_again_for_another_manifest_but_not_for_what_a_webhook_did_to_it(cluster: Cluster) -> None:
    before = set(cluster.things)
    cluster.edit(release={"version": "2.0.0", "image": "chatbot@sha256:" + "b" * 64})
    cluster.run_pass()
    (key,) = set(cluster.things) - before
    job = cluster.things[key]
    job.body["spec"]["template"]["spec"]["containers"][0]["image"] = "mirror/chatbot"
    labels = {"chatbotops.io/instance": "demo", "chatbotops.io/component": "migrate"}
    body = {"metadata": {"labels": labels, "ownerReferences": [{"uid": job.uid}]}}
    cluster.things[cluster.key("Pod", "p")] = Thing(body, "p", health=Health(ready=False, reason="ImagePullBackOff"))
    cluster.run_pass()
    assert cluster.things[key] is job
    assert cluster.condition("ReleaseCurrent") == ("False", "ImagePullBackOff")
    cluster.secrets["registry"] = {}
    cluster.edit(imagePullSecrets=[{"name": "registry"}])
    cluster.run_pass()
    assert key not in cluster.things
