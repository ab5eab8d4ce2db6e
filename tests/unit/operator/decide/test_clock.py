"""Pure. The wall clock of the operator's node jumps by hours: nothing is retried in a hot loop, and no retry is missed for ever."""

from datetime import timedelta

import pytest

from chatbot_operator.machines.backoff import STUCK_SECONDS, parse_time
from chatbot_operator.model.objects import Health
from tests.support.simcluster import Cluster, minimal

LONGEST = STUCK_SECONDS * 1.25 + 2
"""Seconds after which every delay has passed, with the second that a stored time is rounded up."""
JUMPS = (timedelta(hours=6), timedelta(hours=-6))


def jump(cluster: Cluster, by: timedelta, *, at: str) -> None:
    """Make two passes with one jump: `before` the failure is recorded the clock goes wrong, `after` it is put right."""
    cluster.now += -by if at == "before" else timedelta()
    cluster.run_pass()
    cluster.play()
    cluster.run_pass()
    cluster.now += by


def run_for(cluster: Cluster, seconds: float) -> int:
    """Make passes as the queue would: after a change at once, else when asked for, at least every ten minutes. Return how many."""
    end, passes = cluster.now + timedelta(seconds=seconds), 0
    while cluster.now < end:
        before = cluster.status
        decision = cluster.run_pass()
        cluster.play()
        passes += 1
        moved = bool(decision.effects) or cluster.status != before
        wait = 1.0 if moved else decision.outcome.requeue_after or 600.0
        cluster.now += timedelta(seconds=min(600.0, wait))
    return passes


def assert_no_time_ahead(cluster: Cluster) -> None:
    """Check that no condition claims to have changed in the future, but for a minute that clocks may be apart."""
    times = {each.type: parse_time(each.last_transition_time) for each in cluster.status.conditions}
    assert times
    assert {kind: time for kind, time in times.items() if time is None or time > cluster.now + timedelta(minutes=1)} == {}


@pytest.mark.parametrize("stuck", [False, True], ids=["passing", "stuck"])
@pytest.mark.parametrize("at", ["before", "after"])
@pytest.mark.parametrize("by", JUMPS, ids=["ahead", "back"])
def test_a_refused_object_is_tried_again_soon_and_not_too_often(by: timedelta, at: str, *, stuck: bool) -> None:
    cluster = Cluster(minimal())
    cluster.settle()
    service = cluster.key("Service", "demo-app")
    cluster.remove(service)
    cluster.refuse[service] = ("QuotaExceeded", stuck)
    jump(cluster, by, at=at)
    attempts = cluster.status.retry.attempts if cluster.status.retry else 0
    assert run_for(cluster, LONGEST) < 60
    assert cluster.status.retry is not None
    assert attempts < cluster.status.retry.attempts < attempts + 15
    del cluster.refuse[service]
    run_for(cluster, LONGEST)
    assert service in cluster.things
    assert cluster.condition("Ready")[0] == "True"
    assert_no_time_ahead(cluster)


@pytest.mark.parametrize("at", ["before", "after"])
@pytest.mark.parametrize("by", JUMPS, ids=["ahead", "back"])
def test_a_failed_job_is_tried_again_soon_and_not_too_often(by: timedelta, at: str) -> None:
    cluster = Cluster(minimal())
    cluster.settle()
    cluster.job_failures = {"migrate": "DatabaseUnreachable"}
    cluster.edit(release={"version": "2.0.0", "image": cluster.spec.release.image})
    jump(cluster, by, at=at)
    assert run_for(cluster, LONGEST) < 60
    attempts = max(job.attempt for job in cluster.status.jobs)
    assert 1 < attempts < 15
    cluster.job_failures = {}
    run_for(cluster, LONGEST)
    assert cluster.condition("Ready") == ("True", "AllReady")
    assert_no_time_ahead(cluster)


@pytest.mark.parametrize("by", JUMPS, ids=["ahead", "back"])
def test_a_time_of_change_in_the_future_is_put_right_once_and_one_in_the_past_is_kept(by: timedelta) -> None:
    cluster = Cluster(minimal())
    cluster.now -= by
    cluster.settle()
    cluster.now += by
    cluster.run_pass()
    assert_no_time_ahead(cluster)
    settled = cluster.status
    cluster.now += timedelta(seconds=30)
    assert cluster.run_pass().effects == ()
    assert cluster.status == settled, "a steady instance is not written again"


def test_clocks_of_two_operators_that_are_seconds_apart_cause_no_write() -> None:
    cluster = Cluster(minimal())
    cluster.settle()
    before = cluster.status
    for seconds in (-20, 5, -15):
        cluster.now += timedelta(seconds=seconds)
        cluster.run_pass()
        assert cluster.status == before


def test_a_flip_under_a_jumping_clock_is_told_with_the_time_of_the_pass_that_saw_it() -> None:
    cluster = Cluster(minimal())
    cluster.settle()
    cluster.broken = {"app": Health(ready=False, reason="CrashLoopBackOff", message="exit 1")}
    for by in (*JUMPS, *JUMPS[::-1]):
        cluster.now += by
        cluster.play()
        cluster.run_pass()
        assert_no_time_ahead(cluster)
    cluster.broken = {}
    cluster.settle()
    assert cluster.condition("Ready")[0] == "True"
    assert_no_time_ahead(cluster)
