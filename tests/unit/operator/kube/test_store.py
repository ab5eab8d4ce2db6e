"""The store holds the newest of every object whatever order news arrive in, and joins results to Jobs."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatbot_operator.kube.store import TOMBSTONE_SECONDS, Store
from chatbot_operator.model.objects import ChildState, ObjectKey
from tests.unit.operator.kube.lives import FakeClock, Live, job, job_pod, live, result

JOB = ObjectKey("Job", "shop", "job")
SERVICE = ObjectKey("Service", "shop", "s")


class Bench:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.changes: list[tuple[str, str]] = []
        self.gone: list[ObjectKey] = []
        self.store = Store(self.clock, lambda namespace, name: self.changes.append((namespace, name)), self.gone.append)

    def job(self) -> ChildState:
        return self.store.children("shop", "bot")[JOB]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def service(version: int, target: str = "a", *, instance: str = "bot") -> Live:
    return live("Service", "s", version, instance=instance, spec={"type": "ClusterIP", "clusterIP": target})


@given(st.permutations(range(1, 7)))
def test_the_newest_version_wins_in_any_order(order: list[int]) -> None:
    bench = Bench()
    for version in order:
        bench.store.put(service(version, f"ip{version}"))
    assert bench.store.children("shop", "bot")[SERVICE].details["clusterIP"] == "ip6"


@given(st.permutations(["made", "changed", "deleted"]))
def test_a_deleted_object_stays_deleted_whatever_comes_late(order: list[str]) -> None:
    bench = Bench()
    for what in order:
        if what == "deleted":
            bench.store.remove(service(9))
        else:
            bench.store.put(service(1 if what == "made" else 2))
    assert not bench.store.children("shop", "bot")


def test_each_object_that_is_gone_is_told_once_however_it_was_noticed(bench: Bench) -> None:
    bench.store.put(service(1))
    bench.store.remove(service(2))
    bench.store.remove(service(2))
    assert bench.gone == [SERVICE]
    bench.store.put(service(3))
    bench.store.sweep("Service", "", set(), 9)
    assert bench.gone == [SERVICE, SERVICE]


def test_an_object_made_anew_after_a_deletion_is_held(bench: Bench) -> None:
    bench.store.put(service(1))
    bench.store.remove(service(2))
    bench.store.put(service(3))
    bench.store.remove(service(2))
    assert SERVICE in bench.store.children("shop", "bot")


def test_only_changes_that_matter_are_told(bench: Bench) -> None:
    bench.store.put(service(1))
    bench.store.put(service(2))
    assert bench.changes == [("shop", "bot")]
    bench.store.put(service(3, "b"))
    bench.store.remove(service(4))
    assert bench.changes == [("shop", "bot")] * 3


def test_relabelling_tells_both_instances(bench: Bench) -> None:
    bench.store.put(service(1))
    bench.store.put(service(2, instance="other"))
    assert bench.changes == [("shop", "bot"), ("shop", "bot"), ("shop", "other")]
    assert not bench.store.children("shop", "bot")
    assert SERVICE in bench.store.children("shop", "other")


def test_late_news_of_an_earlier_label_changes_nothing(bench: Bench) -> None:
    bench.store.put(service(5, instance="other"))
    bench.store.put(service(4, instance="bot"))
    assert not bench.store.children("shop", "bot")
    assert SERVICE in bench.store.children("shop", "other")


def test_a_list_removes_what_it_lacks_unless_that_is_newer(bench: Bench) -> None:
    bench.store.put(service(5))
    bench.store.sweep("Service", "", set(), 4)
    assert SERVICE in bench.store.children("shop", "bot"), "we wrote it after the list was made"
    bench.store.sweep("Deployment", "", set(), 9)
    bench.store.sweep("Service", "elsewhere", set(), 9)
    assert SERVICE in bench.store.children("shop", "bot"), "another kind or namespace"
    bench.store.sweep("Service", "shop", set(), 5)
    assert not bench.store.children("shop", "bot")


def test_a_list_is_believed_when_history_went_back(bench: Bench) -> None:
    bench.store.put(service(50, "new"))
    bench.store.put(service(20, "old"), asof=30)
    assert bench.store.children("shop", "bot")[SERVICE].details["clusterIP"] == "new", "newer than the list"
    bench.store.put(service(20, "old"), asof=50)
    assert bench.store.children("shop", "bot")[SERVICE].details["clusterIP"] == "old"


def test_after_a_restored_store_an_object_that_was_deleted_before_is_held_and_followed(bench: Bench) -> None:
    bench.store.put(service(100, "new"))
    bench.store.remove(service(110))
    bench.store.put(service(90, "restored"), asof=math.inf)
    bench.store.sweep("Service", "", {SERVICE}, math.inf)
    bench.store.put(service(95, "changed"))
    assert bench.store.children("shop", "bot")[SERVICE].details["clusterIP"] == "changed"


def test_after_a_restored_store_an_object_that_is_not_in_it_can_be_made_again(bench: Bench) -> None:
    bench.store.put(service(100))
    bench.store.remove(service(110))
    bench.store.sweep("Service", "", set(), math.inf)
    bench.store.put(service(95, "made"))
    assert SERVICE in bench.store.children("shop", "bot")


def test_news_that_come_minutes_after_a_deletion_are_no_late_news(bench: Bench) -> None:
    bench.store.put(service(100))
    bench.store.remove(service(110))
    bench.clock.seconds += TOMBSTONE_SECONDS
    bench.store.put(service(95))
    assert SERVICE in bench.store.children("shop", "bot")


def test_children_do_not_change_under_a_pass(bench: Bench) -> None:
    bench.store.put(service(1))
    seen = bench.store.children("shop", "bot")
    bench.store.remove(service(2))
    assert SERVICE in seen


@given(st.permutations(["job ends", "pod starts", "pod ends"]))
def test_a_result_reaches_its_job_in_any_order_and_is_never_missing_in_between(order: list[str]) -> None:
    bench = Bench()
    news = {"job ends": job(10, ended="Complete"), "pod starts": job_pod(5, None), "pod ends": job_pod(8, result())}
    bench.store.put(job(1))
    for what in order:
        bench.store.put(news[what])
        assert bench.job().health.reason in ("Running", "ResultPending", "Migrated")
    health = bench.job().health
    assert (health.ready, health.reason, health.message, health.terminal) == (True, "Migrated", "0001 -> 0002", True)
    assert health.result is not None
    assert health.result.data["job"] == "migrate"


def test_a_failed_result_is_the_health_of_the_job(bench: Bench) -> None:
    bench.store.put(job_pod(8, result("Failed", "HalfMigrated")))
    bench.store.put(job(10, ended="Failed"))
    assert (bench.job().health.ready, bench.job().health.reason) == (False, "HalfMigrated")


def test_a_result_outlives_its_pod(bench: Bench) -> None:
    bench.store.put(job(1, ended="Complete"))
    bench.store.put(job_pod(8, result()))
    bench.store.remove(job_pod(20, result()))
    bench.store.put(job(30, ended="Complete"))
    assert bench.job().health.reason == "Migrated"
    bench.store.put(job(31, ended="Complete", uid="uid-job-2"))
    assert bench.job().health.reason == "ResultPending", "another Job of the same name has a result of its own"


def test_a_result_is_missing_only_once_the_pods_are_known_to_be_current(bench: Bench) -> None:
    bench.store.put(job(1, ended="Failed"))
    assert (bench.job().health.ready, bench.job().details["result"]) == (None, "pending")
    bench.store.pods_current("", bench.clock.seconds - 1)
    bench.store.pods_current("elsewhere", bench.clock.seconds + 60)
    assert bench.job().details["result"] == "pending"
    bench.changes.clear()
    bench.store.pods_current("", bench.clock.seconds)
    health = bench.job().health
    assert (health.ready, health.reason, health.terminal) == (False, "ResultUnreadable", True)
    assert "BackoffLimitExceeded" in health.message
    assert bench.changes == [("shop", "bot")]
    bench.store.put(job(2, ended="Failed"))
    assert bench.job().details["result"] == "missing"
    bench.store.put(job_pod(3, result("Failed", "LockTimeout")))
    assert bench.job().health.reason == "LockTimeout", "a result that turns up after all is taken"


@pytest.mark.parametrize("message", ["", "{}", "not json", '{"version":2,"job":"x","outcome":"Succeeded","reason":"y"}', "[1]"])
def test_a_message_that_is_not_by_contract_is_unreadable(bench: Bench, message: str) -> None:
    bench.store.put(job_pod(8, message))
    bench.store.put(job(10, ended="Complete"))
    health = bench.job().health
    assert (health.ready, health.reason, health.terminal, health.result) == (False, "ResultUnreadable", True, None)


@pytest.mark.parametrize("reason", ["no revision", "Locked.", "1st", "Migrated\n", "Échec", "A" * 129])
def test_a_reason_that_no_condition_takes_is_unreadable(bench: Bench, reason: str) -> None:
    bench.store.put(job_pod(8, result("Failed", reason)))
    bench.store.put(job(10, ended="Failed"))
    assert bench.job().health.reason == "ResultUnreadable"


def test_the_last_of_several_pods_counts(bench: Bench) -> None:
    bench.store.put(job_pod(5, result("Failed", "DatabaseUnreachable"), name="job-a", finished="2026-01-01T00:00:01Z"))
    bench.store.put(job_pod(6, result(), name="job-b", finished="2026-01-01T00:00:09Z"))
    bench.store.put(job_pod(7, result("Failed", "Other"), name="job-c", job_uid="another", finished="2026-01-01T00:00:19Z"))
    bench.store.put(job(10, ended="Complete"))
    assert bench.job().health.reason == "Migrated"


news = st.lists(st.tuples(st.sampled_from(["put", "remove", "list"]), st.integers(1, 12), st.sampled_from(["bot", "other"])), max_size=12)


@given(news)
def test_an_object_never_belongs_to_two_instances(happenings: list[tuple[str, int, str]]) -> None:
    bench = Bench()
    for what, version, instance in happenings:
        if what == "put":
            bench.store.put(service(version, instance=instance))
        elif what == "remove":
            bench.store.remove(service(version, instance=instance))
        else:
            bench.store.sweep("Service", "", set(), version)
        holders: list[Any] = [name for name in ("bot", "other") if SERVICE in bench.store.children("shop", name)]
        assert len(holders) <= 1
        assert bench.store.size() == len(holders)
        assert bench.store.holds(SERVICE) is bool(holders)
