"""Pure. What the API server refuses is named, waits with growing pauses, holds up nothing else, and is forgotten with its spec."""

from datetime import timedelta
from itertools import pairwise

import pytest

from chatbot_operator.machines.backoff import parse_time
from chatbot_operator.model.effect import Apply
from tests.support.simcluster import Cluster, minimal


def bring_up() -> Cluster:
    made = Cluster(minimal())
    made.settle()
    return made


@pytest.mark.parametrize(
    ("reason", "stuck", "stalled"),
    [
        ("QuotaExceeded", False, "True"),
        ("FieldConflict", True, "True"),
        ("ImmutableFieldChanged", True, "True"),
        ("InvalidSpec", True, "True"),
        ("ApiUnavailable", False, "False"),
    ],
)
def test_a_refused_object_is_named_and_tried_again_with_growing_pauses(reason: str, stuck: bool, stalled: str) -> None:
    cluster = Cluster(minimal())
    key = cluster.key("Deployment", "demo-app")
    cluster.refuse = {key: (reason, stuck)}
    for _ in range(12):
        cluster.run_pass()
        cluster.play()
    assert cluster.condition("Ready") == ("False", reason if stalled == "True" else "ComponentsNotReady")
    assert cluster.condition("Stalled")[0] == stalled
    assert "Deployment demo-app" in cluster.message("Ready")
    retry = cluster.status.retry
    assert retry is not None
    assert [failure.object for failure in retry.failures] == [str(key)]
    waits = []
    for _ in range(4):
        decision = cluster.run_pass()
        assert not [effect for effect in decision.effects if isinstance(effect, Apply)], "it is not tried before its time"
        waits.append(decision.outcome.requeue_after or 0)
        due = parse_time(decision.status.retry.next_time if decision.status.retry else None)
        assert due is not None
        cluster.now = due
        assert [effect for effect in cluster.run_pass().effects if isinstance(effect, Apply)]
        cluster.run_pass()
    assert min(waits) >= 600 if stuck else all(later > earlier for earlier, later in pairwise(waits))
    cluster.refuse = {}
    cluster.now += timedelta(hours=1)
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")
    assert cluster.status.retry is None


def test_a_refused_object_keeps_nothing_else_from_being_repaired() -> None:
    cluster = bring_up()
    cluster.refuse = {cluster.key("Service", "demo-app"): ("QuotaExceeded", False)}
    cluster.remove(cluster.key("Service", "demo-app"))
    cluster.run_pass()
    cluster.run_pass()
    cluster.remove(cluster.key("Service", "demo-redis"))
    cluster.run_pass()
    assert cluster.key("Service", "demo-redis") in cluster.things


@pytest.mark.parametrize("reason", ["InvalidSpec", "ImmutableFieldChanged"])
def test_a_refusal_that_was_taken_back_says_nothing_about_the_next_change(reason: str) -> None:
    cluster = bring_up()
    key = cluster.key("Deployment", "demo-app")
    cluster.refuse = {key: (reason, True)}
    cluster.edit(app={"replicas": 3})
    cluster.run_pass()
    cluster.run_pass()
    assert cluster.condition("Stalled")[0] == "True"
    cluster.edit(app={"replicas": 2})
    cluster.settle()
    assert cluster.condition("Ready") == ("True", "AllReady")
    cluster.refuse = {}
    cluster.edit(app={"replicas": 4})
    decision = cluster.run_pass()
    assert [effect for effect in decision.effects if isinstance(effect, Apply)], "it is applied at once"
    assert cluster.status.retry is None


def test_a_request_tries_at_once_what_was_refused_just_now() -> None:
    cluster = bring_up()
    key = cluster.key("Service", "demo-app")
    cluster.refuse = {key: ("InvalidSpec", True)}
    cluster.remove(key)
    cluster.run_pass()
    cluster.refuse = {}
    cluster.annotations["chatbotops.io/reconcile-at"] = "1"
    cluster.run_pass()
    assert key in cluster.things


def test_the_back_off_survives_a_restart_of_the_operator() -> None:
    cluster = Cluster(minimal())
    cluster.refuse = {cluster.key("Service", "demo-redis"): ("QuotaExceeded", False)}
    for _ in range(4):
        cluster.run_pass()
    assert cluster.status.retry is not None
    cluster.failures = ()
    decision = cluster.run_pass()
    refused = [
        e
        for e in decision.effects
        if isinstance(e, Apply) and e.manifest["metadata"]["name"] == "demo-redis" and e.manifest["kind"] == "Service"
    ]
    assert not refused
    assert decision.status.retry == cluster.status.retry


def test_a_new_generation_and_a_request_end_the_back_off() -> None:
    cluster = bring_up()
    key = cluster.key("Service", "demo-app")
    cluster.refuse = {key: ("QuotaExceeded", False)}
    cluster.remove(key)
    cluster.run_pass()
    cluster.run_pass()
    assert cluster.status.retry is not None
    cluster.refuse = {}
    cluster.annotations["chatbotops.io/reconcile-at"] = "1"
    cluster.run_pass()
    assert key in cluster.things
