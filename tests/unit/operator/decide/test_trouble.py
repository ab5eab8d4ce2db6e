"""Pure. Bad input and a bad world: the status names the component, the cause and what to do; nothing else is touched."""

import copy
from dataclasses import replace
from datetime import timedelta

import pytest

from chatbot_operator.constants import ANNOTATION_RECONCILE_AT
from chatbot_operator.engine.decide import decide
from chatbot_operator.model.effect import Emit
from chatbot_operator.model.fingerprint import fingerprint
from chatbot_operator.model.objects import ChildState, Health
from chatbot_operator.model.snapshot import Contest
from tests.support.simcluster import Cluster, minimal


def bring_up(**spec: object) -> Cluster:
    made = Cluster(minimal(**spec))
    made.settle()
    return made


def with_pod(cluster: Cluster, component: str, health: Health) -> None:
    """Let a pod of a component have this health, and its workload not be ready."""
    cluster.broken = {component: health}
    cluster.play()


def observe(cluster: Cluster, component: str, health: Health) -> None:
    snapshot = cluster.snapshot()
    key = cluster.key("Pod", f"demo-{component}-0")
    labels = {"chatbotops.io/component": component, "chatbotops.io/instance": "demo"}
    pod = ChildState(key, "p", "1", "", "demo", "", "", False, health, labels, {})
    cluster.status = decide(replace(snapshot, children={**snapshot.children, key: pod})).status


@pytest.mark.parametrize(
    ("pod", "condition", "stalled"),
    [
        (Health(ready=False, reason="ImagePullBackOff", message="container app: not found"), ("False", "ImagePullBackOff"), "False"),
        (Health(ready=False, reason="Unschedulable", message="0/1 nodes"), ("False", "NotScheduled"), "False"),
        (Health(ready=False, reason="CrashLoopBackOff", message="container app exits with code 1"), ("False", "CrashLooping"), "False"),
        (Health(ready=False, reason="OOMKilled", message="memory"), ("False", "OOMKilled"), "False"),
        (Health(ready=False, reason="InvalidImageName", message="bad"), ("False", "InvalidImageName"), "True"),
        (Health(ready=None, reason="NodeUnreachable", message="the kubelet stopped reporting"), ("Unknown", "NodeUnreachable"), "False"),
    ],
)
def test_what_is_wrong_with_pods_is_told_with_component_and_cause(pod: Health, condition: tuple[str, str], stalled: str) -> None:
    cluster = bring_up()
    with_pod(cluster, "app", pod)
    observe(cluster, "app", pod)
    assert cluster.condition("AppReady") == condition
    assert cluster.condition("Ready")[0] == condition[0]
    assert cluster.message("Ready").startswith(f"app: {condition[1]}: {pod.message}")
    assert cluster.condition("Stalled")[0] == stalled
    assert cluster.condition("DatabaseReady") == ("True", "Available")


def test_a_workload_whose_controller_has_not_looked_is_not_healthy() -> None:
    cluster = bring_up()
    cluster.thing("Deployment", "demo-app").health = Health(ready=None, reason="NotObserved", observed=False)
    cluster.run_pass()
    assert cluster.condition("AppReady") == ("False", "PodsNotReady")
    assert cluster.condition("Ready")[0] == "False"


def test_a_component_whose_old_pods_all_serve_is_ready_while_it_rolls_out() -> None:
    cluster = bring_up()
    rolling = Health(ready=False, reason="RollingOut", message="1 of 2", replicas=2, ready_replicas=2)
    cluster.thing("Deployment", "demo-app").health = rolling
    cluster.run_pass()
    assert cluster.condition("AppReady") == ("True", "RollingOut")
    assert cluster.condition("Ready") == ("False", "Progressing")
    cluster.thing("Deployment", "demo-app").health = replace(rolling, ready_replicas=1)
    cluster.run_pass()
    assert cluster.condition("AppReady") == ("False", "RollingOut")
    assert cluster.condition("Ready") == ("False", "ComponentsNotReady")


def test_a_missing_reference_names_itself_holds_its_readers_only_and_recovers_by_itself() -> None:
    cluster = bring_up(channels={"cloud": {"phoneNumberId": "1", "secretRef": {"name": "wa"}}})
    assert cluster.condition("Ready") == ("False", "DependencyMissing")
    assert cluster.condition("Stalled") == ("True", "DependencyMissing")
    assert "Secret wa does not exist" in cluster.message("Ready")
    assert cluster.condition("DatabaseReady") == ("True", "Available")
    assert cluster.condition("ReleaseCurrent")[0] == "False"
    cluster.secrets["wa"] = {"access-token": "1", "app-secret": "2"}
    cluster.settle()
    assert "no key verify-token" in cluster.message("Ready")
    cluster.secrets["wa"]["verify-token"] = "3"
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")


def test_a_reference_that_vanishes_later_leaves_its_readers_running() -> None:
    cluster = Cluster(minimal(secrets={"jwt": {"name": "auth", "key": "jwt"}}))
    cluster.secrets["auth"] = {"jwt": "x"}
    cluster.settle()
    del cluster.secrets["auth"]
    cluster.settle()
    assert cluster.condition("Ready") == ("False", "DependencyMissing")
    assert cluster.condition("AppReady") == ("True", "Available")
    assert cluster.key("Deployment", "demo-app") in cluster.things


def test_a_changed_secret_restarts_its_readers_only() -> None:
    cluster = Cluster(minimal(secrets={"jwt": {"name": "auth", "key": "jwt"}}))
    cluster.secrets["auth"] = {"jwt": "x", "other": "1"}
    cluster.settle()
    cluster.secrets["auth"]["other"] = "2"
    cluster.settle()
    assert cluster.restarts == 0, "nobody reads that key"
    cluster.secrets["auth"]["jwt"] = "y"
    cluster.settle()
    assert cluster.restarts == 1


def test_an_invalid_spec_changes_nothing_that_runs() -> None:
    cluster = bring_up()
    before = cluster.status
    cluster.annotations[ANNOTATION_RECONCILE_AT] = "now"
    decision = decide(replace(cluster.snapshot(), spec=None, spec_error="app.replicas: must be at least 1"))
    assert all(isinstance(effect, Emit) for effect in decision.effects)
    found = {c.type: (c.status, c.reason) for c in decision.status.conditions}
    assert found["Ready"] == ("False", "InvalidSpec")
    assert found["Stalled"] == ("True", "InvalidSpec")
    assert found["AppReady"] == ("True", "Available")
    assert decision.status.components == before.components
    assert decision.status.last_handled_reconcile_at is None, "the request is kept until the spec is valid"


def test_a_secret_that_can_not_be_read_makes_readiness_unknown_and_changes_nothing() -> None:
    cluster = Cluster(minimal(secrets={"jwt": {"name": "brought", "key": "jwt"}}))
    cluster.secrets["brought"] = {"jwt": "x"}
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")
    applied = cluster.applied
    cluster.unread = frozenset({"brought"})
    cluster.settle()
    assert cluster.condition("Ready")[0] == "Unknown"
    assert "SecretNotRead" in cluster.message("Ready")
    assert cluster.condition("Stalled")[0] == "False"
    cluster.unread = frozenset()
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")
    assert cluster.applied == applied


def test_an_object_with_nothing_but_our_label_is_never_taken() -> None:
    cluster = bring_up()
    thing = cluster.thing("Service", "demo-app")
    del thing.body["metadata"]["labels"]["chatbotops.io/instance-uid"]
    thing.body["metadata"].pop("ownerReferences")
    thing.body["spec"]["ports"] = [{"name": "mine", "port": 1}]
    before = copy.deepcopy(thing.body)
    cluster.settle()
    assert cluster.condition("Ready") == ("False", "FieldConflict")
    assert "Service demo-app" in cluster.message("Ready")
    assert thing.body == before


def test_a_contested_object_is_left_alone_and_names_who_contests_it() -> None:
    cluster = bring_up()
    key = cluster.key("Deployment", "demo-app")
    rendered = fingerprint(cluster.things[key].body)
    cluster.contested = {key: Contest(rendered, ("mesh",), ("metadata.labels",))}
    cluster.things[key].body["metadata"]["labels"]["app.kubernetes.io/name"] = "changed"
    cluster.settle()
    assert cluster.things[key].body["metadata"]["labels"]["app.kubernetes.io/name"] == "changed"
    assert cluster.condition("Stalled") == ("True", "FieldConflict")
    assert "mesh keeps changing metadata.labels" in cluster.message("Ready")
    cluster.contested = {}
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")


def test_drift_is_repaired_even_while_what_it_needs_is_down() -> None:
    cluster = bring_up()
    cluster.broken = {"postgres": Health(ready=False, reason="Unschedulable")}
    cluster.play()
    cluster.thing("Deployment", "demo-app").body["spec"]["template"]["spec"]["containers"][0]["image"] = "evil"
    cluster.run_pass()
    assert cluster.thing("Deployment", "demo-app").body["spec"]["template"]["spec"]["containers"][0]["image"] != "evil"


def test_a_worker_that_runs_is_not_taken_for_a_paired_number() -> None:
    cluster = bring_up(workerWeb={"numbers": [{"name": "one"}, {"name": "two"}]})
    assert cluster.condition("WorkerReady") == ("True", "Available")
    told = cluster.message("WorkerReady")
    assert "2 number(s)" in told
    assert "nothing about pairing" in told
    assert "/healthz" in told
    assert cluster.condition("Ready") == ("True", "AllReady")
    assert "WorkerReady" in cluster.message("Ready")


def test_without_numbers_nothing_is_told_of_pairing() -> None:
    cluster = bring_up()
    assert "WorkerReady" not in cluster.message("Ready")


def test_what_is_no_longer_wanted_goes_and_data_stays() -> None:
    cluster = bring_up(workerWeb={"numbers": [{"name": "one"}]})
    cluster.edit(workerWeb={"numbers": []}, app={"replicas": 1}, security={"networkPolicy": "Disabled"})
    cluster.settle()
    kinds = {key.kind for key in cluster.things}
    assert not kinds & {"NetworkPolicy", "PodDisruptionBudget"}
    assert cluster.key("StatefulSet", "demo-web-one") not in cluster.things
    assert cluster.key("PersistentVolumeClaim", "demo-web-one") in cluster.things
    assert cluster.condition("WorkerReady") == ("", "")


def test_objects_of_an_earlier_instance_are_waited_for() -> None:
    cluster = bring_up()
    old = {key: thing for key, thing in cluster.things.items() if key.kind in ("Deployment", "StatefulSet")}
    cluster.deleting = True
    cluster.settle()
    cluster.things.update(old)  # the garbage collector has not come this far yet
    cluster.recreate("uid-2")
    for _ in range(10):
        cluster.run_pass()
        cluster.play()
    assert cluster.condition("Ready")[0] == "False"
    assert "PreviousInstanceTerminating" in cluster.message("Ready")
    for key in old:
        del cluster.things[key]
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")


def test_orphans_of_an_earlier_instance_are_adopted_without_a_restart() -> None:
    cluster = bring_up()
    for thing in cluster.things.values():
        thing.body["metadata"].pop("ownerReferences", None)
    secrets = {name: dict(keys) for name, keys in cluster.secrets.items()}
    cluster.recreate("uid-2")
    before = cluster.restarts
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")
    assert cluster.secrets == secrets
    owners = {
        thing.body["metadata"].get("ownerReferences", [{}])[0].get("uid")
        for key, thing in cluster.things.items()
        if key.kind == "Deployment"
    }
    assert owners == {"uid-2"}
    assert cluster.restarts - before <= 4, "only the keyed hashes of Secrets changed"


def test_times_of_conditions_move_only_when_their_status_flips() -> None:
    cluster = bring_up()
    before = {c.type: c.last_transition_time for c in cluster.status.conditions}
    cluster.now += timedelta(hours=1)
    cluster.edit(app={"replicas": 3})
    cluster.settle()
    after = {c.type: (c.last_transition_time, c.observed_generation) for c in cluster.status.conditions}
    assert after["Ready"][0] != before["Ready"]
    assert after["DatabaseReady"] == (before["DatabaseReady"], cluster.generation)


def test_events_tell_of_flips_once() -> None:
    cluster = bring_up()
    cluster.events.clear()
    cluster.broken = {"app": Health(ready=False, reason="CrashLoopBackOff")}
    cluster.play()
    for _ in range(3):
        cluster.run_pass()
    assert sorted((event.reason, event.type.value) for event in cluster.events) == [
        ("ComponentsNotReady", "Warning"),
        ("PodsNotReady", "Warning"),
        ("Progressing", "Normal"),
    ]


def test_an_external_database_is_judged_by_who_uses_it() -> None:
    cluster = Cluster(minimal(database={"mode": "External", "external": {"urlRef": {"name": "db", "key": "url"}}}))
    cluster.secrets["db"] = {"url": "x"}
    cluster.job_failures = {"migrate": "DatabaseUnreachable"}
    for _ in range(6):
        cluster.run_pass()
        cluster.play()
    assert cluster.condition("DatabaseReady") == ("False", "Unreachable")
    assert cluster.condition("Stalled") == ("False", "NotStalled")
    cluster.job_failures = {}
    cluster.settle()
    assert cluster.condition("DatabaseReady") == ("True", "Available")
    assert cluster.condition("Ready") == ("True", "AllReady")


def test_another_external_database_is_migrated_too() -> None:
    cluster = Cluster(minimal(database={"mode": "External", "external": {"urlRef": {"name": "db", "key": "url"}}}))
    cluster.secrets["db"] = {"url": "one"}
    cluster.settle()
    jobs = sum(key.kind == "Job" for key in cluster.things)
    cluster.secrets["db"]["url"] = "two"
    cluster.settle()
    assert sum(key.kind == "Job" for key in cluster.things) == jobs + 1
    assert cluster.condition("Ready") == ("True", "AllReady")


def test_a_lost_key_of_backups_is_never_replaced_beside_what_was_encrypted_for_it() -> None:
    cluster = Cluster(minimal(backup={}))
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")
    key = cluster.secrets.pop("demo-backup-key")
    cluster.things.pop(cluster.key("Secret", "demo-backup-key"), None)
    cluster.settle()
    assert "demo-backup-key" not in cluster.secrets
    assert "DependencyMissing" in cluster.message("Ready")
    assert "demo-backups" in cluster.message("Ready")
    cluster.secrets["demo-backup-key"] = key


def test_the_claim_of_backups_is_made_only_once_their_key_is_there() -> None:
    cluster = bring_up()
    cluster.edit(backup={})
    cluster.run_pass()
    assert "demo-backup-key" in cluster.secrets
    assert cluster.key("PersistentVolumeClaim", "demo-backups") not in cluster.things
    cluster.settle()
    assert cluster.key("PersistentVolumeClaim", "demo-backups") in cluster.things
