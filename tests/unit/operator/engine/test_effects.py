"""The executor: looks before it makes, survives being run twice, and turns refusals into facts for the next pass."""

from base64 import b64decode
from typing import Any

import pytest

from chatbot_operator.constants import FINALIZER, LABEL_INSTANCE, LABEL_INSTANCE_UID
from chatbot_operator.engine.contest import Contests
from chatbot_operator.engine.effects import Executor, finalizer_patch
from chatbot_operator.errors import Conflict, Forbidden, ImmutableFieldChanged, KubeError, LeadershipLost, NotFound, Throttled, Unavailable
from chatbot_operator.metrics import Metrics
from chatbot_operator.model.effect import Apply, CreateSecret, Delete, Emit, EventType, PatchMetadata, SetFinalizer
from chatbot_operator.model.objects import ObjectKey, key_of
from chatbot_operator.model.plan import GeneratedSecret
from chatbot_operator.model.snapshot import Contest, Identity, OperatorFacts, Snapshot
from tests.unit.operator.engine.fakes import NAME, NAMESPACE, START, UID, FakeApi, FakeChildren, FakeClock, FakeRecorder, live_instance


class World:
    def __init__(self) -> None:
        self.api = FakeApi()
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.recorder = FakeRecorder()
        self.contests = Contests(self.clock)
        self.children = FakeChildren()
        self.instances: list[dict[str, Any]] = []
        self.executor = Executor(
            self.api,
            self.recorder,
            self.contests,
            self.clock,
            self.metrics,
            children=self.children,
            learn_own=self.instances.append,
        )

    def count(self, effect: str, result: str) -> float:
        labels = {"effect": effect, "result": result}
        return self.metrics.registry.get_sample_value("chatbot_operator_effects_total", labels) or 0.0


@pytest.fixture
def world() -> World:
    return World()


def snapshot(finalizers: tuple[str, ...] = (), version: str = "1", terminating: bool | None = None) -> Snapshot:
    from chatbot_operator.api.v1alpha1.instance_status import ChatbotInstanceStatus

    identity = Identity(NAMESPACE, NAME, UID, 1, version, finalizers=finalizers)
    facts = OperatorFacts("1", "p", "r")
    return Snapshot(identity, None, "", ChatbotInstanceStatus(), {}, {}, facts, START, namespace_terminating=terminating)


def apply(kind: str = "Deployment", uid: str = "", fingerprint: str = "f") -> Apply:
    manifest = {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "shop-app", "namespace": NAMESPACE}, "spec": {"replicas": 2}}
    return Apply(manifest, fingerprint, uid)


SECRET = CreateSecret(GeneratedSecret("shop-db", "postgres", {"password": "password", "key": "key", "user": "literal:chatbot"}))
SECRET_KEY = ObjectKey("Secret", NAMESPACE, "shop-db")


async def test_the_write_of_a_secret_is_announced_so_that_its_watch_event_causes_no_read(world: World) -> None:
    await world.executor.execute(snapshot(), [SECRET])
    assert world.children.announced == [SECRET_KEY]
    assert [key_of(live) for live in world.children.learned] == [SECRET_KEY]


async def test_what_the_api_answers_is_learned_at_once(world: World) -> None:
    report = await world.executor.execute(snapshot(), [apply()])
    assert report.changed
    assert not report.failures
    assert [key_of(live).name for live in world.children.learned] == ["shop-app"]


async def test_a_refused_effect_does_not_keep_others_from_being_tried(world: World) -> None:
    world.api.errors["apply Deployment"] = [Forbidden("exceeded quota", quota=True, target="x")]
    report = await world.executor.execute(snapshot(), [apply(), apply("StatefulSet")])
    assert [(failure.reason, failure.stuck) for failure in report.failures] == [("QuotaExceeded", False)]
    assert report.failures[0].key == ObjectKey("Deployment", NAMESPACE, "shop-app")
    assert world.count("Apply", "failed") == world.count("Apply", "done") == 1


async def test_an_immutable_field_is_stuck(world: World) -> None:
    world.api.errors["apply Deployment"] = [ImmutableFieldChanged("field is immutable", status=422)]
    report = await world.executor.execute(snapshot(), [apply()])
    assert report.failures[0].stuck


async def test_a_webhook_that_fails_with_500_is_a_failure_of_that_object(world: World) -> None:
    world.api.errors["apply Deployment"] = [Unavailable("failed calling webhook", status=500)]
    report = await world.executor.execute(snapshot(), [apply()])
    assert report.failures[0].reason == "ApiUnavailable"


@pytest.mark.parametrize("error", [Unavailable("no answer"), Throttled("slow down"), LeadershipLost("not the leader")])
async def test_an_api_that_is_away_ends_the_pass_and_blames_no_object(world: World, error: Exception) -> None:
    world.api.errors["apply Deployment"] = [error]
    with pytest.raises(type(error)):
        await world.executor.execute(snapshot(), [apply(), apply("StatefulSet")])
    assert world.api.requests == [f"apply Deployment {NAMESPACE}/shop-app"]


@pytest.mark.parametrize("error", [Conflict("replaced", status=409), NotFound("gone", status=404)])
async def test_a_world_that_moved_on_is_no_failure_but_a_reason_to_look_again(world: World, error: KubeError) -> None:
    world.api.errors["apply Deployment"] = [error]
    report = await world.executor.execute(snapshot(), [apply(uid="u")])
    assert (report.changed, report.stale, report.failures) == (True, True, ())


async def test_the_same_content_again_on_the_same_object_counts_as_forced_and_names_who_took_the_field(world: World) -> None:
    await world.executor.execute(snapshot(), [apply()])
    key = ObjectKey("Deployment", NAMESPACE, "shop-app")
    for _ in range(3):
        world.api.objects[key]["metadata"]["managedFields"] = [
            {"manager": "kubectl-scale", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
        ]
        await world.executor.execute(snapshot(), [apply(uid="uid-of-shop-app")])
    assert world.contests.contested([key]) == {key: Contest(apply().fingerprint, ("kubectl-scale",), ("spec.replicas",))}
    assert world.metrics.registry.get_sample_value("chatbot_operator_forced_applies_total", {"kind": "Deployment"}) == 3


async def test_a_new_spec_forces_nothing(world: World) -> None:
    for number in range(5):
        await world.executor.execute(snapshot(), [apply(uid="uid-of-shop-app", fingerprint=f"f{number}")])
    assert world.contests.contested([ObjectKey("Deployment", NAMESPACE, "shop-app")]) == {}
    assert not any(request.startswith("get") for request in world.api.requests)


async def test_a_generated_secret_has_random_values_and_outlives_its_instance(world: World) -> None:
    await world.executor.execute(snapshot(), [SECRET])
    live = world.api.objects[SECRET_KEY]
    values = {name: b64decode(value).decode() for name, value in live["data"].items()}
    assert len(values["password"]) == 32
    assert len(bytes.fromhex(values["key"])) == 32
    assert values["user"] == "chatbot"
    assert live["metadata"]["labels"][LABEL_INSTANCE_UID] == UID
    assert "ownerReferences" not in live["metadata"]
    assert live["metadata"]["annotations"] == {"argocd.argoproj.io/sync-options": "Prune=false"}, "nor may Argo CD take it away"
    other = World()
    await other.executor.execute(snapshot(), [SECRET])
    assert other.api.objects[SECRET_KEY]["data"]["password"] != live["data"]["password"]


async def test_a_secret_that_exists_keeps_its_values(world: World) -> None:
    await world.executor.execute(snapshot(), [SECRET])
    before = dict(world.api.objects[SECRET_KEY]["data"])
    report = await world.executor.execute(snapshot(), [SECRET])
    assert not report.failures
    assert world.api.objects[SECRET_KEY]["data"] == before


async def test_a_secret_of_somebody_else_is_never_taken(world: World) -> None:
    world.api.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop-db", "namespace": NAMESPACE, "uid": "x"}, "data": {}})
    report = await world.executor.execute(snapshot(), [SECRET])
    assert [(failure.reason, failure.stuck, failure.key) for failure in report.failures] == [("FieldConflict", True, SECRET_KEY)]
    assert LABEL_INSTANCE not in world.api.objects[SECRET_KEY]["metadata"].get("labels", {})


async def test_a_secret_value_is_in_no_failure_and_no_log(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.api.errors["create Secret"] = [Forbidden("nope")]
    report = await world.executor.execute(snapshot(), [SECRET])
    assert "data" not in str(report)
    assert "data" not in capsys.readouterr().out


async def test_a_deletion_under_way_is_not_asked_for_again(world: World) -> None:
    effect = Delete(ObjectKey("Deployment", NAMESPACE, "shop-app"), "u")
    await world.executor.execute(snapshot(), [effect])
    second = await world.executor.execute(snapshot(), [effect])
    assert len(world.api.requests) == 1
    assert not second.changed
    world.clock.advance(31)
    await world.executor.execute(snapshot(), [effect])
    assert len(world.api.requests) == 2


async def test_an_event_alone_changes_nothing_and_keeps_earlier_failures(world: World) -> None:
    report = await world.executor.execute(snapshot(), [Emit(EventType.NORMAL, "Ready", "serving")])
    assert not report.changed
    assert len(world.recorder.emitted) == 1


async def test_in_a_terminating_namespace_no_event_is_tried(world: World) -> None:
    await world.executor.execute(snapshot(terminating=True), [Emit(EventType.WARNING, "Released", "going")])
    assert world.recorder.emitted == []


async def test_a_finalizer_released_in_a_terminating_namespace_is_counted(world: World) -> None:
    world.api.put(live_instance("1", metadata={"finalizers": [FINALIZER]}))
    report = await world.executor.execute(snapshot((FINALIZER,), terminating=True), [SetFinalizer(present=False)])
    assert report.changed
    assert world.metrics.registry.get_sample_value("chatbot_operator_terminating_namespace_releases_total") == 1


async def test_a_finalizer_that_is_as_wanted_costs_no_request(world: World) -> None:
    await world.executor.execute(snapshot((FINALIZER,)), [SetFinalizer(present=True)])
    await world.executor.execute(snapshot(()), [SetFinalizer(present=False)])
    assert world.api.requests == []


async def test_an_instance_that_vanished_needs_no_release(world: World) -> None:
    report = await world.executor.execute(snapshot((FINALIZER,)), [SetFinalizer(present=False)])
    assert not report.failures
    assert not report.stale


def test_the_finalizer_patch_touches_only_ours_on_exactly_the_version_seen() -> None:
    tests = [
        {"op": "test", "path": "/metadata/uid", "value": UID},
        {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
    ]
    assert finalizer_patch(UID, "7", [], present=True) == [*tests, {"op": "add", "path": "/metadata/finalizers", "value": [FINALIZER]}]
    assert finalizer_patch(UID, "7", ["x"], present=True) == [*tests, {"op": "add", "path": "/metadata/finalizers/-", "value": FINALIZER}]
    assert finalizer_patch(UID, "7", ["x", FINALIZER], present=False) == [
        *tests,
        {"op": "test", "path": "/metadata/finalizers/1", "value": FINALIZER},
        {"op": "remove", "path": "/metadata/finalizers/1"},
    ]


async def test_metadata_is_patched_under_the_uid(world: World) -> None:
    world.api.put({"kind": "Secret", "metadata": {"name": "shop-db", "namespace": NAMESPACE, "uid": "x", "resourceVersion": "1"}})
    good = await world.executor.execute(snapshot(), [PatchMetadata(SECRET_KEY, "x", {"a": "b"}, {})])
    assert good.changed
    assert not good.stale
    assert (await world.executor.execute(snapshot(), [PatchMetadata(SECRET_KEY, "y", {"a": "b"}, {})])).stale
