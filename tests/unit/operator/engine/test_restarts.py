"""Slots for restarts that only a newer operator causes."""

from typing import Any

import pytest

from chatbot_operator.constants import ANNOTATION_APPLY_UPDATE
from chatbot_operator.engine.instances import InstanceStore
from chatbot_operator.engine.restarts import RestartSlots
from chatbot_operator.engine.store import NamespacedName
from tests.unit.operator.engine.fakes import live_instance

VERSION = "2.0"
A, B, C = (NamespacedName("team", name) for name in "abc")
READY = {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}]}


class World:
    def __init__(self, limit: int = 1) -> None:
        self.store = InstanceStore()
        self.slots = RestartSlots(self.store, VERSION, limit)
        self._version = 0

    def put(self, key: NamespacedName, *, asks: bool = True, applied: str = "1.0", ready: bool = True, **spec: Any) -> None:
        self._version += 1
        metadata: dict[str, Any] = {"name": key.name, "uid": f"uid-{key.name}"}
        if asks:
            metadata["annotations"] = {ANNOTATION_APPLY_UPDATE: VERSION}
        status = {**(READY if ready else {}), "operatorVersion": applied}
        self.store.put(live_instance(str(self._version), metadata=metadata, status=status, spec=spec))


def test_an_instance_that_does_not_ask_takes_no_slot() -> None:
    world = World()
    world.put(A, asks=False)
    world.put(B)
    assert world.slots.left(A) == 0
    assert world.slots.left(B) == 1


def test_the_second_waits_until_the_first_is_ready_again_and_is_woken_then() -> None:
    world = World()
    for key in (A, B, C):
        world.put(key)
    assert [world.slots.left(key) for key in (A, B, C)] == [1, 0, 0]
    assert world.slots.next_waiting() is None
    assert [world.slots.others(key) for key in (A, B)] == [(), (str(A),)], "the one that waits is told for whom"
    world.put(A, applied=VERSION, ready=False)
    assert world.slots.left(B) == 0
    world.put(A, applied=VERSION, ready=True)
    assert world.slots.next_waiting() == B
    assert world.slots.left(B) == 1
    assert world.slots.left(C) == 0


def test_asking_twice_keeps_the_slot() -> None:
    world = World()
    world.put(A)
    assert world.slots.left(A) == 1
    assert world.slots.left(A) == 1


def test_a_new_leader_counts_restarts_that_the_old_one_began() -> None:
    world = World()
    world.put(A, applied=VERSION, ready=False)
    world.put(B)
    assert world.slots.left(B) == 0


def test_a_deleted_holder_frees_its_slot() -> None:
    world = World()
    world.put(A)
    world.put(B)
    assert world.slots.left(A) == 1
    assert world.slots.left(B) == 0
    world.store.remove(A, "uid-a")
    assert world.slots.left(B) == 1


def test_the_limit_is_a_setting() -> None:
    world = World(limit=2)
    for key in (A, B, C):
        world.put(key)
    assert [world.slots.left(key) for key in (A, B, C)] == [2, 1, 0]


@pytest.mark.parametrize("lifecycle", ["Paused", "Hibernated"])
def test_an_updated_instance_that_was_stopped_later_holds_no_slot(lifecycle: str) -> None:
    world = World()
    world.put(A, applied=VERSION, ready=False, lifecycle=lifecycle)
    world.put(B)
    assert world.slots.left(B) == 1


@pytest.mark.parametrize(("lifecycle", "left"), [("Paused", 0), ("Hibernated", 1)])
def test_an_instance_that_restarts_nothing_takes_no_slot_and_gives_back_its_own(lifecycle: str, left: int) -> None:
    world = World()
    world.put(A)
    world.put(B)
    assert [world.slots.left(A), world.slots.left(B)] == [1, 0]
    world.put(A, lifecycle=lifecycle)
    assert world.slots.next_waiting() == B
    assert [world.slots.left(A), world.slots.left(B)] == [left, 1]
