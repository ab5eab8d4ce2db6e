"""Pure. A release moves only after its migration; a failed one leaves the old release serving."""

import pytest

from chatbot_operator.model.objects import Health, ObjectKey
from tests.support.simcluster import Cluster, Thing, minimal

NEW = {"version": "2.0.0", "image": "chatbot@sha256:" + "b" * 64}


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(minimal(workerWeb={"numbers": [{"name": "one"}]}))
    made.settle()
    return made


def images(cluster: Cluster) -> dict[str, str]:
    return {
        key.name: thing.body["spec"]["template"]["spec"]["containers"][0]["image"][-1]
        for key, thing in cluster.things.items()
        if key.kind in ("Deployment", "StatefulSet") and key.name not in ("demo-postgres", "demo-redis")
    }


def test_components_move_one_after_the_other_once_the_migration_is_done(cluster: Cluster) -> None:
    cluster.edit(release=NEW)
    seen = []
    for _ in range(12):
        cluster.run_pass()
        seen.append(tuple(images(cluster).values()))
        cluster.play()
    assert list(images(cluster)) == ["demo-app", "demo-scheduler", "demo-web-one"]
    steps = list(dict.fromkeys("".join(step) for step in seen))
    assert steps == ["aaa", "baa", "bba", "bbb"]
    assert cluster.status.release.stable == "2.0.0"
    assert cluster.condition("Ready") == ("True", "AllReady")


def test_while_a_release_is_on_its_way_the_old_one_is_named_stable(cluster: Cluster) -> None:
    cluster.edit(release=NEW)
    cluster.run_pass()
    assert cluster.status.release.stable == "1.0.0"
    assert cluster.status.release.desired == "2.0.0"
    assert cluster.condition("Ready") == ("False", "RolloutInProgress")
    assert cluster.condition("AppReady") == ("True", "Available")
    assert cluster.condition("ReleaseCurrent") == ("False", "JobRunning")


def test_a_failed_migration_keeps_the_old_release_and_needs_a_person(cluster: Cluster) -> None:
    cluster.job_failures = {"migrate": "MigrationFailed"}
    cluster.edit(release=NEW)
    cluster.settle()
    assert set(images(cluster).values()) == {"a"}
    assert cluster.condition("Stalled") == ("True", "MigrationFailed")
    assert cluster.condition("Reconciling") == ("False", "Settled")
    assert cluster.condition("AppReady")[0] == "True"
    assert "it said MigrationFailed" in cluster.message("Ready")
    assert "reconcile-at" in cluster.message("Ready")


def test_going_back_to_the_applied_release_needs_no_migration(cluster: Cluster) -> None:
    jobs = {key for key in cluster.things if key.kind == "Job"}
    cluster.job_failures = {"migrate": "HalfMigrated"}
    cluster.edit(release=NEW)
    cluster.settle()
    cluster.edit(release={"version": "1.0.0", "image": "chatbot@sha256:" + "a" * 64})
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")
    made = {key for key in cluster.things if key.kind == "Job"} - jobs
    assert len(made) == 1


def migrations(cluster: Cluster) -> list[str]:
    return [key.name for key, thing in cluster.things.items() if key.kind == "Job" and thing.labels["chatbotops.io/component"] == "migrate"]


def test_going_back_to_an_earlier_release_is_a_migration_of_its_own(cluster: Cluster) -> None:
    cluster.edit(release=NEW)
    cluster.settle()
    before = migrations(cluster)
    cluster.job_failures = {"migrate": "SchemaNewer"}
    cluster.edit(release={"version": "1.0.0", "image": "chatbot@sha256:" + "a" * 64})
    cluster.settle()
    assert len(migrations(cluster)) == len(before) + 1, "the old release was believed to fit because it once did"
    assert cluster.condition("Stalled") == ("True", "SchemaNewer")
    assert set(images(cluster).values()) == {"b"}


@pytest.mark.parametrize(
    "between", [{"version": "3.0.0", "image": "chatbot@sha256:" + "c" * 64}, {**NEW, "migrations": {"timeoutSeconds": 3600}}]
)
def test_a_failed_release_that_is_wanted_again_is_tried_again(cluster: Cluster, between: dict[str, object]) -> None:
    cluster.job_failures = {"migrate": "MigrationFailed"}
    cluster.edit(release=NEW)
    cluster.settle()
    cluster.edit(release=between)
    cluster.settle()
    cluster.job_failures = {}
    cluster.edit(release=NEW)
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")


def test_a_request_makes_another_attempt_of_a_failed_migration(cluster: Cluster) -> None:
    cluster.job_failures = {"migrate": "MigrationFailed"}
    cluster.edit(release=NEW)
    cluster.settle()
    cluster.job_failures = {}
    cluster.annotations["chatbotops.io/reconcile-at"] = "now"
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")
    assert cluster.status.last_handled_reconcile_at == "now"
    assert next(job for job in cluster.status.jobs if job.name == "migrate").attempt == 2


def test_more_time_for_a_migration_is_another_job(cluster: Cluster) -> None:
    cluster.job_failures = {"migrate": "MigrationFailed"}
    cluster.edit(release=NEW)
    cluster.settle()
    cluster.job_failures = {}
    cluster.edit(release={**NEW, "migrations": {"timeoutSeconds": 3600}})
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")


@pytest.mark.parametrize("reason", ["DatabaseUnreachable", "LockTimeout", "lost"])
def test_a_failure_that_may_pass_is_tried_again_by_itself(cluster: Cluster, reason: str) -> None:
    cluster.job_failures = {"migrate": reason}
    cluster.edit(release=NEW)
    for _ in range(6):
        cluster.run_pass()
        cluster.play()
    job = next(job for job in cluster.status.jobs if job.name == "migrate")
    assert job.outcome == "Failed"
    assert job.next_time is not None
    assert cluster.condition("Stalled") == ("False", "NotStalled")
    assert job.next_time in cluster.message("ReleaseCurrent")
    cluster.job_failures = {}
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")


def test_a_running_migration_is_not_cut_short_by_the_next_release(cluster: Cluster) -> None:
    cluster.edit(release=NEW)
    cluster.run_pass()
    running = [key for key, thing in cluster.things.items() if key.kind == "Job" and not (thing.health and thing.health.terminal)]
    assert len(running) == 1
    cluster.edit(release={"version": "3.0.0", "image": "chatbot@sha256:" + "c" * 64})
    cluster.run_pass()
    assert cluster.condition("ReleaseCurrent") == ("False", "MigrationRunning")
    cluster.settle()
    assert set(images(cluster).values()) == {"c"}


def blocked_pod(cluster: Cluster, job: ObjectKey) -> None:
    body = {"metadata": {"labels": {"chatbotops.io/instance": "demo", "chatbotops.io/component": "migrate"}}}
    body["metadata"]["ownerReferences"] = [{"uid": cluster.things[job].uid}]  # type: ignore[assignment]
    cluster.things[cluster.key("Pod", "p")] = Thing(
        body, "p", health=Health(ready=False, reason="ImagePullBackOff", message="no such image")
    )


def test_a_job_that_cannot_begin_is_told_and_gives_way_to_a_corrected_release(cluster: Cluster) -> None:
    before = set(cluster.things)
    cluster.edit(release=NEW)
    cluster.run_pass()
    (stuck,) = set(cluster.things) - before
    blocked_pod(cluster, stuck)
    cluster.run_pass()
    assert cluster.condition("ReleaseCurrent") == ("False", "ImagePullBackOff")
    assert "migrate: ImagePullBackOff: no such image" in cluster.message("Ready")
    assert cluster.condition("AppReady")[0] == "True"
    cluster.edit(release={"version": "2.0.1", "image": "chatbot@sha256:" + "c" * 64})
    cluster.run_pass()
    assert stuck not in cluster.things
    cluster.things.pop(cluster.key("Pod", "p"))
    cluster.settle()
    assert set(images(cluster).values()) == {"c"}


def test_a_job_that_cannot_begin_is_made_again_when_what_it_lacks_is_added(cluster: Cluster) -> None:
    before = set(cluster.things)
    cluster.edit(release=NEW)
    cluster.run_pass()
    (stuck,) = set(cluster.things) - before
    uid = cluster.things[stuck].uid
    blocked_pod(cluster, stuck)
    cluster.run_pass()
    assert cluster.things[stuck].uid == uid, "nothing has changed yet"
    cluster.secrets["registry"] = {}
    cluster.edit(imagePullSecrets=[{"name": "registry"}])
    cluster.run_pass()
    assert stuck not in cluster.things
    cluster.things.pop(cluster.key("Pod", "p"))
    cluster.settle()
    assert cluster.things[stuck].body["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert set(images(cluster).values()) == {"b"}


def test_images_per_component_and_a_change_of_one_of_them_alone(cluster: Cluster) -> None:
    jobs = sum(key.kind == "Job" for key in cluster.things)
    image = "chatbot@sha256:" + "a" * 64
    cluster.edit(release={"version": "1.0.0", "image": image, "images": {"workerWeb": "chatbot@sha256:" + "d" * 64}})
    cluster.settle()
    assert images(cluster) == {"demo-app": "a", "demo-scheduler": "a", "demo-web-one": "d"}
    assert sum(key.kind == "Job" for key in cluster.things) == jobs, "the schema belongs to app's image"


def test_a_new_app_that_does_not_start_keeps_the_rest_on_the_old_release(cluster: Cluster) -> None:
    cluster.broken = {"app": Health(ready=False, reason="CrashLoopBackOff")}
    cluster.edit(release=NEW)
    for _ in range(8):
        cluster.run_pass()
        cluster.play()
    assert images(cluster) == {"demo-app": "b", "demo-scheduler": "a", "demo-web-one": "a"}
    assert cluster.condition("Ready") == ("False", "ComponentsNotReady")
    cluster.broken = {}
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")
