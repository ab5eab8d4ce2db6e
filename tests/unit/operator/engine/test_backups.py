"""Whose turn it is among the backups of an instance: one at a time, in order, and none that waits holds up the others."""

from collections.abc import Mapping
from typing import Any

from chatbot_operator.constants import LABEL_BACKUP, LABEL_COMPONENT
from chatbot_operator.engine.backups import BackupObserver, BackupStore
from chatbot_operator.engine.instances import InstanceStore
from chatbot_operator.engine.store import NamespacedName
from chatbot_operator.model.objects import ChildState, Health, ObjectKey
from chatbot_operator.model.snapshot import OperatorFacts
from tests.unit.operator.engine.fakes import NAME, NAMESPACE, START, FakeClock, FakeSecrets, live_instance

SHOP = NamespacedName(NAMESPACE, NAME)


class World:
    """A store with backups, an instance, and Jobs."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.turns: list[NamespacedName] = []
        self.store = BackupStore(self.turns.append)
        self.instances = InstanceStore()
        self.instances.put(live_instance("1", spec={"backup": {}}))
        self.live: dict[ObjectKey, ChildState] = {}
        self.version = 0
        facts = OperatorFacts("1", "p", "r")
        self.observer = BackupObserver(self.store, self.instances, self, FakeSecrets(), facts, self.clock)

    def children(self, namespace: str, name: str) -> Mapping[ObjectKey, ChildState]:
        return self.live

    def put(self, name: str, *, created: str = "2027-01-01T00:00:00Z", status: dict[str, Any] | None = None, **metadata: Any) -> None:
        self.version += 1
        fixed = {"namespace": NAMESPACE, "name": name, "uid": f"uid-{name}", "resourceVersion": str(self.version), "generation": 1}
        spec = {"instanceRef": {"name": NAME}}
        self.store.put({"metadata": {**fixed, "creationTimestamp": created, **metadata}, "spec": spec, "status": status or {}})

    def work(self, backup: str, *, component: str = "backup", ended: bool = False) -> None:
        """Let a Job of a backup, or of the migration, be at work or ended."""
        key = ObjectKey("Job", NAMESPACE, f"job-of-{backup}")
        labels = {LABEL_COMPONENT: component, **({LABEL_BACKUP: backup} if component == "backup" else {})}
        health = Health(False, "Running", terminal=ended)
        self.live[key] = ChildState(key, f"uid-{key.name}", "1", "f", NAME, "uid-1", f"uid-{backup}", False, health, labels, {})

    async def ahead(self, name: str) -> tuple[str, ...]:
        key = NamespacedName(NAMESPACE, name)
        held = self.store.get(key)
        assert held is not None
        return (await self.observer.observe(key, held, ())).ahead


def failed(next_time: str | None = None) -> dict[str, Any]:
    job = {"name": "backup", "outcome": "Failed", "reason": "DatabaseUnreachable", **({"nextTime": next_time} if next_time else {})}
    return {"jobs": [job]}


async def test_they_go_in_the_order_in_which_they_were_asked_for() -> None:
    world = World()
    world.put("late", created="2027-01-01T00:00:09Z")
    world.put("b")
    world.put("a")
    assert await world.ahead("a") == ()
    assert await world.ahead("b") == ("a",)
    assert await world.ahead("late") == ("a", "b")


async def test_one_at_work_goes_first_whatever_the_order_says() -> None:
    world = World()
    world.put("zeta")
    world.work("zeta")
    world.put("alpha")
    assert await world.ahead("alpha") == ("zeta",)
    assert await world.ahead("zeta") == ("alpha",), "between its two Jobs it waits for its turn again"
    world.work("zeta", ended=True)
    assert await world.ahead("alpha") == ()


async def test_one_that_is_deleted_holds_the_volume_until_its_pod_is_gone() -> None:
    world = World()
    world.put("gone", deletionTimestamp="2027-01-01T00:01:00Z")
    world.work("gone")
    world.put("next")
    assert await world.ahead("next") == ("gone",)
    pod = ObjectKey("Pod", NAMESPACE, "pod")
    job = world.live.popitem()[1]
    world.live[pod] = ChildState(
        pod, "uid-pod", "1", "", NAME, "", job.uid, True, Health(False, "Terminating"), {LABEL_COMPONENT: "backup"}, {}
    )
    assert await world.ahead("next") == ("one that was deleted",)


async def test_one_between_two_attempts_lets_others_pass_and_takes_its_turn_when_due() -> None:
    world = World()
    world.put("first", status=failed("2026-01-01T00:05:00Z"))
    world.put("second", created="2027-01-01T00:00:05Z")
    assert START.year == 2026
    assert await world.ahead("second") == ()
    world.clock.advance(300)
    assert await world.ahead("second") == ("first",)


async def test_one_that_waits_for_a_person_or_can_not_be_read_holds_up_nobody() -> None:
    world = World()
    world.put("hopeless", status=failed())
    world.put("strange", status={"conditions": [{"type": "Succeeded", "reason": "InvalidSpec"}]})
    world.put("good", created="2027-01-01T00:00:05Z")
    assert await world.ahead("good") == ()
    assert world.store.unfinished(SHOP) == ["good"]
    world.put("hopeless", status=failed(), annotations={"chatbotops.io/reconcile-at": "now"})
    assert world.store.unfinished(SHOP) == ["hopeless", "good"], "asked for again, it has a turn again"


async def test_the_others_are_told_when_one_is_through() -> None:
    world = World()
    world.put("a")
    world.put("b")
    assert world.turns == []
    world.put("a", status=failed())
    assert world.turns == [SHOP]
    world.store.remove(NamespacedName(NAMESPACE, "b"), "uid-b")
    assert world.turns == [SHOP, SHOP]


async def test_a_migration_at_work_is_seen() -> None:
    world = World()
    world.put("a")
    world.work("x", component="migrate")
    held = world.store.get(NamespacedName(NAMESPACE, "a"))
    assert held is not None
    assert (await world.observer.observe(NamespacedName(NAMESPACE, "a"), held, ())).migrating
