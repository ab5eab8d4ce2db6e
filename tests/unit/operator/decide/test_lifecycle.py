"""Pure. Paused changes nothing, Hibernated stops in order, deletion keeps or removes data as told."""

from datetime import timedelta
from typing import Any

import pytest

from chatbot_operator.constants import FINALIZER
from chatbot_operator.model.effect import Delete, Emit, SetFinalizer
from chatbot_operator.model.objects import Health
from tests.support.simcluster import Cluster, Thing, minimal


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(minimal(workerWeb={"numbers": [{"name": "one"}]}))
    made.settle()
    return made


def replicas(cluster: Cluster) -> dict[str, Any]:
    names = {"demo-web-one": "web", "demo-scheduler": "scheduler", "demo-app": "app", "demo-redis": "redis", "demo-postgres": "postgres"}
    return {
        names[key.name]: thing.body["spec"].get("replicas")
        for key, thing in cluster.things.items()
        if key.kind in ("Deployment", "StatefulSet")
    }


def order_of_changes(cluster: Cluster) -> list[set[str]]:
    """Return what each pass scaled, passes that scaled nothing left out."""
    changed = []
    for _ in range(20):
        before = replicas(cluster)
        cluster.run_pass()
        after = replicas(cluster)
        changed.append({name for name in after if after[name] != before[name]})
        cluster.play()
    return [names for names in changed if names]


def test_hibernation_stops_in_order_and_resumes_in_reverse(cluster: Cluster) -> None:
    running = replicas(cluster)
    claims = {key for key in cluster.things if key.kind == "PersistentVolumeClaim"}
    cluster.edit(lifecycle="Hibernated")
    assert order_of_changes(cluster) == [{"web"}, {"scheduler"}, {"app"}, {"redis"}, {"postgres"}]
    assert set(replicas(cluster).values()) == {0}
    assert cluster.condition("Ready") == ("False", "Hibernated")
    assert cluster.condition("Reconciling") == ("False", "Settled")
    assert claims <= set(cluster.things)
    cluster.edit(lifecycle="Running")
    assert order_of_changes(cluster) == [{"postgres", "redis"}, {"app"}, {"scheduler"}, {"web"}]
    assert replicas(cluster) == running
    assert cluster.condition("Ready") == ("True", "AllReady")


def test_hibernation_waits_for_pods_that_still_run(cluster: Cluster) -> None:
    cluster.edit(lifecycle="Hibernated")
    cluster.run_pass()
    cluster.thing("StatefulSet", "demo-web-one").health = Health(ready=False, reason="ScalingDown")
    cluster.run_pass()
    assert replicas(cluster)["scheduler"] == 1
    assert cluster.message("Ready") == "stopping worker-web"
    assert cluster.condition("Reconciling") == ("True", "Progressing")


def test_hibernation_keeps_the_stores_until_the_last_pod_has_drained(cluster: Cluster) -> None:
    body = {"metadata": {"labels": {"chatbotops.io/instance": "demo", "chatbotops.io/component": "app"}}}
    pod = cluster.key("Pod", "demo-app-x")
    cluster.things[pod] = Thing(body, "p", health=Health(ready=False, reason="Terminating"))
    cluster.edit(lifecycle="Hibernated")
    cluster.settle()
    assert replicas(cluster) == {"web": 0, "scheduler": 0, "app": 0, "redis": 1, "postgres": 1}
    assert cluster.message("Ready") == "stopping app"
    cluster.remove(pod)
    cluster.settle()
    assert set(replicas(cluster).values()) == {0}


def test_hibernation_under_an_autoscaler_takes_it_away_and_brings_it_back() -> None:
    cluster = Cluster(minimal(app={"autoscaling": {"minReplicas": 3, "maxReplicas": 5}}))
    cluster.settle()
    cluster.edit(lifecycle="Hibernated")
    cluster.settle()
    assert cluster.key("HorizontalPodAutoscaler", "demo-app") not in cluster.things
    assert replicas(cluster)["app"] == 0
    cluster.edit(lifecycle="Running")
    cluster.settle()
    assert cluster.key("HorizontalPodAutoscaler", "demo-app") in cluster.things
    assert replicas(cluster)["app"] == 3


def test_a_missing_secret_does_not_keep_an_instance_from_hibernating() -> None:
    cluster = Cluster(minimal(secrets={"jwt": {"name": "auth", "key": "jwt"}}))
    cluster.secrets["auth"] = {"jwt": "x"}
    cluster.settle()
    del cluster.secrets["auth"]
    cluster.edit(lifecycle="Hibernated")
    cluster.settle()
    assert set(replicas(cluster).values()) == {0}


def test_hibernation_lets_a_migration_end_before_its_database_stops(cluster: Cluster) -> None:
    cluster.edit(release={"version": "2", "image": "chatbot@sha256:" + "b" * 64})
    cluster.run_pass()
    (job,) = [thing for key, thing in cluster.things.items() if key.kind == "Job" and not (thing.health and thing.health.terminal)]
    cluster.edit(lifecycle="Hibernated")
    for _ in range(12):
        cluster.run_pass()
        cluster.play()
        job.health = Health(ready=False, reason="Running")
    assert replicas(cluster) == {"web": 0, "scheduler": 0, "app": 0, "redis": 0, "postgres": 1}
    cluster.settle()
    assert set(replicas(cluster).values()) == {0}
    assert cluster.status.release.applied is not None
    assert cluster.status.release.applied.version == "2"
    assert cluster.status.release.stable == "1.0.0", "nothing serves it yet"


@pytest.mark.parametrize("component", ["migrate", "postgres-bootstrap"])
def test_hibernation_makes_no_new_attempt_of_a_failed_job(component: str) -> None:
    cluster = Cluster(minimal())
    cluster.job_failures = {component: "ResultUnreadable"}
    for _ in range(12):
        cluster.run_pass()
        cluster.play()
    (failed,) = [job for job in cluster.status.jobs if job.name == component]
    assert failed.next_time is not None
    cluster.edit(lifecycle="Hibernated")
    cluster.now += timedelta(days=1)
    jobs = [key for key in cluster.things if key.kind == "Job"]
    cluster.settle()
    assert cluster.run_pass().outcome.requeue_after is None, "what may not start is not waited for"
    assert [key for key in cluster.things if key.kind == "Job"] == jobs
    assert cluster.condition("Ready") == ("False", "Hibernated")
    cluster.job_failures = {}
    cluster.edit(lifecycle="Running")
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")


def test_a_new_instance_that_hibernates_starts_no_job() -> None:
    cluster = Cluster(minimal(lifecycle="Hibernated"))
    cluster.settle()
    assert not [key for key in cluster.things if key.kind == "Job"]
    assert cluster.condition("Ready") == ("False", "Hibernated")
    cluster.edit(lifecycle="Running")
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")


def test_paused_changes_nothing_and_says_what_differs(cluster: Cluster) -> None:
    cluster.edit(lifecycle="Paused")
    cluster.edit(app={"replicas": 5})
    cluster.remove(cluster.key("Service", "demo-app"))
    applied = cluster.applied
    for _ in range(3):
        decision = cluster.run_pass()
        assert all(isinstance(effect, Emit) for effect in decision.effects)
    assert cluster.applied == applied
    assert cluster.condition("Ready") == ("False", "Paused")
    assert cluster.condition("Reconciling") == ("False", "Settled")
    assert "2 object(s) differ" in cluster.message("Ready")
    assert cluster.condition("AppReady") == ("True", "Available")


def test_a_request_made_while_nothing_may_be_done_is_kept_until_something_may(cluster: Cluster) -> None:
    cluster.job_failures = {"migrate": "MigrationFailed"}
    cluster.edit(release={"version": "2", "image": "chatbot@sha256:" + "b" * 64})
    cluster.settle()
    cluster.job_failures = {}
    cluster.edit(lifecycle="Paused")
    cluster.annotations["chatbotops.io/reconcile-at"] = "now"
    cluster.settle()
    assert cluster.status.last_handled_reconcile_at is None
    assert cluster.condition("Stalled") == ("True", "MigrationFailed"), "no attempt is made, so none is told"
    assert "MigrationFailed" in cluster.message("Ready")
    cluster.edit(lifecycle="Running")
    cluster.settle()
    assert cluster.status.last_handled_reconcile_at == "now"
    assert cluster.condition("Ready") == ("True", "AllReady")


@pytest.mark.parametrize("lifecycle", ["Paused", "Hibernated"])
def test_lost_data_is_told_whatever_the_lifecycle(cluster: Cluster, lifecycle: str) -> None:
    cluster.edit(lifecycle=lifecycle)
    cluster.settle()
    cluster.remove(cluster.key("PersistentVolumeClaim", "demo-pgdata-g1"))
    cluster.settle()
    assert cluster.condition("Ready") == ("False", lifecycle)
    assert cluster.condition("Stalled") == ("True", "DataLossSuspected")
    assert "DataLossSuspected" in cluster.message("Ready")
    assert "is kept" not in cluster.message("Ready")
    assert "nothing differs" not in cluster.message("Ready")


def test_paused_starts_no_migration_and_keeps_its_state(cluster: Cluster) -> None:
    cluster.edit(lifecycle="Paused", release={"version": "2", "image": "chatbot@sha256:" + "b" * 64})
    jobs = cluster.status.jobs
    cluster.settle()
    assert cluster.status.jobs == jobs
    assert cluster.status.release.desired == "2"
    assert cluster.status.release.stable == "1.0.0"
    cluster.edit(lifecycle="Running")
    cluster.settle()
    assert cluster.status.release.stable == "2"


def test_a_component_that_fails_while_paused_is_still_seen(cluster: Cluster) -> None:
    cluster.edit(lifecycle="Paused")
    cluster.broken = {"app": Health(ready=False, reason="CrashLoopBackOff")}
    cluster.play()
    cluster.run_pass()
    assert cluster.condition("AppReady")[0] == "False"


def test_the_finalizer_is_there_only_while_the_policy_needs_it(cluster: Cluster) -> None:
    assert cluster.finalizers == ()
    cluster.edit(deletionPolicy="Delete")
    cluster.settle()
    assert cluster.finalizers == (FINALIZER,)
    cluster.finalizers = ("somebody/else", *cluster.finalizers)
    cluster.edit(deletionPolicy="Retain")
    cluster.settle()
    assert cluster.finalizers == ("somebody/else",)


def test_deletion_with_delete_removes_own_data_and_nothing_else(cluster: Cluster) -> None:
    cluster.edit(deletionPolicy="Delete")
    cluster.settle()
    foreign = cluster.thing("Secret", "demo-jwt")
    foreign.labels["chatbotops.io/instance-uid"] = "somebody"
    cluster.deleting = True
    decision = cluster.run_pass()
    kinds = [effect.key.kind for effect in decision.effects if isinstance(effect, Delete)]
    assert kinds.index("StatefulSet") < kinds.index("PersistentVolumeClaim") < kinds.index("Secret")
    assert SetFinalizer(False) not in decision.effects
    cluster.settle()
    assert [str(key) for key in cluster.things] == ["Secret chat/demo-jwt"]


def test_deletion_waits_for_what_is_still_there_and_names_it(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.edit(deletionPolicy="Delete")
    cluster.settle()
    cluster.deleting = True
    with monkeypatch.context() as patched:
        patched.setattr(cluster, "_in_use", lambda _claim: True)
        for _ in range(3):
            decision = cluster.run_pass()
            cluster.play()
        assert decision.effects == ()
    assert cluster.condition("Ready") == ("False", "Deleting")
    assert "PersistentVolumeClaim demo-pgdata-g1" in cluster.message("Ready")
    cluster.settle()
    assert cluster.gone


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_a_terminating_namespace_is_released_at_once(cluster: Cluster, policy: str) -> None:
    cluster.edit(deletionPolicy=policy)
    cluster.settle()
    cluster.namespace_terminating = True
    cluster.deleting = True
    decision = cluster.run_pass()
    assert decision.effects == ((SetFinalizer(False),) if policy == "Delete" else ())
    assert cluster.finalizers == ()


def test_in_a_terminating_namespace_nothing_is_made(cluster: Cluster) -> None:
    cluster.namespace_terminating = True
    cluster.remove(cluster.key("Service", "demo-app"))
    assert cluster.run_pass().effects == ()
