"""Pure. What refuses or holds a deletion is told: which object, why, since when, what to do; and it is tried again with pauses."""

from datetime import timedelta

import pytest

from chatbot_operator.constants import ANNOTATION_RECONCILE_AT, FINALIZER
from chatbot_operator.model.effect import Delete, EventType, SetFinalizer
from tests.support.simcluster import Cluster, minimal


@pytest.fixture
def cluster() -> Cluster:
    """Return an instance that is to be deleted with its data."""
    made = Cluster(minimal(deletionPolicy="Delete"))
    made.settle()
    made.deleting = True
    made.generation += 1  # as the API server does
    return made


def passes(cluster: Cluster, number: int) -> None:
    for _ in range(number):
        cluster.run_pass()
        cluster.play()


def test_a_refused_deletion_names_object_cause_and_time_and_needs_a_person(cluster: Cluster) -> None:
    key = cluster.key("StatefulSet", "demo-postgres")
    cluster.refuse = {key: ("Forbidden", False)}
    passes(cluster, 2)
    since = cluster.now
    assert cluster.condition("Ready") == ("False", "Forbidden")
    assert cluster.condition("Stalled") == ("True", "Forbidden")
    assert cluster.condition("Reconciling") == ("False", "Settled")
    assert "StatefulSet demo-postgres can't be deleted or released: refused; refused since 2027-01-01T" in cluster.message("Ready")
    assert "do it by hand" in cluster.message("Ready")
    assert (EventType.WARNING, "Forbidden") in [(event.type, event.reason) for event in cluster.events]
    retry = cluster.status.retry
    assert retry is not None
    assert [failure.object for failure in retry.failures] == [str(key)]
    decision = cluster.run_pass()
    assert Delete(key, cluster.things[key].uid) not in decision.effects, "it waits"
    assert decision.outcome.requeue_after
    first = retry.failures[0].since
    cluster.now = since + timedelta(minutes=20)
    passes(cluster, 2)
    assert cluster.status.retry is not None
    assert cluster.status.retry.attempts == retry.attempts + 1
    assert cluster.status.retry.failures[0].since == first
    cluster.refuse = {}
    cluster.settle()
    assert cluster.gone


def test_a_person_who_allowed_it_need_not_wait(cluster: Cluster) -> None:
    cluster.refuse = {cluster.key("StatefulSet", "demo-postgres"): ("InvalidSpec", True)}
    passes(cluster, 2)
    cluster.refuse = {}
    cluster.annotations[ANNOTATION_RECONCILE_AT] = "now"
    passes(cluster, 1)
    assert cluster.status.last_handled_reconcile_at == "now"
    assert cluster.key("StatefulSet", "demo-postgres") not in cluster.things


def test_a_finalizer_of_somebody_else_is_told_with_the_object_that_it_holds(cluster: Cluster) -> None:
    claim = cluster.thing("PersistentVolumeClaim", "demo-pgdata-g1")
    claim.finalizers = ("backup.example/keep",)
    passes(cluster, 3)
    assert cluster.condition("Ready") == ("False", "Deleting")
    assert cluster.condition("Stalled") == ("False", "NotStalled")
    held = "PersistentVolumeClaim demo-pgdata-g1 is held since 2027-01-01T00:00:00Z by backup.example/keep"
    assert held in cluster.message("Ready")
    claim.finalizers = ()
    cluster.settle()
    assert cluster.gone


def test_an_instance_that_may_not_be_released_says_so(cluster: Cluster) -> None:
    cluster.refuse = {cluster.key("ChatbotInstance", "demo"): ("Forbidden", False)}
    passes(cluster, 6)
    assert cluster.condition("Stalled") == ("True", "Forbidden")
    assert "ChatbotInstance demo can't be deleted or released" in cluster.message("Ready")
    cluster.refuse = {}
    cluster.settle()
    assert cluster.gone


def test_a_finalizer_of_somebody_else_on_the_instance_itself_is_told(cluster: Cluster) -> None:
    cluster.finalizers = (FINALIZER, "team.example/keep")
    passes(cluster, 6)
    assert cluster.finalizers == ("team.example/keep",)
    assert cluster.message("Ready") == "somebody else's finalizer holds it: team.example/keep"


def test_a_living_instance_whose_finalizer_is_refused_says_so() -> None:
    cluster = Cluster(minimal())
    cluster.settle()
    cluster.refuse = {cluster.key("ChatbotInstance", "demo"): ("Forbidden", False)}
    cluster.edit(deletionPolicy="Delete")
    passes(cluster, 2)
    assert cluster.condition("Ready") == ("False", "Forbidden")
    assert SetFinalizer(True) not in cluster.run_pass().effects
    cluster.refuse = {}
    cluster.settle()
    assert cluster.finalizers == (FINALIZER,)


def test_nothing_that_outlives_is_made_before_the_finalizer_that_would_remove_it() -> None:
    cluster = Cluster(minimal(deletionPolicy="Delete"))
    cluster.refuse = {cluster.key("ChatbotInstance", cluster.name): ("Forbidden", False)}
    for _ in range(6):
        cluster.run_pass()
        cluster.play()
    assert not cluster.secrets
    assert not [key for key in cluster.things if key.kind == "PersistentVolumeClaim"]
    cluster.refuse = {}
    cluster.now += timedelta(hours=1)
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")
