"""Pure. Data: never an empty database in silence, never a new password beside a volume, re-adoption of what was kept."""

import pytest

from chatbot_operator.api.v1alpha1.instance import ChatbotInstanceSpec
from chatbot_operator.model.effect import Apply
from tests.support.simcluster import Cluster, minimal

CLAIM = "demo-pgdata-g1"


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster(minimal())
    made.settle()
    return made


def kinds_applied(cluster: Cluster) -> list[str]:
    return [effect.manifest["kind"] for effect in cluster.run_pass().effects if isinstance(effect, Apply)]


def test_a_volume_that_is_gone_is_never_replaced_by_an_empty_one(cluster: Cluster) -> None:
    cluster.remove(cluster.key("PersistentVolumeClaim", CLAIM))
    cluster.edit(release={"version": "2.0.0", "image": "chatbot@sha256:" + "b" * 64})
    cluster.settle()
    assert cluster.condition("Ready") == ("False", "DataLossSuspected")
    assert cluster.condition("Stalled") == ("True", "DataLossSuspected")
    assert cluster.condition("DatabaseReady") == ("False", "DataLossSuspected")
    assert CLAIM in cluster.message("Stalled")
    assert cluster.key("PersistentVolumeClaim", CLAIM) not in cluster.things
    assert kinds_applied(cluster) == []


def test_app_is_held_while_data_may_be_lost(cluster: Cluster) -> None:
    cluster.remove(cluster.key("PersistentVolumeClaim", CLAIM))
    cluster.edit(app={"replicas": 5})
    cluster.settle()
    assert cluster.thing("Deployment", "demo-app").body["spec"]["replicas"] == 2


def test_a_claim_of_the_same_name_is_not_the_same_claim(cluster: Cluster) -> None:
    cluster.thing("PersistentVolumeClaim", CLAIM).uid = "another"
    cluster.settle()
    assert cluster.condition("Ready") == ("False", "DataLossSuspected")
    assert "replaced" in cluster.message("Ready")


def test_a_claim_that_is_being_deleted_is_told_while_its_data_still_exists(cluster: Cluster) -> None:
    cluster.thing("PersistentVolumeClaim", CLAIM).deleting = True
    cluster.run_pass()
    assert cluster.condition("Ready") == ("False", "DataLossSuspected")
    assert "back up the data before its pod ends" in cluster.message("Ready")
    assert cluster.condition("DatabaseReady") == ("False", "DataLossSuspected"), "although its server still runs"


def test_a_new_instance_re_adopts_what_was_kept(cluster: Cluster) -> None:
    passwords, identifier = dict(cluster.secrets), cluster.status.database.system_identifier
    cluster.deleting = True
    cluster.settle()
    cluster.recreate("uid-2")
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")
    assert cluster.secrets == passwords
    assert cluster.status.database.system_identifier == identifier
    assert cluster.thing("PersistentVolumeClaim", CLAIM).labels["chatbotops.io/instance-uid"] == "uid-2"
    assert cluster.thing("Secret", "demo-postgres").labels["chatbotops.io/instance-uid"] == "uid-2"


def test_a_re_adopted_claim_is_not_asked_to_shrink() -> None:
    cluster = Cluster(minimal(database={"storage": {"size": "50Gi"}}))
    cluster.settle()
    cluster.deleting = True
    cluster.settle()
    cluster.recreate("uid-2", minimal())
    cluster.settle()
    assert cluster.thing("PersistentVolumeClaim", CLAIM).body["spec"]["resources"]["requests"]["storage"] == "50Gi"
    assert cluster.condition("Ready") == ("True", "AllReady")


@pytest.mark.parametrize(("disk", "told"), [("99", "WrongDatabase"), (None, "DatabaseMissing")])
def test_the_bootstrap_of_a_re_adopted_volume_must_find_its_database(cluster: Cluster, disk: str | None, told: str) -> None:
    cluster.deleting = True
    cluster.settle()
    uid = cluster.thing("PersistentVolumeClaim", CLAIM).uid
    cluster.disks = {uid: disk} if disk else {}
    cluster.recreate("uid-2")
    cluster.settle()
    assert cluster.condition("Stalled") == ("True", "DataLossSuspected")
    assert told in cluster.message("Ready")
    assert cluster.status.database.system_identifier is None
    assert cluster.disks == ({uid: disk} if disk else {})
    assert cluster.key("StatefulSet", "demo-postgres") not in cluster.things


def test_a_bootstrap_that_expects_a_database_says_so_to_the_job(cluster: Cluster) -> None:
    identifier = cluster.status.database.system_identifier
    cluster.deleting = True
    cluster.settle()
    cluster.recreate("uid-2")
    for _ in range(3):
        cluster.run_pass()
    job = next(thing for key, thing in cluster.things.items() if key.kind == "Job" and "bootstrap" in key.name)
    assert job.body["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "EXPECTED_SYSTEM_IDENTIFIER", "value": identifier}]


def test_the_mark_of_a_kept_volume_outlives_its_adoption(cluster: Cluster) -> None:
    identifier = cluster.status.database.system_identifier
    cluster.deleting = True
    cluster.settle()
    cluster.thing("Secret", "demo-postgres").annotations.clear()  # restored by hand: only the claim knows the database
    cluster.disks.clear()
    cluster.recreate("uid-2")
    cluster.settle()
    assert cluster.thing("PersistentVolumeClaim", CLAIM).labels["chatbotops.io/instance-uid"] == "uid-2"
    assert cluster.thing("PersistentVolumeClaim", CLAIM).annotations["chatbotops.io/system-identifier"] == identifier
    assert cluster.condition("Stalled") == ("True", "DataLossSuspected")
    assert cluster.disks == {}, "an empty volume was initialised in place of the lost database"


@pytest.mark.parametrize(("before", "after"), [("fast", None), ("fast", "slow"), (None, "slow")])
def test_a_kept_volume_keeps_its_class_whatever_the_new_instance_asks_for(before: str | None, after: str | None) -> None:
    def spec(storage_class: str | None) -> ChatbotInstanceSpec:
        chosen = {"storageClassName": storage_class}
        cache = {"durability": "Persistent", "storage": chosen}
        return minimal(database={"storage": chosen}, cache=cache, workerWeb={"numbers": [{"name": "one"}], **chosen})

    cluster = Cluster(spec(before))
    cluster.settle()
    claims = {key: thing for key, thing in cluster.things.items() if key.kind == "PersistentVolumeClaim"}
    for claim in claims.values():
        claim.body["spec"].setdefault("storageClassName", "default")
    cluster.deleting = True
    cluster.settle()
    cluster.recreate("uid-2", spec(after))
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")
    assert {thing.body["spec"]["storageClassName"] for thing in claims.values()} == {before or "default"}


def test_a_new_instance_beside_a_kept_secret_without_its_volume_starts_nothing_empty(cluster: Cluster) -> None:
    cluster.deleting = True
    cluster.settle()
    cluster.remove(cluster.key("PersistentVolumeClaim", CLAIM))
    cluster.recreate("uid-2")
    cluster.settle()
    assert cluster.condition("Stalled") == ("True", "DataLossSuspected")
    assert cluster.key("PersistentVolumeClaim", CLAIM) not in cluster.things


@pytest.mark.parametrize("secret", ["demo-postgres", "demo-admin"])
@pytest.mark.parametrize("recreated", [False, True])
def test_a_lost_password_beside_data_is_not_made_anew(cluster: Cluster, secret: str, recreated: bool) -> None:
    kept = dict(cluster.secrets[secret])
    if recreated:
        cluster.deleting = True
        cluster.settle()
        cluster.recreate("uid-2")
    cluster.remove(cluster.key("Secret", secret))
    cluster.settle()
    assert secret not in cluster.secrets
    assert cluster.condition("Ready") == ("False", "DependencyMissing")
    assert secret in cluster.message("Ready")
    cluster.secrets[secret] = kept
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")


@pytest.mark.parametrize("secret", ["demo-jwt", "demo-redis"])
def test_a_lost_secret_that_belongs_to_no_data_is_made_anew_and_its_readers_restart(cluster: Cluster, secret: str) -> None:
    cluster.remove(cluster.key("Secret", secret))
    before = cluster.restarts
    cluster.settle()
    assert secret in cluster.secrets
    assert cluster.restarts > before
    assert cluster.condition("Ready") == ("True", "AllReady")


def test_the_database_starts_only_after_its_volume_is_known() -> None:
    cluster = Cluster(minimal())
    cluster.job_failures = {"postgres-bootstrap": "DirectoryNotEmpty"}
    cluster.settle()
    assert cluster.condition("Stalled") == ("True", "DirectoryNotEmpty")
    assert cluster.key("StatefulSet", "demo-postgres") not in cluster.things
    assert cluster.key("Deployment", "demo-app") not in cluster.things
