"""Fields that somebody keeps taking back: counted, named, left alone, and taken up again."""

from typing import Any

from chatbot_operator.engine.contest import FORCED, HOLD_SECONDS, WINDOW_SECONDS, Contests, lost_fields
from chatbot_operator.model.objects import ObjectKey
from chatbot_operator.model.snapshot import Contest
from tests.unit.operator.engine.fakes import FakeClock

KEY = ObjectKey("Deployment", "team", "shop-app")


def _force(contests: Contests, times: int, managers: tuple[str, ...] = ("kubectl",)) -> None:
    for _ in range(times):
        contests.forced(KEY, "f1", {"spec.replicas": managers})


def _contests() -> tuple[Contests, FakeClock]:
    clock = FakeClock()
    contests = Contests(clock)
    contests.applied(KEY, "u", "f1")
    return contests, clock


def test_the_first_apply_is_no_repeat_and_new_content_or_a_new_object_neither() -> None:
    contests, _ = _contests()
    assert contests.is_repeat(KEY, "u", "f1")
    assert not contests.is_repeat(KEY, "u", "f2")
    assert not contests.is_repeat(KEY, "other", "f1")


def test_three_times_in_ten_minutes_is_a_contest_that_names_the_others() -> None:
    contests, _ = _contests()
    _force(contests, 2)
    assert contests.contested([KEY]) == {}
    contests.forced(KEY, "f1", {"spec.replicas": ("helm",)})
    assert contests.contested([KEY]) == {KEY: Contest("f1", ("helm", "kubectl"), ("spec.replicas",))}
    assert contests.next_end([KEY]) == HOLD_SECONDS


def test_one_repair_of_each_of_three_fields_is_no_contest() -> None:
    contests, _ = _contests()
    for path in ("spec.replicas", "metadata.labels.team", "spec.template.spec.containers[app].image"):
        contests.forced(KEY, "f1", {path: ("kubectl",)})
    assert contests.contested([KEY]) == {}


def test_slow_drift_is_repaired_for_ever() -> None:
    contests, clock = _contests()
    for _ in range(20):
        contests.forced(KEY, "f1", {"spec.replicas": ("kubectl",)})
        clock.advance(WINDOW_SECONDS / 2 + 1)
    assert contests.contested([KEY]) == {}


def test_a_contest_ends_and_the_next_one_lasts_longer() -> None:
    contests, clock = _contests()
    _force(contests, FORCED)
    clock.advance(HOLD_SECONDS + 1)
    assert contests.contested([KEY]) == {}
    _force(contests, FORCED)
    assert contests.next_end([KEY]) == 2 * HOLD_SECONDS


def test_new_content_starts_anew() -> None:
    contests, _ = _contests()
    _force(contests, FORCED)
    contests.applied(KEY, "u", "f2")
    assert contests.contested([KEY]) == {}


def _live(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"managedFields": list(entries)}}


def test_only_fields_that_we_set_and_lost_are_named() -> None:
    manifest = {"spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "app", "image": "a"}]}}}}
    container = {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"app"}': {"f:image": {}}}}}}}
    sidecar = {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"mesh"}': {".": {}, "f:image": {}}}}}}}
    ours = {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"app"}': {"f:name": {}}}}}}}
    live = _live(
        {"manager": "chatbot-operator", "operation": "Apply", "fieldsV1": ours},
        {"manager": "kubectl-set", "operation": "Update", "fieldsV1": container},
        {"manager": "mesh", "operation": "Update", "fieldsV1": sidecar},
        {"manager": "scaler", "operation": "Update", "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        {"manager": "notes", "operation": "Update", "fieldsV1": {"f:metadata": {"f:annotations": {"f:x": {}}}}},
    )
    assert lost_fields(live, manifest) == {
        "spec.replicas": ("scaler",),
        "spec.template.spec.containers[app].image": ("kubectl-set",),
    }


def test_a_field_that_others_set_to_our_value_is_not_lost() -> None:
    replicas = {"f:spec": {"f:replicas": {}}}
    live = _live(
        {"manager": "chatbot-operator", "operation": "Apply", "fieldsV1": replicas},
        {"manager": "gitops", "operation": "Apply", "fieldsV1": replicas},
    )
    assert lost_fields(live, {"spec": {"replicas": 2}}) == {"": ()}


def test_an_object_that_is_gone_leaves_nothing_behind() -> None:
    contests, _ = _contests()
    _force(contests, FORCED)
    contests.forget(KEY)
    contests.forget(KEY)
    assert contests.contested([KEY]) == {}
    assert contests.next_end([KEY]) is None
    assert not contests.is_repeat(KEY, "u", "f1")
