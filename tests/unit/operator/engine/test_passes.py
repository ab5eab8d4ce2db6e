"""One pass: state before effect, one write, decisions on the newest version only, and failures told to the next pass."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chatbot_operator.api.v1alpha1.instance_status import ChatbotInstanceStatus
from chatbot_operator.engine.contest import Contests
from chatbot_operator.engine.effects import Executor
from chatbot_operator.engine.instances import INSTANCE_PASSES, InstanceStore
from chatbot_operator.engine.passes import BLIND_SECONDS, Passes, PassReport, Result
from chatbot_operator.engine.restarts import RestartSlots
from chatbot_operator.engine.snapshot import Observer
from chatbot_operator.engine.store import NamespacedName
from chatbot_operator.errors import Conflict, Forbidden, Invalid, StatusUnreadable, Unavailable
from chatbot_operator.kube.responses import error_of
from chatbot_operator.metrics import Metrics
from chatbot_operator.model.decision import Decision
from chatbot_operator.model.effect import Apply
from chatbot_operator.model.objects import ObjectKey
from chatbot_operator.model.outcome import Outcome
from chatbot_operator.model.snapshot import OperatorFacts, Snapshot
from tests.unit.operator.engine.fakes import (
    NAME,
    NAMESPACE,
    FakeApi,
    FakeChildren,
    FakeClock,
    FakeNamespaces,
    FakeRecorder,
    FakeSecrets,
    live_instance,
)

KEY = NamespacedName(NAMESPACE, NAME)
TARGET = ObjectKey("ChatbotInstance", NAMESPACE, NAME)
Decide = Callable[[Snapshot], Decision]


class NoChildren:
    def children(self, namespace: str, name: str) -> dict[Any, Any]:
        return {}


class World:
    """An instance in a fake API and in the store, and passes with a decision of the test's own."""

    def __init__(self, decide: Decide) -> None:
        self.api, self.store, self.clock, self.metrics = FakeApi(), InstanceStore(), FakeClock(), Metrics()
        self.seen: list[Snapshot] = []
        self.secrets = FakeSecrets()
        self.blind: tuple[str, ...] = ()
        contests = Contests(self.clock)
        observer = Observer(
            NoChildren(),
            self.secrets,
            FakeNamespaces(),
            lambda name, spec: (f"{name}-postgres",),
            lambda name, spec: (f"{name}-postgres",),
            contests,
            RestartSlots(self.store, "1", 1),
            OperatorFacts("1", "p", "r"),
            self.clock,
        )
        executor = Executor(self.api, FakeRecorder(), contests, self.clock, self.metrics, children=FakeChildren(), learn_own=self.store.put)

        def observed(snapshot: Snapshot) -> Decision:
            self.seen.append(snapshot)
            return decide(snapshot)

        self.passes = Passes(
            INSTANCE_PASSES, self.store, observer, observed, executor, self.api, self.clock, self.metrics, lambda _: self.blind
        )
        self.put(live_instance("10"))

    def put(self, live: dict[str, Any]) -> None:
        self.api.put(live)
        self.store.put(live)

    async def run(self) -> PassReport:
        return await self.passes.run(KEY)

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.api.objects[TARGET]["status"]
        return found


def observed(snapshot: Snapshot, **changes: Any) -> ChatbotInstanceStatus:
    return snapshot.status.model_copy(update={"observed_generation": snapshot.identity.generation, **changes})


def apply(name: str = "shop-app") -> Apply:
    return Apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": NAMESPACE}}, "f")


async def test_the_status_is_written_before_any_effect() -> None:
    world = World(lambda snapshot: Decision(observed(snapshot), (apply(),)))
    report = await world.run()
    assert world.api.requests == [f"patch {TARGET}", f"apply Deployment {NAMESPACE}/shop-app"]
    assert report.result is Result.CHANGED


async def test_no_effect_is_tried_when_the_status_could_not_be_written() -> None:
    world = World(lambda snapshot: Decision(observed(snapshot), (apply(),)))
    world.api.errors["patch ChatbotInstance"] = [Unavailable("no answer")]
    with pytest.raises(Unavailable):
        await world.run()
    assert world.api.requests == [f"patch {TARGET}"]


async def test_a_second_pass_over_a_steady_instance_makes_no_request() -> None:
    world = World(lambda snapshot: Decision(observed(snapshot)))
    await world.run()
    world.api.requests.clear()
    for _ in range(10):
        assert await world.run() == PassReport(Result.STEADY)
    assert world.api.requests == []


async def test_a_decision_on_an_old_version_is_made_again_on_the_newest() -> None:
    world = World(lambda snapshot: Decision(observed(snapshot), (apply(f"g{snapshot.identity.generation}"),)))
    world.api.put(live_instance("11", metadata={"generation": 2}))  # the watch has not told yet
    assert (await world.run()).result is Result.CHANGED
    assert [snapshot.identity.generation for snapshot in world.seen] == [1, 2]
    assert world.api.requests[-1] == f"apply Deployment {NAMESPACE}/g2"
    assert world.status["observedGeneration"] == 2


async def test_an_instance_that_changes_all_the_time_is_left_for_later_without_effects() -> None:
    world = World(lambda snapshot: Decision(observed(snapshot), (apply(),)))
    world.api.errors["patch ChatbotInstance"] = [Conflict("changed", status=409) for _ in range(3)]
    assert (await world.run()).result is Result.STALE
    assert not any(request.startswith("apply") for request in world.api.requests)


async def test_an_instance_that_is_gone_ends_the_pass_without_effects() -> None:
    world = World(lambda snapshot: Decision(observed(snapshot), (apply(),)))
    del world.api.objects[TARGET]
    assert (await world.run()).result is Result.GONE
    assert world.store.get(KEY) is None
    assert not any(request.startswith("apply") for request in world.api.requests)


async def test_a_successor_of_the_same_name_gets_a_decision_of_its_own() -> None:
    world = World(lambda snapshot: Decision(observed(snapshot)))
    world.api.put(live_instance("20", metadata={"uid": "uid-2"}))
    await world.run()
    assert [snapshot.identity.uid for snapshot in world.seen] == ["uid-1", "uid-2"]


async def test_what_was_refused_is_told_once_to_the_next_pass_whose_status_remembers_it() -> None:
    world = World(lambda snapshot: Decision(observed(snapshot), (apply(),) if len(world.seen) in (1, 3) else ()))
    world.api.errors["apply Deployment"] = [Forbidden("exceeded quota", quota=True)]
    assert (await world.run()).result is Result.FAILED
    assert (await world.run()).result is Result.STEADY
    assert (await world.run()).result is Result.CHANGED
    await world.run()
    assert [[failure.reason for failure in snapshot.failures] for snapshot in world.seen] == [[], ["QuotaExceeded"], [], []]


async def test_what_was_refused_says_nothing_about_another_spec() -> None:
    world = World(lambda snapshot: Decision(observed(snapshot), (apply(),) if len(world.seen) == 1 else ()))
    world.api.errors["apply Deployment"] = [Invalid("spec.x: bad")]
    assert (await world.run()).result is Result.FAILED
    world.put(live_instance("500", metadata={"generation": 2}))
    await world.run()
    assert [len(snapshot.failures) for snapshot in world.seen] == [0, 0]


async def test_what_was_refused_is_kept_until_a_status_could_be_written() -> None:
    world = World(lambda snapshot: Decision(observed(snapshot), (apply(),) if len(world.seen) == 1 else ()))
    world.api.errors["apply Deployment"] = [Forbidden("exceeded quota", quota=True)]
    assert (await world.run()).result is Result.FAILED
    world.secrets.error = Unavailable("away")
    with pytest.raises(Unavailable):
        await world.run()
    world.secrets.error = None
    await world.run()
    assert [len(snapshot.failures) for snapshot in world.seen] == [0, 1]


async def test_the_earlier_of_what_the_decision_and_a_missing_secret_ask_for_counts() -> None:
    world = World(lambda snapshot: Decision(observed(snapshot), (), Outcome(requeue_after=60)))
    assert (await world.run()).requeue_after == 60
    world.secrets.wait = 5.0
    assert (await world.run()).requeue_after == 5


async def test_a_secret_that_exists_is_looked_at_again_because_no_watch_tells_its_rotation() -> None:
    world = World(lambda snapshot: Decision(observed(snapshot)))
    world.secrets.wait = 500.0
    world.secrets.found = True
    assert (await world.run()).requeue_after == 500


async def test_an_invalid_spec_reaches_the_decision_with_the_field_and_without_its_value() -> None:
    world = World(lambda snapshot: Decision(observed(snapshot)))
    world.put(live_instance("11", spec={"release": {"version": "1", "image": "Hunter2 is no image"}}))
    await world.run()
    assert world.seen[0].spec is None
    assert "release.image" in world.seen[0].spec_error
    assert "Hunter2" not in world.seen[0].spec_error


async def test_a_field_of_a_newer_operator_survives_a_write() -> None:
    world = World(lambda snapshot: Decision(observed(snapshot)))
    world.put(live_instance("11", status={"future": {"x": 1}}))
    await world.run()
    assert world.status["future"] == {"x": 1}


async def test_a_status_that_can_not_be_read_stops_the_pass_before_it_could_be_destroyed() -> None:
    world = World(lambda snapshot: Decision(observed(snapshot)))
    world.put(live_instance("11", status={"conditions": "many"}))
    with pytest.raises(StatusUnreadable, match="conditions"):
        await world.run()
    assert world.api.requests == []


async def test_a_mistake_of_our_own_makes_ready_unknown_once() -> None:
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "AllReady",
        "message": "",
        "observedGeneration": 1,
        "lastTransitionTime": "2025-01-01T00:00:00Z",
    }
    world = World(lambda snapshot: Decision(observed(snapshot)))
    world.put(live_instance("11", status={"observedGeneration": 1, "conditions": [ready]}))
    for _ in range(3):
        await world.passes.mark_broken(KEY, KeyError("secret text"))
    assert world.api.requests == [f"patch {TARGET}"]
    condition = world.status["conditions"][0]
    assert (condition["status"], condition["reason"], condition["lastTransitionTime"]) == (
        "Unknown",
        "InternalError",
        "2026-01-01T00:00:00Z",
    )
    assert "secret text" not in condition["message"]


async def test_effects_see_the_version_that_our_own_status_write_made() -> None:
    """Otherwise the finalizer's `test` on the resourceVersion would fail after every status write."""
    from chatbot_operator.model.effect import SetFinalizer

    world = World(lambda snapshot: Decision(observed(snapshot), (SetFinalizer(present=True),)))
    report = await world.run()
    assert report == replace(report, result=Result.CHANGED)
    assert report.result is Result.CHANGED


async def test_a_404_of_a_proxy_does_not_hide_an_instance() -> None:
    world = World(lambda snapshot: Decision(observed(snapshot), (apply(),)))
    world.api.errors["patch ChatbotInstance"] = [error_of(404, b"default backend - 404", target=str(TARGET))]
    with pytest.raises(Unavailable):
        await world.run()
    assert (await world.run()).result is Result.CHANGED


async def test_after_a_restored_backup_the_pass_goes_on_with_what_the_server_has() -> None:
    world = World(lambda snapshot: Decision(observed(snapshot), (apply(f"g{snapshot.identity.generation}"),)))
    world.put(live_instance("90", metadata={"generation": 9}))
    world.api.put(live_instance("20", metadata={"generation": 2}))
    assert (await world.run()).result is Result.CHANGED
    assert world.api.requests[-1] == f"apply Deployment {NAMESPACE}/g2"


async def test_a_status_that_can_not_be_read_says_so_and_keeps_all_the_rest() -> None:
    world = World(lambda snapshot: Decision(observed(snapshot)))
    common = {"reason": "AllReady", "message": "", "observedGeneration": 1, "lastTransitionTime": "2025-01-01T00:00:00Z"}
    other, stale = {"type": "Future", "form": [1]}, {"type": "Ready", "status": "True", **common}
    world.put(live_instance("11", status={"release": "of another form", "conditions": [stale, other]}))
    for _ in range(2):
        with pytest.raises(StatusUnreadable) as caught:
            await world.run()
        await world.passes.mark_broken(KEY, caught.value)
    assert world.api.requests == [f"patch {TARGET}"]
    ready, *rest = world.status["conditions"]
    assert (ready["status"], ready["reason"]) == ("Unknown", "StatusUnreadable")
    assert rest == [other]
    assert world.status["release"] == "of another form"


async def test_what_was_refused_to_an_instance_is_not_told_to_its_successor() -> None:
    world = World(lambda snapshot: Decision(observed(snapshot), (apply(),) if len(world.seen) == 1 else ()))
    world.api.errors["apply Deployment"] = [Forbidden("exceeded quota", quota=True)]
    assert (await world.run()).result is Result.FAILED
    world.store.remove(KEY, "uid-1")
    world.put(live_instance("200", metadata={"uid": "uid-2"}))
    await world.run()
    assert world.seen[-1].identity.uid == "uid-2"
    assert world.seen[-1].failures == ()


async def test_while_a_watch_fails_ready_is_unknown_and_nothing_is_decided() -> None:
    world = World(lambda snapshot: Decision(observed(snapshot), (apply(),)))
    world.blind = ("Deployment",)
    for _ in range(2):
        assert await world.run() == PassReport(Result.BLIND, BLIND_SECONDS)
    assert world.api.requests == [f"patch {TARGET}"]
    ready = world.status["conditions"][0]
    assert (ready["status"], ready["reason"]) == ("Unknown", "WatchFailing")
    assert "Deployment" in ready["message"]
    world.blind = ()
    assert (await world.run()).result is Result.CHANGED
